"""Accuracies are of weights: a network with others knows none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

import zoo
from tests.models.stitching.published import tiny
from zoo.registry import weights_entry

NAME = "snnet_vit_nano"
KNOWN = {int(number): value for number, value in weights_entry(f"{NAME}.digits").known["top1"].items()}
#: Options that make another network, or other weights, of it.
OTHERS: list[dict[str, Any]] = [
    {"num_classes": 5},
    {"in_chans": 3},
    {"stitch_norm": False},
    {"cuts": "paired"},
    {"mlp": "kan", "init_batches": torch.zeros(2, 1, 8, 8)},
]


def known(name: str = NAME, **options: Any) -> dict[int, float]:
    return zoo.create_model(name, **options).top1


def test_of_registered_weights() -> None:
    assert known() == {}
    assert known(f"{NAME}.digits") == {}
    assert known(pretrained=True) == known(f"{NAME}.digits", pretrained=True) == KNOWN
    assert known(pretrained=True, num_classes=10, stitch=4, drop_rate=0.1, strict=True) == KNOWN


@pytest.mark.parametrize("options", OTHERS, ids=lambda options: next(iter(options)))
def test_of_another_network_nothing_is_known(options: dict[str, Any], tmp_path: Path) -> None:
    assert known(pretrained=True, **options) == {}
    zoo.save_pretrained(zoo.create_model(NAME, pretrained=True), tmp_path / "net", license="apache-2.0")
    assert known(f"local-dir:{tmp_path / 'net'}", **options) == {}


def test_saved_with_the_weights(tmp_path: Path) -> None:
    net = zoo.create_model(NAME, pretrained=True)
    net.top1 = {2: 50.0}
    zoo.save_pretrained(net, tmp_path / "net", license="apache-2.0")
    place = f"local-dir:{tmp_path / 'net'}"
    assert known(place) == known(place, stitch=0, num_classes=10) == {2: 50.0}
    assert known(place, pretrained=False) == {}
    assert known(checkpoint_path=tmp_path / "net") == {}  # weights alone say nothing
    assert known(checkpoint_path=tmp_path / "net", top1={1: 40}) == {1: 40.0}  # who asks says it
    assert known(checkpoint_path=tmp_path / "net", top1={1: 40}, num_classes=3) == {}


def test_weights_that_change_are_others() -> None:
    net = zoo.create_model(NAME, pretrained=True)
    state = net.state_dict()
    changes = {
        "classifier": lambda: net.reset_classifier(10),
        "weights": lambda: net.load_state_dict(state),
        "size": lambda: net.set_input_size(16),
        "all": net.init_weights,
    }
    for change in changes.values():
        net.top1 = dict(KNOWN)
        change()
        assert net.top1 == {}
    net = zoo.create_model(NAME, pretrained=True)
    net.init_stitches(torch.randn(50, 1, 8, 8))
    assert net.top1 == {number: KNOWN[number] for number in range(3)}  # the anchors are what they were


def test_a_network_that_learns_is_measured_again(tmp_path: Path) -> None:
    net = tiny(depth=2, top1={0: 30.0})
    data = TensorDataset(torch.rand(20, 3, 32, 32), torch.arange(20) % 7)
    zoo.finetune(net, data, val="none", epochs=1, batch_size=10, device="cpu", out=tmp_path / "run", progress=False)
    assert net.top1 == {}


def test_given_accuracies_are_of_the_weights_that_come_first() -> None:
    net = tiny(top1={0: 30.0})
    assert net.top1 == {0: 30.0}
    state = net.state_dict()
    net.load_state_dict(state)
    assert net.top1 == {0: 30.0}
    net.load_state_dict(state)
    assert net.top1 == {}
    net = tiny(top1={0: 30.0})
    net.load_state_dict({k: v for k, v in state.items() if "head" not in k}, strict=False)
    assert net.top1 == {}


def test_anchors_of_one_name_are_told_apart() -> None:
    net = tiny()
    assert net.anchor_labels == tuple(f"vit_tiny_patch16_224 (width {width})" for width in (12, 16, 24))
    assert net.set_stitch(net.anchor_labels[1]).id == 1
    with pytest.raises(zoo.errors.UnknownStitchError, match=r"no anchor alone is called.*width 12\); .*width 16\)"):
        net.set_stitch("vit_tiny_patch16_224")
    assert tiny(widths=(12, 12)).anchor_labels[1] == "vit_tiny_patch16_224 (width 12, depth 3, anchor 1)"
    assert zoo.create_model("snnet_levit", num_classes=2).anchor_labels == ("levit_128s", "levit_128")
