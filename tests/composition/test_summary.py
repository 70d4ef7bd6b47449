"""`zoo.summary`: the numbers, and what is pretrained and what new."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from tests.composition.helpers import Doubled, build

VIT = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
TOKENS = 17


def test_parameters_and_macs_of_a_vit_by_hand():
    model = build("vit_tiny_patch16_224", mlp={"type": "mlp", "hidden_ratio": 1, "where": "last:2"}, **VIT)
    summary = zoo.summary(model)
    dim, hidden = 48, 192
    patch = 3 * 16 * 16 * dim
    attention = 4 * dim * dim
    base = patch + dim + dim + TOKENS * dim + 3 * (attention + 4 * dim + 2 * dim * hidden + hidden + dim + 4 * dim)
    base += 2 * dim + dim * 5 + 5
    less = 2 * (2 * dim * hidden + hidden - 2 * dim * dim - dim)
    assert (summary.base_params, summary.params) == (base, base - less)
    scores = 2 * TOKENS * TOKENS * dim
    macs = 16 * patch + 3 * (TOKENS * (attention + 2 * dim * hidden) + scores) + dim * 5
    assert (summary.base_macs, summary.macs) == (macs, macs - 2 * TOKENS * (2 * dim * hidden - 2 * dim * dim))
    assert summary.input_size == (3, 64, 64)
    assert summary.trainable == summary.params
    changes = summary.changes
    assert [(c.path, c.old, c.new) for c in changes] == [(f"blocks.{i}.mlp", "Mlp", "Mlp") for i in (1, 2)]
    assert {(c.old_params, c.new_params) for c in changes} == {
        (2 * dim * hidden + hidden + dim, 2 * dim * dim + 2 * dim)
    }


def test_a_linear_head_costs_what_it_has():
    with_head, without = (zoo.summary(build("test_resnet", head="linear", num_classes=n)) for n in (7, 0))
    assert (with_head.params - without.params, with_head.macs - without.macs) == (96 * 7 + 7, 96 * 7)
    assert (with_head.base_params, with_head.base_macs) == (with_head.params, with_head.macs)


@pytest.mark.parametrize(("name", "bases"), [("kan_switch", 8), ("kan_bspline", 9), ("kan_rbf", 9)])
def test_a_layer_with_a_faster_way_of_its_own_costs_what_it_computes(name, bases):
    model = build(name)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    assert zoo.summary(model).macs == bases * (64 * 32 + 32 * 10)
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())


def test_a_model_that_needs_values_is_counted_where_it_is():
    class Looks(nn.Module):
        num_classes = 2
        pretrained_cfg: ClassVar[dict[str, Any]] = {"input_size": (3, 4, 4)}

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(48, 2)

        def forward(self, x):
            return self.fc(x.flatten(1)) * (1 if x.sum().item() == 0 else 2)

    assert zoo.summary(Looks()).macs == 96


def test_the_text_names_places_by_groups_and_what_is_new():
    model = build("vit_tiny_patch16_224", mlp={"type": "kan", "where": "last:2"}, head="kan", **VIT)
    summary = zoo.summary(model)
    text = str(summary)
    assert text.splitlines()[0] == "vit_tiny_patch16_224, composed"
    assert '"mlp": {"type": "kan", "where": "last:2"}' in text
    assert "blocks.1.mlp … blocks.2.mlp (2)" in text
    old = 2 * (2 * 48 * 192 + 192 + 48)
    new = sum(p.numel() for b in model.blocks[1:] for p in b.mlp.parameters())
    assert f"{old:,} → {new:,}" in text
    ratio = summary.params / summary.base_params
    assert f"parameters  {summary.base_params:,} → {summary.params:,} ({ratio:.2f}×)" in text
    assert text.endswith("weights     random (base); new: mlp, head")
    assert "trainable" not in text
    model.requires_grad_(False)
    model.head.requires_grad_(True)
    frozen = zoo.summary(model)
    assert frozen.trainable == sum(p.numel() for p in model.head.parameters())
    assert f"trainable   {frozen.trainable:,}" in str(frozen)


def test_pretrained_and_copied_parts_are_told(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.manual_seed(1)
    save_file(timm.create_model("test_resnet", num_classes=5).state_dict(), path)
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}, "num_classes": 5}
    model = zoo.create_model("test_resnet", head="kan", **options)
    error = model.zoo_composition.changes[0].error
    text = str(zoo.summary(model))
    assert f"copy of what was there, relative error {error:.2g}" in text
    assert "weights     test_resnet (base); copied: head; new: nothing" in text
    exact = str(zoo.summary(zoo.create_model("test_resnet", head="linear", **options)))
    assert "relative error 0" in exact
    assert "new" in str(zoo.summary(zoo.create_model("test_resnet", head={"type": "kan", "init": "own"}, **options)))


def test_what_stays_is_told_with_its_reason():
    summary = zoo.summary(build("gcvit_xxtiny", mixer="attention", num_classes=5))
    assert set(summary.left.values()) == {"its queries are made elsewhere in the model"}
    first = next(iter(summary.left))
    assert f"left as is  {first} and {len(summary.left) - 1} more: its queries are made elsewhere" in str(summary)


def test_a_loaded_composition_is_pretrained_as_a_whole(tmp_path):
    model = build("test_vit", img_size=32, mlp={"type": "kan", "where": [0]}, num_classes=5)
    zoo.save_pretrained(model, tmp_path / "mine")
    loaded = zoo.create_model(f"local-dir:{tmp_path / 'mine'}")
    text = str(zoo.summary(loaded))
    assert "weights     all from" in text
    assert "mine" in text.splitlines()[-1]
    assert "new:" not in text
    before, after = zoo.summary(model), zoo.summary(loaded)
    assert (before.params, before.macs, before.base_params) == (after.params, after.macs, after.base_params)
    assert (after.spec["mlp"], after.spec["num_classes"]) == (before.spec["mlp"], 5)


def test_other_classes_are_counted_on_both_sides():
    model = build("test_resnet", head="kan", num_classes=5)
    model.reset_classifier(11)
    summary, direct = zoo.summary(model), zoo.summary(build("test_resnet", head="kan", num_classes=11))
    assert (summary.params, summary.macs) == (direct.params, direct.macs)
    assert (summary.base_params, summary.base_macs) == (direct.base_params, direct.base_macs)
    assert summary.params - summary.base_params == sum(p.numel() for p in model.fc.parameters()) - 96 * 11 - 11


def test_another_image_size_is_counted_at_that_size():
    model = build("vit_tiny_patch16_224", mlp=Doubled, **VIT)
    model.set_input_size(img_size=96)
    summary = zoo.summary(model)
    direct = zoo.summary(build("vit_tiny_patch16_224", mlp=Doubled, **{**VIT, "img_size": 96}))
    assert summary.input_size == (3, 96, 96)
    assert (summary.params, summary.macs) == (direct.params, direct.macs)
    assert (summary.base_params, summary.base_macs) == (direct.base_params, direct.base_macs)


def test_a_class_in_the_spec_is_printed_by_its_name():
    text = str(zoo.summary(build("vit_tiny_patch16_224", mlp=Doubled, **VIT)))
    assert '"mlp": {"type": "Doubled"}' in text
    assert "Doubled" in text.split("parameters")[1]


def test_a_plain_model_is_described_too():
    torch.manual_seed(0)
    for model in (zoo.create_model("test_resnet", num_classes=5), timm.create_model("test_resnet", num_classes=5)):
        modes = [m.training for m in model.modules()]
        summary = zoo.summary(model)
        assert (summary.name, summary.spec, summary.changes) == ("test_resnet", None, [])
        assert summary.params == sum(p.numel() for p in model.parameters())
        assert str(summary).splitlines()[0] == "test_resnet"
        assert "composed" not in str(summary)
        assert [m.training for m in model.modules()] == modes
    nano = zoo.summary(zoo.create_model("medvit2_kan_nano"))
    assert nano.name == "medvit2_kan_nano"
    assert nano.macs is not None


def test_it_changes_nothing():
    model = build("test_vit", img_size=32, mlp="kan", head="kan", num_classes=5).train()
    state = {k: v.clone() for k, v in model.state_dict().items()}
    changes = [*model.zoo_composition.changes]
    zoo.summary(model)
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in state.items())
    assert model.zoo_composition.changes == changes
    assert model.training
    assert isinstance(model.norm, nn.LayerNorm)
