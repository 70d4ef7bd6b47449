"""What is refused of stitched networks, in Python and by the commands: before anything runs, saying what to do."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.cli.test_training import invoke
from tests.models.stitching.published import tiny
from zoo.errors import BudgetError, MismatchError, UnknownModelError, UnknownStitchError, WeightsError
from zoo.models.stitching.anchors import AnchorSpec

VIT: dict[str, Any] = {"name": "vit_tiny_patch16_224", "img_size": 32, "patch_size": 8, "depth": 3, "num_heads": 2}


def vit(width: int, **options: Any) -> dict[str, Any]:
    return {**VIT, "embed_dim": width, "num_classes": 5, **options}


def swin(width: int, **options: Any) -> dict[str, Any]:
    shape = {"depths": [1, 1, 2, 1], "num_heads": [2] * 4, "window_size": 2, "img_size": 64, "num_classes": 5}
    return {"name": "swin_tiny_patch4_window7_224", "embed_dim": width, **shape, **options}


#: Anchors that do not go together -> both of them, and the numbers.
APART: dict[str, tuple[list[Any], str]] = {
    "classes": (
        [vit(8), {**vit(16), "num_classes": 7}],
        r"vit_tiny_.* and vit_tiny_.* cannot be stitched: .* has num_classes 5, .* 7; anchors agree in it",
    ),
    "images": ([vit(8), vit(16, img_size=64)], r"cannot be stitched: .* has images of \(32, 32\), .* \(64, 64\)"),
    "patches": ([vit(8), vit(16, patch_size=16)], r"cannot be stitched: .* has pixels a side of a token 8, .* 16"),
    "reductions": (
        [swin(8), swin(16, patch_size=8)],
        r"cannot be stitched: .* has pixels a side of a token in stage 0 4, .* 8",
    ),
    "prefix tokens": (
        [vit(8), vit(16, reg_tokens=4)],
        r"cannot be stitched: .* has prefix tokens 1, .* 5; anchors agree in it",
    ),
    "no prefix tokens": ([vit(8, class_token=False, global_pool="avg"), vit(16)], "has prefix tokens 0, .* 1"),
    "stages": ([vit(8), swin(16, img_size=32)], "equal numbers of stages"),
}


def model_of(anchor: dict[str, Any]) -> Any:
    return timm.create_model(anchor["name"], **{key: value for key, value in anchor.items() if key != "name"})


@pytest.mark.parametrize("case", APART)
def test_anchors_that_do_not_go_together_are_both_named(case: str) -> None:
    anchors, message = APART[case]
    with pytest.raises(ValueError, match=message):
        zoo.create_model("snnet", anchors=anchors)
    with pytest.raises(ValueError, match=message):
        zoo.stitch([model_of(anchor) for anchor in anchors])


def test_what_is_asked_for_wins_over_what_anchors_say() -> None:
    """Then they do not differ: all have it."""
    net: Any = zoo.create_model("snnet", anchors=[vit(8), {**vit(16), "num_classes": 7}], num_classes=3)
    assert [model.num_classes for model in net.anchors] == [3, 3]
    net = zoo.create_model("snnet", anchors=[vit(8), vit(16, img_size=64)], img_size=48)
    assert net(torch.randn(1, 3, 48, 48), stitch=0).shape == (1, 5)
    with pytest.raises(ValueError, match=r"deit_tiny_patch16_224 has images of \(224, 224\), .* \(384, 384\)"):
        zoo.create_model("snnet_deit", anchors=["deit_tiny_patch16_224", "deit_base_patch16_384"], device="meta")


def test_no_repository_and_no_folder_is_an_anchor_of_a_name(tmp_path: Path) -> None:
    """They would be in a config of somebody else's, too, and lead anywhere."""
    for name in ("hf-hub:alice/model", f"local-dir:{tmp_path}"):
        with pytest.raises(UnknownModelError, match="is a place of weights, not a registered name"):
            zoo.create_model("snnet", anchors=["test_vit", name])
    with pytest.raises(UnknownModelError, match="unknown model 'test_vitt'; did you mean 'test_vit'"):
        zoo.create_model("snnet", anchors=["test_vit", "test_vitt"])


def test_maps_that_would_need_tokens_of_a_class() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    blocks = [[nn.Conv2d(16, 16, 1) for _ in range(3)]]
    end = AnchorSpec(nn.Conv2d(3, 16, 8, 8), blocks, head, widths=(16,), layout="nchw", reductions=(8,))
    with pytest.raises(ValueError, match="prefix tokens 1, AnchorSpec 0"):
        zoo.stitch([vit(8), end])


def test_anchors_from_large_to_small() -> None:
    with pytest.raises(ValueError, match="from small to large"):
        zoo.create_model("snnet", anchors=[vit(16), vit(8)], strict=True)
    with pytest.warns(UserWarning, match=r"from small to large.*by FLOPs the order is"):
        zoo.create_model("snnet", anchors=[vit(16), vit(8)])


def test_windows() -> None:
    for options, message in (
        ({"kernel_size": 0}, "kernel_size must be 1 or more, got 0"),
        ({"stride": -1}, "stride must be 1 or more, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(**options)
    with pytest.warns(UserWarning, match="stride 3 is larger than kernel_size 2"):
        tiny(depth=6, stride=3)


def test_layers_that_are_random_are_said_to_be_once() -> None:
    net = tiny().eval()
    x = torch.randn(1, 3, 32, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x, stitch=0)  # an anchor alone has none
        net.train()(x, stitch=4)
        net.eval()
    with pytest.warns(UserWarning, match=r"random: call init_stitches\(images\), load weights, or train"):
        net(x, stitch=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net(x, stitch=5)


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"kernel_size": 3, "stride": 3}, ("[2, 2]", "kernel_size=3, stride=3")),
        ({"stride": 2}, ("[3, 3]", "stride=2")),
        ({"nearest": False}, ("[5, 5, 5]", "nearest=False")),
    ],
)
def test_other_numbers_of_layers_say_by_which_rules_they_fit(
    options: dict[str, Any], shown: tuple[str, str], tmp_path: Path
) -> None:
    """Loaded into a network by name, into one of `zoo.stitch`, and beside a config of another one."""
    said = "has {} stitching layers by pair of anchors, the model [5, 5]; it would have as many with {}.".format(*shown)
    saved = tiny(depth=6, **options)
    for net in (tiny(depth=6), zoo.stitch(list(tiny(depth=6, cuts="paired").anchors))):
        before = copy.deepcopy(net.state_dict())
        with pytest.raises(MismatchError) as caught:
            zoo.load_weights(net, saved.state_dict())
        assert str(caught.value).endswith(said)
        assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    zoo.save_pretrained(saved, tmp_path / "net")
    changed = dict.fromkeys(options) | {"kernel_size": 2, "stride": 1, "nearest": True}
    with pytest.raises(MismatchError) as caught:
        zoo.create_model(f"local-dir:{tmp_path / 'net'}", **changed)
    assert said in str(caught.value)


def test_numbers_of_layers_that_no_rule_gives() -> None:
    state = tiny(depth=6).state_dict()
    without = {name: value for name, value in state.items() if not name.startswith("stitch_layers.0.4.")}
    with pytest.raises(MismatchError, match=r"2 missing: .* The checkpoint has \[4, 5\] .*, and with no kernel_size, "):
        zoo.load_weights(tiny(depth=6), without)
    norm = {name: value for name, value in state.items() if not name.startswith("anchors.1.norm.")}
    with pytest.raises(MismatchError) as caught:
        zoo.load_weights(tiny(depth=6), norm)
    assert "stitching layers" not in str(caught.value)  # there it does not lie


def as_words(**options: Any) -> list[str]:
    return [word for name, value in options.items() for word in ("--model-arg", f"{name}={json.dumps(value)}")]


#: Options of `zoo train snnet` -> the line on stderr.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "one anchor": ({"anchors": [vit(8)]}, "needs two anchors or more"),
    "a name": ({"anchors": "test_vit"}, "needs two anchors or more"),
    "an unknown anchor": ({"anchors": ["test_vit", "test_vitt"]}, "test_vitt"),
    "patches": ({"anchors": APART["patches"][0]}, "has pixels a side of a token 8"),
    "prefix tokens": ({"anchors": APART["prefix tokens"][0]}, "has prefix tokens 1"),
    "order": ({"anchors": [vit(16), vit(8)], "strict": True}, "from small to large"),
    "kernel": ({"anchors": [vit(8), vit(16)], "kernel_size": 0}, "kernel_size must be 1 or more, got 0"),
    "cuts": ({"anchors": [vit(8), vit(16)], "cuts": "pared"}, "did you mean 'paired'"),
    "two ways of three": ({"anchors": [vit(8)] * 3, "cuts": "two_way"}, "two anchors of one stage, got 3"),
    "an option": ({"anchors": [vit(8), vit(16)], "kernel": 2}, "no argument 'kernel'; did you mean 'kernel_size'"),
    "a stitch": ({"anchors": [vit(8), vit(16)], "stitch": 9}, "there is no stitch 9: they are 0 to 3"),
    "an empty end": (
        {"anchors": [vit(8), vit(16)], "cuts": "two_way", "stitch": 4},
        "runs no block of its last anchor",
    ),
    "accuracies": (
        {"anchors": [vit(8), vit(16)], "top1": {"0": 170}},
        "top1 of stitch 0 must be a percentage, got 170",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_the_command_says(case: str, tmp_path: Path) -> None:
    options, message = WRONG[case]
    words = [*as_words(**options), "--out", tmp_path / "run", "--img-size", 32]
    _, err = invoke("train", "snnet", "digits", *words, code=1)
    line = err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "run").exists()


def test_errors_are_of_their_kinds() -> None:
    """Whoever catches what Python or timm would raise catches these."""
    net = tiny()
    assert issubclass(UnknownStitchError, ValueError)
    assert issubclass(BudgetError, ValueError)
    with pytest.raises(BudgetError, match=r"stitch 0 is the cheapest, with [\d,]+$"):
        net.set_budget(flops=1)
    without = {"name": "vit_base_patch16_gap_224", "depth": 1, "embed_dim": 8, "num_heads": 2}
    with pytest.raises(WeightsError, match="vit_base_patch16_gap_224"):
        zoo.stitch([without, "test_vit"], pretrained=True)
