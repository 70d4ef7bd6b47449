"""Costs of paths: the published tables to the integer, what is counted of operations, order of anchors."""

import time
import warnings

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.models.stitching.published import PUBLISHED, WIDTHS, published, rows_of_table, tiny
from zoo.models.stitching.anchors import AnchorSpec, anchor_of
from zoo.models.stitching.costs import OperationCount, in_giga, measure_anchor
from zoo.models.stitching.network import StitchNet


def count(function, *args):
    with OperationCount() as counted:
        function(*args)
    return counted.macs, counted.others


# --- the published tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_tables_to_the_integer(name: str) -> None:
    net, rows = published(name), rows_of_table(name)
    begin = time.process_time()
    stitches = net.stitches
    assert time.process_time() - begin < (2 if name == "deit_ti_s_b" else 5)
    assert len(stitches) == len(rows)
    for stitch, row in zip(stitches, rows, strict=True):
        assert stitch.flops == row.get("flops", stitch.flops)
        if "params" in row:
            assert stitch.params == row["params"]
        elif "upstream_params" in row:  # of DeiT, whose stitched paths have positions, which are left out there,
            front, end = net.anchors[row["anchors"][0]], net.anchors[row["anchors"][-1]]
            left_out = front.pos_embed.numel() + front.cls_token.numel() if row["stitches"] else 0
            not_run = 2 * end.embed_dim if row["stitches"] else 0  # and no norm, which is counted there
            assert stitch.params == row["upstream_params"] + left_out - not_run


def test_costs_are_counted_once() -> None:
    net = published("resnet18_resnet50")
    assert net.costs() is net.costs()
    assert net.stitches == net.stitches


def test_a_plain_vision_transformer_by_the_formula() -> None:
    net = tiny(depth=4, cuts="paired", stitch_norm=False)
    tokens, patches, classes = 17, 16, 7
    for stitch in net.stitches:
        macs = patches * 3 * 8 * 8 * WIDTHS[stitch.anchors[0]] + WIDTHS[stitch.anchors[-1]] * classes
        norms = 5 * tokens * WIDTHS[stitch.anchors[0]] if not stitch.cuts else 0
        for place, anchor in enumerate(stitch.anchors):
            first = stitch.cuts[place - 1][1] if place else 0
            last = stitch.cuts[place][0] if place < len(stitch.cuts) else 3
            width, blocks = WIDTHS[anchor], last - first + 1
            macs += blocks * (12 * width**2 * tokens + 2 * tokens**2 * width)
            norms += blocks * 10 * tokens * width
        for front, end in zip(stitch.anchors, stitch.anchors[1:], strict=False):
            macs += tokens * WIDTHS[front] * WIDTHS[end]
        assert (stitch.macs, stitch.flops) == (macs, macs + norms)


def test_parameters_are_those_that_have_a_gradient_from_the_path() -> None:
    torch.manual_seed(0)
    for net in (
        tiny(),
        tiny(cuts="paired", stitch_norm=False),
        tiny((12, 24), cuts="two_way"),
        StitchNet(["resnet14t", "resnet26t"], num_classes=3, img_size=64),
        StitchNet(["levit_128s", "levit_128"], num_classes=3),
    ):
        net.train()
        size = net.img_size
        assert size is not None
        for stitch in [s for s in net.stitches if s.usable][:: max(1, len(net.stitches) // 6)]:
            net.zero_grad(set_to_none=True)
            outs = net(torch.randn(2, 3, *size), stitch=stitch.id)
            sum(out.sum() for out in (outs if isinstance(outs, tuple) else (outs,))).backward()
            assert stitch.params == sum(p.numel() for p in net.parameters() if p.grad is not None)


# --- what is counted ------------------------------------------------------------------------------------------------


def test_products_convolutions_and_norms() -> None:
    x = torch.randn(2, 6, 8, 8)
    assert count(nn.Conv2d(6, 9, 3, padding=1), x) == (2 * 9 * 64 * 6 * 9, 0)
    assert count(nn.Conv2d(6, 6, 3, groups=3, stride=2), x) == (2 * 6 * 9 * 2 * 9, 0)
    assert count(nn.ConvTranspose2d(6, 4, 2, stride=2), x) == (2 * 6 * 64 * 4 * 4, 0)
    assert count(nn.Linear(8, 5), x) == (2 * 6 * 8 * 8 * 5, 0)
    assert count(nn.Linear(8, 5, bias=False), x[0, 0]) == (8 * 8 * 5, 0)
    assert count(torch.einsum, "bchw,bcgw->bhg", x, x) == (2 * 8 * 8 * 6 * 8, 0)
    assert count(nn.LayerNorm(8), x) == (0, 5 * x.numel())
    assert count(nn.LayerNorm(8, elementwise_affine=False), x) == (0, 4 * x.numel())
    assert count(nn.GroupNorm(2, 6), x) == (0, 5 * x.numel())
    assert count(nn.BatchNorm2d(6).eval(), x) == (0, 2 * x.numel())
    assert count(nn.BatchNorm2d(6, affine=False).eval(), x) == (0, x.numel())
    for pool in (nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(2)):
        assert count(pool, x) == (0, x.numel())
    assert count(lambda x: x.mean((2, 3)) + x.sum((2, 3)), x) == (0, 0)
    assert count(lambda x: F.gelu(x).softmax(-1) + 1, x) == (0, 0)


@pytest.mark.parametrize(
    "name", ["swinv2_tiny_window8_256", "convnext_atto", "regnety_002", "vit_tiny_patch16_224", "levit_128s"]
)
def test_a_run_with_values_counts_the_same(name: str) -> None:
    model = timm.create_model(name, num_classes=3)
    size = model.pretrained_cfg["input_size"]
    anchor = anchor_of(model)
    x = torch.randn(1, *size)
    measured = measure_anchor(anchor, size)
    with torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        macs, others = count(model.eval(), x)
    assert sum(measured.macs.values()) == macs > 0
    assert sum(measured.flops.values()) == macs + others


class LooksAtValues(nn.Linear):
    """A block that cannot run without values."""

    def forward(self, x):
        return super().forward(x) if x.sum().item() > 0 else -super().forward(x)


def spec(width: int, block=nn.Linear, **options) -> AnchorSpec:
    blocks = [block(width, width) for _ in range(3)]
    head = nn.Sequential(nn.Flatten(), nn.Linear(4 * width, 5))
    stem = nn.Sequential(nn.Conv2d(3, width, 4, 4), nn.Flatten(2), Transposed())
    return AnchorSpec(stem, [blocks], head, widths=(width,), layout="tokens", **options)


class Transposed(nn.Module):
    def forward(self, x):
        return x.transpose(1, 2)


def test_what_needs_values_is_run_with_them() -> None:
    plain, looking = (
        StitchNet([spec(4, block), spec(8, block)], img_size=8).costs() for block in (nn.Linear, LooksAtValues)
    )
    assert plain == looking
    assert plain[0].macs == 4 * 4 * 48 + 3 * 4 * 16 + 4 * 4 * 5


def test_counting_leaves_the_network_as_it_is() -> None:
    net = StitchNet(["levit_128s", "levit_128"], num_classes=3).train()
    net.anchors[0].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modes = [module.training for module in net.modules()]
    torch.manual_seed(1)
    drawn = torch.get_rng_state()
    net.costs()
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), drawn)
    assert not any(m.attention_bias_cache for m in net.modules() if hasattr(m, "attention_bias_cache"))


# --- images, heads, order -------------------------------------------------------------------------------------------


def test_costs_are_of_the_size_of_images() -> None:
    net = StitchNet(["resnet14t", "resnet26t"], num_classes=3)
    assert net.img_size == (176, 176)  # of its weights
    small, large = net.costs((64, 64)), net.costs((128, 128))
    head = 2048 * 3
    assert large[0].macs - head == 4 * (small[0].macs - head)
    assert StitchNet(["resnet14t", "resnet26t"], num_classes=3, img_size=64).costs() == small
    assert StitchNet(["resnet14t", "resnet26t"], num_classes=3, img_size=(64, 64)).costs() == small
    assert tiny().img_size == (32, 32)


def test_where_no_size_of_images_is_known_costs_wait_for_one() -> None:
    net = StitchNet([spec(4), spec(8)])
    assert net.img_size is None
    assert {(s.flops, s.macs, s.params) for s in net.stitches} == {(None, None, None)}
    with pytest.raises(ValueError, match=r"give img_size=\(height, width\)"):
        net.costs()
    assert net.costs((8, 8)) == StitchNet([spec(4), spec(8)], img_size=8).costs()
    assert StitchNet([spec(4, img_size=(8, 8)), spec(8)]).img_size == (8, 8)


def test_another_head_has_other_costs() -> None:
    net = tiny()
    before = net.stitches
    for anchor in net.anchors:
        anchor.reset_classifier(10)
    for stitch, old in zip(net.stitches, before, strict=True):
        width = WIDTHS[stitch.anchors[-1]]
        assert (stitch.macs, stitch.params) == (old.macs + 3 * width, old.params + 3 * width + 3)


def test_weights_of_several_pieces_count_once() -> None:
    first, second = spec(4), spec(8)
    first.stages[0][2].weight = first.stages[0][0].weight
    net = StitchNet([first, second], img_size=8)
    assert net.stitches[0].params == sum(p.numel() for p in first.parameters())


def test_anchors_from_large_to_small_warn_or_are_refused() -> None:
    with pytest.warns(UserWarning, match=r"from small to large.*by FLOPs the order is vit_.* \(\d.*k?\), vit_"):
        tiny((24, 12))
    with pytest.raises(ValueError, match="from small to large"):
        tiny((24, 12), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny((12, 24), strict=True).costs()
        tiny((12, 12)).costs()


def test_numbers_for_people() -> None:
    assert [in_giga(n) for n in (4608338304, 17582740224, 123456, 999.4, 0)] == [
        "4.61 G",
        "17.6 G",
        "123 k",
        "999",
        "0",
    ]
