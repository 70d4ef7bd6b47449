"""Stitching layers from images: the authors' values, what least squares promise, what is refused and what is kept."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from tests.models.stitching.published import GOLDEN, tiny
from zoo.models.stitching.anchors import AnchorSpec
from zoo.models.stitching.initialise import batches_of
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.path import Join


def images(count: int, size: int = 32, seed: int = 0) -> Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def layers_of(net: StitchNet) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.stitch_layers.state_dict().items()}


def drawn(net_of: Any, *args: Any, **options: Any) -> StitchNet:
    torch.manual_seed(0)
    return net_of(*args, **options)


def expected(net: StitchNet, join: Join, x: Tensor) -> Tensor:
    """The average of the least-squares maps [X 1] A = Y of a layer's cuts, straight from the features."""
    stage, a, b, _ = join
    cuts = {
        cut
        for config in net._configs
        for own, cut in zip(config.joins, config.cuts, strict=True)
        if own == join and config.usable
    }
    found = []
    for front, end in sorted(cuts):
        rows = [
            features(net, anchor, stage or 0, block, x, given).double()
            for anchor, block, given in ((a, front, False), (b, end, True))
        ]
        found.append(
            torch.linalg.lstsq(nn.functional.pad(rows[0], (0, 1), value=1.0), rows[1], driver="gelsd").solution
        )
    return torch.stack(found).mean(0)


def features(net: StitchNet, anchor: int, stage: int, block: int, x: Tensor, given: bool) -> Tensor:
    """Rows of what a block gives, or is given."""
    module = net.anchors[anchor].get_submodule(net._anchors[anchor].stages[stage].blocks[block])
    seen: list[Tensor] = []
    handle = module.register_forward_hook(lambda _, args, out: seen.append(args[0] if given else out))
    with torch.no_grad():
        net.anchors[anchor].eval()(x)
    handle.remove()
    rows = seen[0].permute(0, 2, 3, 1) if net._anchors[anchor].layout == "nchw" else seen[0]
    return rows.flatten(0, -2)


# --- values ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [3, 64])
def test_the_layers_are_those_of_the_authors(batch_size: int) -> None:
    options = json.loads((GOLDEN / "snnet_vit_ls_init.json").read_text())["kwargs"]
    tensors = load_file(GOLDEN / "snnet_vit_ls_init.safetensors")
    state = {name.removeprefix("state."): value for name, value in tensors.items() if name.startswith("state.")}
    net = tiny(tuple(options["embed_dims"]), options["depth"], options["mlp_ratio"], cuts="paired", stitch_norm=False)
    net.load_state_dict({n: v for n, v in state.items() if n.startswith("anchors.")}, strict=False)
    net.init_stitches(tensors["in.x_init"], batch_size=batch_size)
    for name, value in net.stitch_layers.state_dict(prefix="stitch_layers.").items():
        torch.testing.assert_close(value, state[name], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(lambda: tiny(cuts="paired"), id="shared-layers"),
        pytest.param(lambda: tiny(cuts="paired", nearest=False), id="not-nearest"),
        pytest.param(lambda: tiny((12, 24), cuts="two_way", lora_rank=2), id="two-way"),
        pytest.param(lambda: StitchNet(["resnet14t", "resnet26t"], num_classes=3, img_size=64), id="maps"),
        pytest.param(
            lambda: StitchNet(
                [
                    {"name": "swin_tiny_patch4_window7_224", "img_size": 64, "window_size": 2, "embed_dim": 24},
                    "resnet26t",
                ],
                num_classes=3,
                stages=[1],
            ),
            id="maps-with-channels-last-to-maps",
        ),
    ],
)
def test_layers_are_the_average_of_the_least_squares_maps_of_their_cuts(net: Any) -> None:
    stitched = drawn(net)
    assert stitched.img_size is not None
    size = stitched.img_size[0]
    x = images(40 if size == 32 else 24, size)
    stitched.init_stitches(x, rcond=0.0, batch_size=16)
    for join in {join: None for config in stitched._configs if config.usable for join in config.joins}:
        layer = stitched.stitch_layer(join)
        wanted = expected(stitched, join, x).float()
        scale = wanted.abs().max().item()
        torch.testing.assert_close(layer.transform.weight.flatten(1), wanted[:-1].t(), atol=2e-3 * scale, rtol=0)
        torch.testing.assert_close(layer.transform.bias, wanted[-1], atol=2e-3 * scale, rtol=0)
        if stitched.lora_rank:
            assert not layer.transform.lora_B.any()
            assert not layer.transform.weight.requires_grad


def test_anchors_of_the_same_weights_are_joined_by_the_identity() -> None:
    net = drawn(tiny, (24, 24), 4)
    net.anchors[1].load_state_dict(net.anchors[0].state_dict())
    net.init_stitches(images(100), rcond=1e-6)
    x = images(2, seed=1)
    net.eval()
    for stitch in net.stitches:
        torch.testing.assert_close(net(x, stitch=stitch.id), net(x, stitch=0), atol=1e-3, rtol=1e-3)


def test_the_layer_of_the_cut_that_is_not_run_maps_to_what_the_last_block_gives() -> None:
    net = drawn(tiny, (24, 24), 3, cuts="two_way")
    net.anchors[1].load_state_dict(net.anchors[0].state_dict())
    net.init_stitches(images(100), rcond=1e-6)
    last = next(s for s in net.stitches if not s.usable)
    torch.testing.assert_close(net.stitch_layer(last.joins[0]).transform.weight, torch.eye(24), atol=1e-3, rtol=0)


def test_layers_from_images_come_nearer_to_the_anchor_than_drawn_ones() -> None:
    net = drawn(tiny, (12, 24), 4).eval()
    x = images(64)
    with pytest.warns(UserWarning, match="the stitching layers of this path are random"):
        before = (features_behind(net, x) - net._anchors[1].norm(rest(net, x))).square().mean()
    net.init_stitches(x)
    after = (features_behind(net, x) - net._anchors[1].norm(rest(net, x))).square().mean()
    assert after < 0.8 * before


def features_behind(net: StitchNet, x: Tensor) -> Tensor:
    with torch.no_grad(), net.using(3):
        return net.forward_features(x)


def rest(net: StitchNet, x: Tensor) -> Tensor:
    anchor = net._anchors[1]
    with torch.no_grad():
        for piece in list(anchor.walk())[:-2]:
            x = anchor.piece(piece)(x)
    return x


def test_ridge_makes_maps_smaller() -> None:
    net = drawn(tiny)
    net.init_stitches(images(50))
    plain = layers_of(net)
    net.init_stitches(images(50), ridge=10.0)
    for name, value in layers_of(net).items():
        if name.endswith("weight"):
            assert value.norm() < plain[name].norm()


def test_an_initialised_network_no_longer_warns() -> None:
    net = drawn(tiny, stitch=3)
    assert net.has_random_layers
    net.init_stitches(images(20))
    assert not net.has_random_layers
    net.eval()(images(1))  # warnings are errors here


# --- sources of images ----------------------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return ((image, 0) for image in images(30))


class Samples(Dataset):
    """A data set that says when it is asked."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, []

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.asked.append(index)
        return images(1, seed=index)[0], 0


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(lambda: images(30), id="tensor"),
        pytest.param(lambda: images(30).split(7), id="batches"),
        pytest.param(lambda: [(x, torch.zeros(len(x))) for x in images(30).split(11)], id="batches-and-labels"),
        pytest.param(lambda: list(images(30)), id="single-images"),
        pytest.param(lambda: iter(images(30)), id="iterator"),
        pytest.param(lambda: TensorDataset(images(30), torch.zeros(30)), id="data-set"),
        pytest.param(Stream, id="stream"),
        pytest.param(lambda: DataLoader(TensorDataset(images(30), torch.zeros(30)), batch_size=8), id="loader"),
    ],
)
def test_images_may_come_from_anywhere(source: Any) -> None:
    first, second = drawn(tiny), drawn(tiny)
    first.init_stitches(images(30))
    second.init_stitches(source(), batch_size=4)
    for value, other in zip(layers_of(first).values(), layers_of(second).values(), strict=True):
        torch.testing.assert_close(value, other, atol=1e-5, rtol=1e-5)


def test_no_more_images_are_taken_than_asked_for() -> None:
    def endless() -> Iterator[Tensor]:
        while True:
            yield images(8)

    assert [len(x) for x in batches_of(endless(), 20, 5)] == [5, 3, 5, 3, 4]
    assert [len(x) for x in batches_of(iter(images(9)), 7, 3)] == [3, 3, 1]
    assert [len(x) for x in batches_of(images(9), 100, 4)] == [4, 4, 1]
    assert torch.equal(torch.cat(list(batches_of(images(9), 5))), images(9)[:5])


def test_samples_of_a_data_set_are_taken_throughout() -> None:
    data = Samples(100)
    assert sum(map(len, batches_of(data, 4))) == 4
    assert data.asked == [0, 25, 50, 75]
    data = Samples(3)
    assert sum(map(len, batches_of(data, 4))) == 3
    assert data.asked == [0, 1, 2]


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_nothing_but_the_layers_changes() -> None:
    net = drawn(StitchNet, ["levit_128s", "levit_128"], num_classes=3).train()
    net.anchors[1].stages[0].eval()
    before = {name: value.clone() for name, value in net.anchors.state_dict().items()}
    modes = [module.training for module in net.modules()]
    loader = DataLoader(TensorDataset(images(4, 224)), batch_size=2, shuffle=True)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    stitch = net.stitch
    net.init_stitches(loader)
    assert torch.equal(torch.get_rng_state(), state)
    assert modes == [module.training for module in net.modules()]
    assert all(torch.equal(value, before[name]) for name, value in net.anchors.state_dict().items())
    assert not any(m.attention_bias_cache for m in net.modules() if hasattr(m, "attention_bias_cache"))
    assert net.stitch == stitch
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


class WritesOver(nn.Module):
    """A block that overwrites what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.mul_(0.5))


def test_blocks_may_write_over_what_they_are_given() -> None:
    def spec(width: int) -> AnchorSpec:
        stem = nn.Conv2d(3, width, 4, 4)
        blocks = [nn.Sequential(nn.Flatten(2), Turned()), *(WritesOver(width) for _ in range(3))]
        return AnchorSpec(stem, [blocks], nn.Linear(width, 5), widths=(width,), layout="tokens")

    torch.manual_seed(0)
    net = StitchNet([spec(4), spec(4)], img_size=8)
    net.anchors[1].load_state_dict(net.anchors[0].state_dict())
    net.init_stitches(images(50, 8), rcond=1e-6)
    for layer in net.stitch_layers.modules():
        if hasattr(layer, "transform"):
            torch.testing.assert_close(layer.transform.weight, torch.eye(4), atol=1e-2, rtol=0)


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        (images(0), {}, ValueError, "there are no images"),
        ([], {}, ValueError, "there are no images"),
        (images(4, 64), {}, ValueError, "anchor 0 takes images of 32x32, got 64x64"),
        (images(4)[:, :2], {}, ValueError, r"expected images \(batch, 3, height, width\)"),
        (images(4)[0, 0], {}, ValueError, r"expected images \(batch, 3, height, width\)"),
        (images(4).byte(), {}, TypeError, "floating point"),
        (torch.zeros(4, 3, 32, 32), {}, ValueError, "every value of the images is 0: they determine nothing"),
        (images(4) / 0, {}, ValueError, "the images have NaN or infinite values"),
        ([images(4), images(4) * torch.nan], {}, ValueError, "the images have NaN or infinite values"),
        ([images(1)[0], images(1, 16)[0]], {}, ValueError, "images differ in shape"),
        ("images", {}, TypeError, "expected images, a loader of batches or a data set, got a str"),
        (7, {}, TypeError, "got a int"),
        ([{"image": images(1)}], {}, TypeError, r"expected tensors of images, or \(images, labels\), got a dict"),
        (images(4), {"num_samples": 0}, ValueError, "num_samples must be 1 or more, got 0"),
        (images(4), {"batch_size": 0}, ValueError, "batch_size must be 1 or more, got 0"),
        (images(4), {"rcond": 1.0}, ValueError, "rcond must be at least 0 and below 1"),
        (images(4), {"ridge": -1.0}, ValueError, "ridge must be at least 0"),
    ],
)
def test_what_determines_no_layers_is_refused_and_leaves_them(
    source: Any, options: dict, error: type[Exception], message: str
) -> None:
    net = drawn(tiny)
    before = layers_of(net)
    with pytest.raises(error, match=message):
        net.init_stitches(source, **options)
    assert all(torch.equal(value, before[name]) for name, value in layers_of(net).items())
    assert net.has_random_layers


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_features_that_determine_nothing_are_refused_by_name(value: float) -> None:
    net = drawn(tiny)
    before = layers_of(net)
    nn.init.constant_(net.anchors[1].norm.weight, 0.0)  # behind all blocks: no matter
    for parameter in net.anchors[1].parameters():
        nn.init.constant_(parameter, value)
    message = "behind block 0 of anchor 1: every feature is 0" if value == 0 else "behind block . of anchor .: the "
    with pytest.raises(ValueError, match=message):
        net.init_stitches(images(4))
    assert all(torch.equal(value, before[name]) for name, value in layers_of(net).items())


def test_networks_without_values_are_refused() -> None:
    with pytest.raises(ValueError, match="have no values: call to_empty and load weights first"):
        tiny(device="meta").init_stitches(images(4))
