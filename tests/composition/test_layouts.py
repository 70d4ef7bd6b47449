"""Every layout: the adapter hands over the right numbers, and hands them back in the right order.

What the old module would have been given is taken from the model itself, before the first replaced module changes it.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.composition.helpers import (
    Doubled,
    Running,
    Shifted,
    ShiftedWithPrefix,
    WindowedShift,
    build,
    call_of,
    vary,
)
from tests.composition.models import SMALL_SWIN, images
from zoo.composition import Spec, operate
from zoo.errors import UnsupportedSurgery

VIT = {"img_size": (32, 48), "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
EVA = {"img_size": (28, 42), "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
DINO = {"dynamic_img_size": False, "img_size": (32, 48), "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}
DAVIT = {"depths": (1, 1, 1, 1), "embed_dims": (24, 24, 24, 24), "num_heads": (1, 1, 1, 1)}
PVT = {"depths": (1, 1, 1, 1)}
TWINS = {
    "img_size": (64, 96),
    "embed_dims": (32, 32, 32, 32),
    "depths": (1, 1, 1, 1),
    "num_heads": (1, 2, 2, 2),
    "wss": (4, 4, 2, 2),
    "num_classes": 5,
}


def both(base, slot, choice, path, **options):
    """A call of the old and of the new module at a path, on the same images with the same values elsewhere."""
    old, new = vary(build(base, **options)), build(base, **{slot: choice}, **options)
    inside = f"{path}."
    new.load_state_dict(
        {k: v for k, v in old.state_dict().items() if k in new.state_dict() and not k.startswith(inside)}
        | {k: v for k, v in new.state_dict().items() if k.startswith(inside) or k not in old.state_dict()}
    )
    x = images(new)
    was, now = call_of(old, path, x), call_of(new, path, x)
    assert torch.equal(was[0], now[0])
    return was, now, new.get_submodule(path)


@pytest.mark.parametrize(
    ("base", "path", "axis", "options"),
    [
        ("vit_tiny_patch16_224", "blocks.0.mlp", -1, VIT),
        ("test_convnext", "stages.0.blocks.0.mlp", -1, {}),
        ("test_convnext", "stages.0.blocks.0.mlp", 1, {"conv_mlp": True}),
        ("swin_tiny_patch4_window7_224", "layers.0.blocks.0.mlp", -1, SMALL_SWIN),
        ("test_coatnet", "stages.2.blocks.0.mlp", 1, {}),
        ("poolformer_s12", "stages.0.blocks.0.mlp", 1, {}),
        ("pvt_v2_b0", "stages.0.blocks.0.mlp", -1, PVT),
        ("nest_tiny", "levels.0.transformer_encoder.0.mlp", -1, {}),
    ],
)
def test_a_feed_forward_part_gets_the_channels_last(base, path, axis, options):
    _, (x, _, y), _ = both(base, "mlp", {"type": Doubled, "where": path}, path, **options)
    factor = torch.arange(1.0, x.shape[axis] + 1)
    assert torch.equal(y.movedim(axis, -1), x.movedim(axis, -1) * factor)


class DoubledMap(Doubled):
    """For maps (B, C, H, W)."""

    layout = "NCHW"

    def forward(self, x):
        return x * self.factor[:, None, None]


@pytest.mark.parametrize(
    ("base", "path", "axis", "options"),
    [
        ("test_coatnet", "stages.2.blocks.0.mlp", 1, {}),
        ("poolformer_s12", "stages.0.blocks.0.mlp", 1, {}),
        ("test_convnext", "stages.0.blocks.0.mlp", -1, {}),
    ],
)
def test_a_feed_forward_part_for_maps_gets_the_channels_first(base, path, axis, options):
    _, (x, _, y), _ = both(base, "mlp", {"type": DoubledMap, "where": path}, path, **options)
    assert torch.equal(y.movedim(axis, -1), x.movedim(axis, -1) * torch.arange(1.0, x.shape[axis] + 1))


def test_a_part_for_maps_cannot_stand_where_tokens_are():
    with pytest.raises(UnsupportedSurgery, match=r"DoubledMap works on maps .*'blocks.0.mlp' is given tokens"):
        build("vit_tiny_patch16_224", mlp=DoubledMap, **VIT)


@pytest.mark.parametrize(("base", "path", "norm"), [("tiny_vit_5m_224", "stages.1.blocks.0.mlp", "norm")])
def test_the_norm_inside_the_old_part_stays_before_the_new_one(base, path, norm):
    (_, _, _), (x, _, y), new = both(base, "mlp", {"type": Doubled, "where": path}, path, num_classes=5)
    layer = new.get_submodule(norm)
    assert isinstance(layer, nn.LayerNorm)
    assert torch.allclose(y, layer(x) * torch.arange(1.0, x.shape[-1] + 1), atol=1e-6)


def test_the_norm_inside_the_old_part_stays_after_the_new_one():
    path = "stages.0.blocks.0.mlp"
    _, (x, _, y), new = both("efficientformer_l1", "mlp", {"type": Doubled, "where": path}, path, num_classes=5)
    assert isinstance(new.norm2, nn.BatchNorm2d)
    assert torch.allclose(y, new.norm2(x * torch.arange(1.0, x.shape[1] + 1)[:, None, None]), atol=1e-5)


@pytest.mark.parametrize(
    ("base", "path", "options", "layout"),
    [
        ("vit_tiny_patch16_224", "blocks.0.attn", VIT, "NLC"),
        ("swin_tiny_patch4_window7_224", "layers.0.blocks.1.attn", SMALL_SWIN, "NLC"),
        ("davit_tiny", "stages.0.blocks.0.0.attn", DAVIT, "NLC"),
        ("nest_tiny", "levels.0.transformer_encoder.0.attn", {}, "BTNC"),
        ("test_coatnet", "stages.2.blocks.1.attn", {}, "NCHW"),
        ("maxvit_rmlp_pico_rw_256", "stages.0.blocks.0.attn_block.attn", {}, "NHWC"),
        ("twins_svt_small", "blocks.0.0.attn", TWINS, "NLC"),
        ("coat_lite_tiny", "serial_blocks1.0.factoratt_crpe", {}, "NLC"),
    ],
)
def test_a_mixer_of_sequences_gets_the_tokens_row_by_row(base, path, options, layout):
    (_, extra, _), (x, _, y), _ = both(base, "mixer", {"type": Running, "where": path}, path, **options)
    if layout == "NLC":
        expected = x.cumsum(1)
    elif layout == "BTNC":
        expected = x.cumsum(2)
    elif layout == "NHWC":
        expected = x.flatten(1, 2).cumsum(1).reshape(x.shape)
    else:
        expected = x.flatten(2).cumsum(2).reshape(x.shape)
    assert torch.allclose(y, expected, rtol=1e-4, atol=1e-4)
    assert y.shape == x.shape
    assert extra is not None


@pytest.mark.parametrize(
    ("base", "path", "options", "grid"),
    [
        ("vit_tiny_patch16_224", "blocks.0.attn", {**VIT, "class_token": False, "global_pool": "avg"}, (2, 3)),
        ("twins_svt_small", "blocks.0.0.attn", TWINS, (16, 24)),
        ("test_vit_relpos", "blocks.0.attn", {"img_size": (32, 48)}, (2, 3)),
        ("xcit_nano_12_p16_224", "blocks.0.attn", {"depth": 1}, (14, 14)),
    ],
)
def test_a_mixer_on_maps_gets_the_grid_of_the_tokens(base, path, options, grid):
    choice = {"type": Shifted, "where": path}
    _, (x, _, y), _ = both(base, "mixer", choice, path, **options)
    assert torch.allclose(y, Shifted.mixed(x.unflatten(1, grid)).flatten(1, 2), atol=1e-5)


def test_a_mixer_on_maps_gets_maps_as_they_are():
    path = "stages.2.blocks.1.attn"
    _, (x, _, y), _ = both("test_coatnet", "mixer", {"type": Shifted, "where": path}, path)
    assert torch.allclose(y, Shifted.mixed(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("base", "options", "prefix", "grid"),
    [
        ("vit_tiny_patch16_224", VIT, 1, (2, 3)),
        ("deit_tiny_distilled_patch16_224", VIT, 2, (2, 3)),
        ("vit_tiny_patch16_224", {**VIT, "reg_tokens": 3}, 4, (2, 3)),
        ("vit_tiny_patch16_dinov3_qkvb", DINO, 5, (2, 3)),
        ("eva02_tiny_patch14_224", EVA, 1, (2, 3)),
        ("coat_lite_tiny", {}, 1, (56, 56)),
    ],
)
@pytest.mark.parametrize("kind", [Shifted, ShiftedWithPrefix])
def test_prefix_tokens_go_round_a_mixer_on_maps(base, options, prefix, grid, kind):
    path = "serial_blocks1.0.factoratt_crpe" if base.startswith("coat") else "blocks.0.attn"
    _, (x, _, y), _ = both(base, "mixer", {"type": kind, "where": path}, path, **options)
    tokens = x[:, prefix:].unflatten(1, grid)
    assert torch.allclose(y[:, prefix:], Shifted.mixed(tokens).flatten(1, 2), atol=1e-5)
    # A block adds the output to its input: zeros leave the prefix as it is.
    expected = x[:, :prefix] + tokens.mean((1, 2))[:, None] if kind is ShiftedWithPrefix else torch.zeros(())
    assert torch.allclose(y[:, :prefix], expected, atol=1e-5)


def test_a_mixer_that_leaves_the_class_token_out_needs_another_pool():
    with pytest.raises(UnsupportedSurgery, match=r"leaves out the class token.*add pool='avg'.*where=.*mix_prefix"):
        build("vit_tiny_patch16_224", mixer=Shifted, **VIT)
    x = torch.randn(2, 3, 32, 48)
    for options in (
        {"mixer": Shifted, "pool": "avg"},
        {"mixer": Shifted, "global_pool": "avg"},
        {"mixer": {"type": Shifted, "where": "first:1"}},
        {"mixer": ShiftedWithPrefix},
    ):
        assert build("vit_tiny_patch16_224", **options, **VIT)(x).isfinite().all()


def test_windows_are_maps_to_a_mixer_that_knows_them():
    path = "layers.0.blocks.0.attn"
    choice = {"type": WindowedShift, "where": path}
    _, (x, _, y), new = both("swin_tiny_patch4_window7_224", "mixer", choice, path, **SMALL_SWIN)
    assert x.shape == (8, 49, 24)
    assert torch.allclose(y, WindowedShift.mixed(x.unflatten(1, (7, 7))).flatten(1, 2), atol=1e-5)
    with pytest.raises(UnsupportedSurgery, match=r"windows of the map.*does not declare `windows = True`"):
        build("swin_tiny_patch4_window7_224", mixer={"type": Shifted, "where": path}, **SMALL_SWIN)
    assert new.zoo_grid == (7, 7, 0)


def test_windows_keep_their_size_when_the_image_changes():
    path = "layers.0.blocks.0.attn"
    mixer = {"type": WindowedShift, "where": path}
    model = build("swin_tiny_patch4_window7_224", mixer=mixer, **SMALL_SWIN)
    model.set_input_size(img_size=112, window_size=7)
    x, _, y = call_of(model, path, torch.randn(1, 3, 112, 112))
    assert torch.allclose(y, WindowedShift.mixed(x.unflatten(1, (7, 7))).flatten(1, 2), atol=1e-5)


def test_blocks_of_tokens_are_maps_to_a_mixer_that_knows_windows():
    path = "levels.0.transformer_encoder.0.attn"
    _, (x, _, y), _ = both("nest_tiny", "mixer", {"type": WindowedShift, "where": path}, path)
    side = int(x.shape[2] ** 0.5)
    maps = x.flatten(0, 1).unflatten(1, (side, side))
    assert torch.allclose(y, WindowedShift.mixed(maps).flatten(1, 2).reshape(x.shape), atol=1e-5)


def test_masks_positions_and_rotations_are_handed_on_by_name():
    path = "layers.0.blocks.1.attn"  # the shifted block
    was, (x, _, _), new = both(
        "swin_tiny_patch4_window7_224", "mixer", {"type": Running, "where": path}, path, **SMALL_SWIN
    )
    (mask,) = was[1].values()
    given = new.given[0]
    assert given.shape == (len(x), 1, 49, 49)
    assert torch.equal(given[:, 0], mask.repeat(2, 1, 1))  # window j of image i is at 4 i + j
    assert not torch.equal(mask[0], mask[3])

    path = "blocks.0.attn"
    _, (_, extra, _), new = both("eva02_tiny_patch14_224", "mixer", {"type": Running, "where": path}, path, **EVA)
    assert torch.equal(new.given[1], extra["rope"])
    was, _, new = both("test_vit_relpos", "mixer", {"type": Running, "where": path}, path)
    bias = build("test_vit_relpos").blocks[0].attn.rel_pos
    assert (was[1], bias is None) == ({"shared_rel_pos": None}, False)


# Equal to what was there -----------------------------------------------------------------------------------------


def test_attention_is_the_vits_own():
    old = vary(build("vit_tiny_patch16_224", **VIT))
    new = build("vit_tiny_patch16_224", mixer="attention", **VIT)
    new.load_state_dict(old.state_dict())
    x = images(new)
    with torch.no_grad():
        assert torch.allclose(new(x), old(x), atol=1e-5)


@pytest.mark.parametrize(
    ("base", "options"),
    [("vit_base_patch16_rope_224", DINO), ("eva02_tiny_patch14_224", EVA), ("vit_tiny_patch16_dinov3_qkvb", DINO)],
)
def test_rotated_attention_is_the_evas_own(base, options):
    old = vary(build(base, **options))
    half = bool(getattr(old.blocks[0].attn, "rotate_half", False))
    new = build(base, **options)
    new.load_state_dict(old.state_dict())
    spec = Spec.of({"base": base, "mixer": {"type": "attention", "rotate_half": half, "init": "match"}, **options})
    operate(new, spec)
    x = images(old)
    with torch.no_grad():
        assert torch.allclose(new(x), old(x), atol=1e-5)
        assert {c.error for c in new.zoo_composition.changes if c.error > 1e-5} == set()
        without = call_of(old, "blocks.0.attn", x)
        # The rotation matters: without it the output is another.
        turned = new.blocks[0].attn(without[0], rope=None)
    assert not torch.allclose(turned, without[2], atol=1e-3)


def test_windowed_attention_is_the_swins_own_without_position_bias_and_honours_the_mask():
    old = vary(build("swin_tiny_patch4_window7_224", **SMALL_SWIN))
    for layer in old.layers:
        for block in layer.blocks:
            nn.init.zeros_(block.attn.relative_position_bias_table)
    new = build("swin_tiny_patch4_window7_224", mixer="attention", **SMALL_SWIN)
    new.load_state_dict({k: v for k, v in old.state_dict().items() if k in new.state_dict()})
    x = images(new)
    with torch.no_grad():
        assert torch.allclose(new(x), old(x), atol=1e-5)
        shifted = new.layers[0].blocks[1]
        tokens, extra, out = call_of(old, "layers.0.blocks.1.attn", x)
        (mask,) = extra.values()
        assert torch.allclose(shifted.attn(tokens, mask), out, atol=1e-5)
        assert not torch.allclose(shifted.attn(tokens, None), out, atol=1e-3)


def test_a_position_bias_is_added_to_the_scores():
    old = vary(build("beit_base_patch16_224", use_shared_rel_pos_bias=True, use_rel_pos_bias=False, **VIT))
    options = {"use_shared_rel_pos_bias": True, "use_rel_pos_bias": False, **VIT}
    new = build("beit_base_patch16_224", mixer="attention", **options)
    state = old.state_dict()
    for i in range(2):
        q, v = (state.pop(f"blocks.{i}.attn.{k}_bias") for k in "qv")
        state[f"blocks.{i}.attn.qkv.bias"] = torch.cat((q, torch.zeros_like(q), v))
    new.load_state_dict({k: v for k, v in state.items() if k in new.state_dict()})
    x = images(new)
    with torch.no_grad():
        assert torch.allclose(new(x), old(x), atol=1e-5)
        tokens, extra, out = call_of(old, "blocks.0.attn", x)
        (bias,) = extra.values()
        assert bias.abs().max() > 0.01
        assert torch.allclose(new.blocks[0].attn(tokens, shared_rel_pos_bias=bias), out, atol=1e-5)
        assert not torch.allclose(new.blocks[0].attn(tokens), out, atol=1e-4)
        # A mask of True and False together with a bias: what may not be looked at weighs nothing.
        seen = torch.ones(1, 1, 7, 7, dtype=torch.bool)
        seen[..., 3:] = False
        port = new.blocks[0].attn
        given = port._accept({"shared_rel_pos_bias": bias, "attn_mask": seen}, tokens)[0]["attn_mask"]
        assert torch.equal(given[..., :3], bias[None, ..., :3])
        assert (given[..., 3:] < -1e9).all()


def test_a_neighbourhood_as_large_as_the_map_is_full_attention():
    options = {**VIT, "img_size": 64, "class_token": False, "global_pool": "avg"}
    got, expected = _neighborhood(4, options)
    assert torch.allclose(got, expected, atol=1e-5)
    got, expected = _neighborhood(3, options)
    assert not torch.allclose(got, expected, atol=1e-3)


def _neighborhood(kernel, options):
    old = vary(build("vit_tiny_patch16_224", **options))
    new = build("vit_tiny_patch16_224", mixer={"type": "neighborhood", "kernel_size": kernel}, **options)
    new.load_state_dict(old.state_dict())
    x = images(new)
    with torch.no_grad():
        return new(x), old(x)


def test_with_a_class_token_the_class_token_sees_all():
    options = {**VIT, "img_size": 64}
    old = vary(build("vit_tiny_patch16_224", **options))
    new = build("vit_tiny_patch16_224", mixer={"type": "neighborhood", "kernel_size": 4}, **options)
    new.load_state_dict(old.state_dict())
    x = images(new)
    with torch.no_grad():
        tokens, _, out = call_of(old, "blocks.0.attn", x)
        mixed = new.blocks[0].attn(tokens)
        assert torch.allclose(mixed[:, :1], out[:, :1], atol=1e-5)
        patches = old.blocks[0].attn(tokens[:, 1:])  # they do not see the class token
        assert torch.allclose(mixed[:, 1:], patches, atol=1e-5)
