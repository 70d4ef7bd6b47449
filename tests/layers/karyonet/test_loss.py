"""The loss of KaryoNet's interaction, by its words."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from zoo.layers import CaseInteraction, karyonet_loss
from zoo.layers.karyonet import chromosome_groups, pair_loss


def test_groups():
    names = [*map(str, range(1, 23)), "X", "Y"]
    groups = chromosome_groups(torch.arange(24))
    first = {name for name, group in zip(names, groups.tolist(), strict=True) if group == 0}
    assert first == {*map(str, range(1, 13)), "X"}


def _case(seed=0):
    torch.manual_seed(seed)
    module = CaseInteraction(16, num_heads=2, ff_dim=8, num_layers=1, num_classes=(24, 2), dtype=torch.float64).eval()
    types, polarity = torch.randint(24, (2, 6)), torch.randint(2, (2, 6))
    return module, torch.randn(2, 6, 16, dtype=torch.float64), types, polarity


def test_is_the_sum_of_its_parts():
    module, features, types, polarity = _case()
    out = module(features)
    same = (chromosome_groups(types)[..., None] == chromosome_groups(types)[:, None]).double()
    wanted = (
        functional.cross_entropy(out.type.flatten(0, 1), types.flatten())
        + 0.5 * functional.binary_cross_entropy(out.pair[..., 0], same)
        + functional.cross_entropy(out.polarity.flatten(0, 1), polarity.flatten())
    )
    torch.testing.assert_close(karyonet_loss(out, types, polarity), wanted, rtol=0, atol=1e-12)
    alone = karyonet_loss(out, types, pair_weight=0)
    torch.testing.assert_close(alone, functional.cross_entropy(out.type.flatten(0, 1), types.flatten()))


def test_padding_is_left_out():
    module, features, types, polarity = _case(1)
    mask = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    found = karyonet_loss(module(features, mask), types, polarity, mask)
    other = karyonet_loss(module(features, mask), types.where(mask, 0), 1 - polarity.where(mask, 1), mask)
    assert found != other
    again = karyonet_loss(module(features, mask), types.where(mask, 0), polarity.where(mask, 1), mask)
    torch.testing.assert_close(found, again, rtol=0, atol=0)
    out, groups = module(features, mask), chromosome_groups(types)
    parts = [pair_loss(out.pair_logits[n, :size, :size], groups[n, :size]) * size**2 for n, size in enumerate((6, 4))]
    torch.testing.assert_close(pair_loss(out.pair_logits, groups, mask), sum(parts) / (36 + 16))


def test_unknown_polarities_say_nothing():
    module, features, types, polarity = _case(3)
    out = module(features)
    unknown = torch.zeros(2, 6, dtype=torch.bool)
    unknown[0, 2:] = unknown[1, 4] = True
    alone = karyonet_loss(out, types)
    wanted = functional.cross_entropy(out.polarity[~unknown], polarity[~unknown])
    found = karyonet_loss(out, types, polarity.masked_fill(unknown, -1))
    torch.testing.assert_close(found - alone, wanted, rtol=0, atol=1e-12)
    torch.testing.assert_close(karyonet_loss(out, types, torch.full((2, 6), -1)), alone, rtol=0, atol=0)


def test_refuses_labels():
    """Labels of what is masked may be anything."""
    module, features, types, polarity = _case(4)
    mask = torch.ones(2, 6, dtype=torch.bool)
    mask[1, 3] = False
    out = module(features, mask)
    far = torch.where(mask, types, 99)
    assert karyonet_loss(out, far, torch.where(mask, polarity, 7), mask).isfinite()
    with pytest.raises(ValueError, match=r"types must be 0 to 23, got 99 at \[1, 3\]"):
        karyonet_loss(out, far)
    with pytest.raises(ValueError, match=r"types must be 0 to 23, got -1 at \[0, 0\]"):
        karyonet_loss(out, types.index_fill(1, torch.tensor(0), -1))
    with pytest.raises(ValueError, match=r"polarity must be -1 to 1 \(-1: not known\), got 2 at \[0, 5\]"):
        karyonet_loss(out, types, polarity.index_fill(1, torch.tensor(5), 2))
    with pytest.raises(ValueError, match=r"types must be \[2, 6\], a label per chromosome, got \[6\]"):
        karyonet_loss(out, types[0])
    assert karyonet_loss(out, types.int()) == karyonet_loss(out, types)


def test_needs_classifiers():
    torch.manual_seed(0)
    out = CaseInteraction(16, num_heads=2, ff_dim=8)(torch.randn(3, 16))
    types = torch.zeros(3, dtype=torch.long)
    with pytest.raises(ValueError, match="no logits of type: make CaseInteraction with num_classes"):
        karyonet_loss(out, types)
    out = CaseInteraction(16, num_heads=2, ff_dim=8, num_classes=24)(torch.randn(3, 16))
    with pytest.raises(ValueError, match="no logits of polarity"):
        karyonet_loss(out, types, types)


def test_learns():
    """A step down the gradient of all parts lowers all of them."""
    module, features, types, polarity = _case(2)
    module.train()
    optimizer = torch.optim.Adam(module.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        loss = karyonet_loss(module(features), types, polarity)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
