"""`reset_classifier` where the backbone takes its heads out, or drops one of them."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.composition.helpers import build
from tests.composition.models import images
from zoo.errors import UnsupportedSurgery

SMALL_REPVIT = {"embed_dim": (8, 12), "depth": (1, 1)}
SMALL_LEVIT = {"embed_dim": (16, 16), "num_heads": (1, 1), "key_dim": 8, "depth": (1, 1), "img_size": 32}
# The middle one drops its second head unless told not to; the others take a layer out of its parent, or leave None.
HEADS_THAT_GO = [
    ("levit_128s", SMALL_LEVIT, ["head.linear", "head_dist.linear"], 2),
    ("repvit_m1", SMALL_REPVIT, ["head.head.l", "head.head_dist.l"], 1),
    ("volo_d1_224", {"device": "meta"}, ["head", "aux_head"], 2),
]


@pytest.mark.parametrize(("base", "options", "paths", "left"), HEADS_THAT_GO, ids=[row[0] for row in HEADS_THAT_GO])
@pytest.mark.parametrize("head", ["kan", "tversky"])
def test_heads_of_a_backbone_that_takes_them_out(base, options, paths, left, head):
    model = build(base, head=head, num_classes=7, **options)
    new = type(model.get_submodule(paths[0]))
    assert [c.path for c in model.zoo_composition.changes] == paths
    for classes in (3, 0, 4):
        model.reset_classifier(classes)
        assert [c.path for c in model.zoo_composition.changes] == (paths[:left] if classes else [])
        again = zoo.compose(model.zoo_spec, **({"device": "meta"} if "device" in options else {}))
        assert [c.path for c in again.zoo_composition.changes] == [c.path for c in model.zoo_composition.changes]
        again.load_state_dict(model.state_dict())
        x = images(model).to(options.get("device", "cpu"))
        with torch.no_grad():
            wanted = model.eval()(x)
            assert wanted.shape == (2, classes or model.num_features)
            assert wanted.is_meta or torch.equal(again.eval()(x), wanted)
    assert all(type(model.get_submodule(path)) is new for path in paths[:left])
    waiting = build(base, head=head, num_classes=0, **options)
    waiting.reset_classifier(4)
    assert [c.path for c in waiting.zoo_composition.changes] == paths[:left]


def test_a_head_that_the_backbone_drops_is_not_replaced_in_silence():
    model = build("repvit_m1", head={"type": "kan", "where": [1]}, num_classes=7, **SMALL_REPVIT)
    with pytest.raises(UnsupportedSurgery, match=r"beyond the places for head of repvit_m1: there are 1"):
        model.reset_classifier(3)
    model.reset_classifier(3, distillation=True)
    assert [c.path for c in model.zoo_composition.changes] == ["head.head_dist.l"]
