"""Warm start: a new part begins as a copy of what it replaces, and says how near it came."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from tests.composition.helpers import Doubled, build, vary
from tests.composition.models import SMALL_SWIN, images
from zoo.composition import Spec, compose_onto, operate
from zoo.composition.match import ROWS
from zoo.errors import UnsupportedSurgery
from zoo.layers.plain import Linear

VIT = {"img_size": 32, "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
CONV = {"channels": (16, 16, 24, 24), "num_classes": 5}


def matched(base, parts, batches=None, **options):
    """A model with varied weights, and a second one of which parts were replaced by copies."""
    old = vary(build(base, **options))
    new = build(base, **options)
    new.load_state_dict(old.state_dict())
    operate(new, Spec.of({"base": base, **parts, **options}), batches=batches)
    return new, old


@pytest.mark.parametrize(
    ("base", "parts", "options"),
    [
        ("test_resnet", {"head": "linear"}, {}),
        ("resnetv2_18", {"head": "linear"}, CONV),
        ("deit_tiny_distilled_patch16_224", {"head": "linear"}, VIT),
        ("vit_tiny_patch16_224", {"mlp": "mlp"}, VIT),
        ("vit_tiny_patch16_224", {"mixer": "attention"}, VIT),
        ("vit_tiny_patch16_224", {"mixer": "attention", "mlp": "mlp", "head": "linear"}, VIT),
        ("test_convnext", {"mlp": "mlp"}, {}),
        ("test_convnext", {"mlp": "mlp", "head": "linear", "pool": "avg"}, {"conv_mlp": True}),
        ("poolformer_s12", {"mlp": {"type": "mlp", "where": "first:2"}}, {}),
        ("tiny_vit_5m_224", {"mlp": {"type": "mlp", "where": [0]}}, {}),
        ("swin_tiny_patch4_window7_224", {"mlp": "mlp"}, SMALL_SWIN),
        ("test_resnet", {"pool": "avg"}, {}),
    ],
)
def test_what_can_be_copied_exactly_leaves_the_model_as_it_was(base, parts, options):
    asked = {}
    for slot, part in parts.items():
        asked[slot] = {**(part if isinstance(part, dict) else {"type": part}), "init": "match"}
    x = images(build(base, **options))
    new, old = matched(base, asked, torch.cat((x, x.flip(3), x.flip(2))), **options)
    with torch.no_grad():
        # Convolutions and matrix products add in other orders.
        assert torch.allclose(new(x), old(x), rtol=1e-4, atol=1e-4 * float(old(x).std()))
    changes = new.zoo_composition.changes
    assert {c.init for c in changes} == {"match"}
    assert max(c.error for c in changes) < 1e-5


def test_a_neighbourhood_of_the_whole_map_is_an_exact_copy():
    options = {**VIT, "img_size": 48, "class_token": False, "global_pool": "avg"}
    mixer = {"type": "neighborhood", "kernel_size": 3, "init": "match"}
    new, old = matched("vit_tiny_patch16_224", {"mixer": mixer}, **options)
    assert max(c.error for c in new.zoo_composition.changes) < 1e-5
    x = images(old)
    with torch.no_grad():
        assert torch.allclose(new(x), old(x), atol=1e-4)
    part, _ = matched("vit_tiny_patch16_224", {"mixer": {**mixer, "kernel_size": 2}}, **options)
    assert min(c.error for c in part.zoo_composition.changes) > 0.01


@pytest.mark.parametrize(("base", "options"), [("test_resnet", {"num_classes": 5}), ("resnetv2_18", CONV)])
def test_the_error_is_measured_on_images_that_the_copy_has_not_seen(base, options):
    torch.manual_seed(3)
    pictures = torch.rand(40, 3, 64, 64)
    new, old = matched(base, {"head": {"type": "kan", "init": "match"}}, pictures, **options)
    with torch.no_grad():
        expected, got = old(pictures)[:8], new(pictures)[:8]  # a fifth of the images is kept back
    error = (got - expected).norm() / (expected - expected.mean(0)).norm()
    (change,) = new.zoo_composition.changes
    assert change.error == pytest.approx(float(error), rel=1e-3)
    fresh = build(base, head="kan", **options)
    state = {k: v for k, v in old.state_dict().items() if not k.startswith(change.path)}
    fresh.load_state_dict(state, strict=False)
    with torch.no_grad():
        unmatched = (fresh(pictures)[:8] - expected).norm() / (expected - expected.mean(0)).norm()
    assert change.error < 0.7 * float(unmatched)


def test_every_block_is_copied_with_its_own_error():
    new, old = matched("vit_tiny_patch16_224", {"mlp": {"type": "kan", "init": "match"}}, **VIT)
    x = images(old, 8, seed=5)
    for change in new.zoo_composition.changes:
        rows = []
        handle = old.get_submodule(change.path).register_forward_pre_hook(
            lambda m, args, rows=rows: rows.append(args[0])
        )
        with torch.no_grad():
            old(x)
            handle.remove()
            expected, got = old.get_submodule(change.path)(rows[0]), new.get_submodule(change.path)(rows[0])
        spread = (expected - expected.mean((0, 1))).norm()
        assert change.error == pytest.approx(float((got - expected).norm() / spread), rel=0.35)
        assert change.error < 0.5
    assert len({c.error for c in new.zoo_composition.changes}) == 2


def pretrained(tmp_path, base, **options):
    """Keywords that load varied weights into a base before its parts are replaced, and those weights."""
    torch.manual_seed(1)
    plain = vary(timm.create_model(base, **options)).eval()
    path = tmp_path / "model.safetensors"
    save_file(plain.state_dict(), path)
    return {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}, **options}, plain


def test_pretrained_weights_are_copied_unless_told_otherwise(tmp_path):
    options, plain = pretrained(tmp_path, "test_resnet", num_classes=5)
    x = images(plain)
    for head, init in (
        ("linear", "match"),
        ({"type": "linear", "init": "match"}, "match"),
        ({"type": "linear", "init": "own"}, "own"),
    ):
        model = zoo.create_model("test_resnet", head=head, **options).eval()
        (change,) = model.zoo_composition.changes
        assert change.init == init
        assert (change.error is None) == (init == "own")
        with torch.no_grad():
            assert torch.equal(model(x), plain(x)) == (init == "match")
        rest = {k: v for k, v in plain.state_dict().items() if not k.startswith("fc.")}
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in rest.items())
    # What cannot imitate keeps its own initialisation, without an error.
    model = zoo.create_model("test_resnet", act="silu", **options)
    assert {c.init for c in model.zoo_composition.changes} == {"own"}


def test_random_weights_are_copied_when_asked_for_only():
    assert {c.init for c in build("test_vit", img_size=32, mlp="mlp", head="linear").zoo_composition.changes} == {"own"}
    model = build("test_vit", img_size=32, head={"type": "linear", "init": "match"})
    assert [c.init for c in model.zoo_composition.changes] == ["match"]
    assert model.zoo_spec["head"] == {"type": "linear", "init": "match"}


def test_the_images_that_are_given_are_used(tmp_path):
    options, plain = pretrained(tmp_path, "test_resnet", num_classes=5)
    torch.manual_seed(2)
    pictures = 0.2 * torch.rand(48, 3, 160, 160) + torch.linspace(0, 1, 48)[:, None, None, None]
    labels = torch.zeros(48)
    own = zoo.create_model("test_resnet", head="kan", init_batches=pictures, **options)
    batches = list(zip(pictures.split(16), labels.split(16), strict=True))
    pairs = zoo.create_model("test_resnet", head="kan", init_batches=batches, **options)
    random = zoo.create_model("test_resnet", head="kan", **options)
    assert all(torch.equal(v, pairs.state_dict()[k]) for k, v in own.state_dict().items())
    with torch.no_grad():
        wanted = plain(pictures)
        near, far = ((m.eval()(pictures) - wanted).norm() for m in (own, random))
    assert near < 0.5 * far


def test_a_loader_without_an_end_is_read_for_a_while():
    model = build("test_resnet", num_classes=5)
    seen = []

    def batches():
        for _ in itertools.count():
            seen.append(256)
            yield torch.rand(256, 3, 32, 32)

    operate(model, Spec.of({"base": "test_resnet", "head": {"type": "linear", "init": "match"}}), batches=batches())
    assert sum(seen) == ROWS


class Filled(Linear):
    def __init__(self, in_features, out_features, *, init=0.0, **options):
        super().__init__(in_features, out_features, **options)
        nn.init.constant_(self.weight, init)


def test_who_says_how_a_module_draws_its_values_gets_no_copy(tmp_path):
    options, plain = pretrained(tmp_path, "test_resnet", num_classes=5)
    copied = zoo.create_model("test_resnet", head=Filled, **options)
    drawn = zoo.create_model("test_resnet", head={"type": Filled, "init": 0.25}, **options)
    assert torch.equal(copied.fc.weight, plain.fc.weight)
    assert (drawn.fc.weight == 0.25).all()
    assert [c.init for m in (copied, drawn) for c in m.zoo_composition.changes] == ["match", "own"]


def test_copies_are_deterministic():
    one, _ = matched("vit_tiny_patch16_224", {"mlp": {"type": "kan", "init": "match"}, "head": "kan"}, **VIT)
    other, _ = matched("vit_tiny_patch16_224", {"mlp": {"type": "kan", "init": "match"}, "head": "kan"}, **VIT)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in one.state_dict().items())


def test_it_leaves_modes_gradients_statistics_and_memory_alone():
    model = build("test_resnet", num_classes=5).train()
    model.layer1.eval()
    model.bn1.eval()
    modes = {n: m.training for n, m in model.named_modules()}
    statistics = {n: b.clone() for n, b in model.named_buffers()}
    gone = [weakref.ref(model.fc), weakref.ref(model.fc.weight)]
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    grad = torch.is_grad_enabled()
    compose_onto(model, Spec.of({"base": "test_resnet", "head": {"type": "kan", "init": "match"}, "num_classes": 5}))
    after = {n: m.training for n, m in model.named_modules()}
    assert {n: after[n] for n in modes} == modes
    assert model.fc.training
    assert all(torch.equal(b, model.get_buffer(n)) for n, b in statistics.items())
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad and p.is_leaf for p in model.parameters())
    assert sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()) == hooks
    assert torch.is_grad_enabled() == grad
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


@pytest.mark.parametrize(
    ("base", "parts", "options", "message"),
    [
        ("test_vit", {"mlp": Doubled}, {"img_size": 32}, "Doubled cannot imitate .*: leave init='match' out"),
        ("test_vit", {"act": "silu"}, {"img_size": 32}, "act/silu cannot imitate"),
        ("test_vit", {"pool": "avg"}, {"img_size": 32}, "pools by arithmetic.*leave init='match' out"),
        ("test_resnet", {"pool": "avg"}, {"global_pool": "max"}, "pool/avg cannot imitate the .* at 'global_pool'"),
        (
            "test_vit",
            {"mixer": "attention"},
            {"img_size": 32, "qk_norm": True},
            "mixer/attention cannot imitate the Attention at 'blocks.0.attn': leave init='match' out",
        ),
        (
            "pvt_v2_b0",
            {"mlp": {"type": "kan", "where": [0]}},
            {},
            "mlp/kan cannot imitate the MlpWithDepthwiseConv at 'stages.0.blocks.0.mlp'",
        ),
        ("coat_lite_tiny", {"mixer": {"type": "attention", "where": [0]}}, {}, "cannot imitate the FactorAttn"),
        ("vit_tiny_patch16_224", {"mlp": {"type": "mlp", "hidden_ratio": 1}}, VIT, "mlp/mlp cannot imitate the Mlp"),
        ("test_efficientnet", {"head": {"type": "linear", "bias": False}}, {}, "head/linear cannot imitate the Linear"),
    ],
)  # fmt: skip
def test_an_explicit_match_of_what_cannot_imitate_is_an_error(base, parts, options, message):
    ((slot, part),) = parts.items()
    part = {**(part if isinstance(part, dict) else {"type": part}), "init": "match"}
    model = vary(build(base, **options))
    with pytest.raises(UnsupportedSurgery, match=message):
        operate(model, Spec.of({"base": base, slot: part, **options}), batches=images(model, 5))


def test_the_form_of_the_contract_is_kept_whatever_the_layout():
    """What `imitate` is given: rows for heads and feed-forward parts, sequences for mixers and pools."""
    shapes = {}

    def listening(kind, base):
        class Listening(base):
            def imitate(self, reference, inputs):
                shapes.setdefault(kind, set()).add((inputs.ndim, inputs.shape[-1], reference(inputs[:4]).ndim))
                return False

        return Listening

    class Pool(nn.Module):
        def __init__(self, dim):
            super().__init__()

        def forward(self, x):
            return x.mean(1)

    class Mixer(nn.Module):
        windows = True

        def __init__(self, dim, num_heads=8):
            super().__init__()

        def forward(self, x, attn_mask=None, rope=None):
            return x

    parts = {"head": Linear, "mlp": Doubled, "mixer": Mixer, "pool": Pool}
    for base, slots in {
        "test_coatnet": ("mixer", "mlp", "pool", "head"),
        "test_convnext": ("mlp", "pool", "head"),
        "resnetv2_18": ("head",),
        "nest_tiny": ("mixer",),
        "swin_tiny_patch4_window7_224": ("mixer", "mlp", "pool", "head"),
    }.items():
        options = {"resnetv2_18": CONV, "swin_tiny_patch4_window7_224": SMALL_SWIN}.get(base, {})
        model = build(base, **options)
        spec = Spec.of({"base": base, **{s: {"type": listening(s, parts[s])} for s in slots}, **options})
        operate(model, spec, weights="some", batches=images(model, 5))
    assert {(s, ndim, out) for s, seen in shapes.items() for ndim, _, out in seen} == {
        ("head", 2, 2),
        ("mlp", 2, 2),
        ("mixer", 3, 3),
        ("pool", 3, 2),
    }
