"""The losses of the stages: by hand, against RA-CNN's ranking, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.layers.varifocal.goldens import golden
from zoo.models.varifocal.output import VarifocalOutput
from zoo.training.varifocal.loss import VarifocalLoss, ranking_loss


def output(**options: Any) -> VarifocalOutput:
    draw = torch.Generator().manual_seed(0)
    logits = {
        name: torch.randn(5, 2 if name.endswith("polarity") else 24, generator=draw)
        for name in ("type", "polarity", "g_type", "g_polarity", "l_type", "l_polarity")
    }
    box = torch.tensor([[0.1, 0.2, 0.5, 0.6]] * 5)
    return VarifocalOutput(**{**logits, "box": box, **options})


TYPES, POLARITIES = torch.tensor([0, 3, 23, 7, 7]), torch.tensor([0, 1, 1, 0, 1])


def test_each_stage_learns_from_its_own_scale_with_equal_weights():
    out = output()
    both = {}
    for stage, prefix in (("global", "g_"), ("local", "l_"), ("fusion", "")):
        types, polarities = getattr(out, f"{prefix}type"), getattr(out, f"{prefix}polarity")
        both[stage] = F.cross_entropy(types, TYPES) + F.cross_entropy(polarities, POLARITIES)
        assert torch.allclose(VarifocalLoss(stage)(out, TYPES, POLARITIES), both[stage])
    assert torch.allclose(VarifocalLoss("joint")(out, TYPES, POLARITIES), sum(both.values()))  # type: ignore[arg-type]


def test_localisation_is_smooth_l1_on_centre_and_side():
    rough = torch.tensor([[0.5, 0.4, 0.5]] * 5)
    # The box has its centre at (0.3, 0.4) and a side of 0.4.
    wanted = (0.5 * 0.2**2 + 0 + 0.5 * 0.1**2) / 3
    assert float(VarifocalLoss("localize")(output(), TYPES, None, rough)) == pytest.approx(wanted, rel=1e-5)


def test_unknown_polarities_say_nothing():
    out = output()
    known = POLARITIES.clone()
    known[2:] = -1
    wanted = F.cross_entropy(out.g_type, TYPES) + F.cross_entropy(out.g_polarity[:2], POLARITIES[:2])  # type: ignore
    loss = VarifocalLoss("global")
    assert torch.allclose(loss(out, TYPES, known), wanted)
    alone = F.cross_entropy(out.g_type, TYPES)  # type: ignore[arg-type]
    for given in (torch.full((5,), -1), None):
        assert torch.allclose(loss(out, TYPES, given), alone)
    assert torch.allclose(loss(output(g_polarity=None), TYPES, POLARITIES), alone)


def test_ranking_is_racnns():
    kwargs, tensors = golden("racnn_crop")
    scales, target = [tensors[f"in.logits{k}"] for k in range(3)], tensors["in.target"]
    found = ranking_loss(scales, target, margin=kwargs["margin"], reduction="sum")
    assert float(found) == pytest.approx(float(tensors["out.rank_loss"]), abs=1e-4)
    assert float(ranking_loss(scales, target)) == pytest.approx(float(found) / 4)


def test_ranking_is_off_by_default_and_only_where_the_local_scale_learns():
    out = output()
    plain, ranked = VarifocalLoss("local"), VarifocalLoss("local", ranking=2.0)
    more = 2 * ranking_loss([out.g_type, out.l_type], TYPES)  # type: ignore[list-item]
    assert torch.allclose(ranked(out, TYPES, POLARITIES), plain(out, TYPES, POLARITIES) + more)
    with pytest.raises(ValueError, match="compares the local scale with the global one, not in stage 'fusion'"):
        VarifocalLoss("fusion", ranking=1.0)


def test_what_cannot_be():
    with pytest.raises(ValueError, match=r"stage must be one of global, .*, joint, got 'globla'; did you mean"):
        VarifocalLoss("globla")
    with pytest.raises(ValueError, match="learns from 'l_type', and the output has none: run the net further"):
        VarifocalLoss("local")(output(l_type=None), TYPES)
    with pytest.raises(ValueError, match="learns from rough targets of the box: give rough="):
        VarifocalLoss("localize")(output(), TYPES)
    with pytest.raises(ValueError, match="two scales or more, got 1"):
        ranking_loss([output().type], TYPES)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="reduction must be 'mean' or 'sum', got 'none'"):
        ranking_loss([output().type] * 2, TYPES, reduction="none")  # type: ignore[list-item]
