"""Official files of PCSR and of the networks beneath it, as the authors' code writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import zoo
from tests.models.super_resolution.golden import golden, part_of
from zoo.errors import ConversionError
from zoo.weights import convert_file
from zoo.weights.converters.pcsr import hidden_layers


def official(path: Path, state: dict[str, Tensor], name: str = "pcsr-phase1") -> Path:
    """A file as the authors' trainer saves it: arguments, optimiser and iteration beside the weights."""
    spec = {"name": name, "args": {"encoder_spec": {"name": "carn", "args": {"nf": 52}}}, "sd": state}
    torch.save({"model": spec, "optimizer": {"state": {}}, "lr_scheduler": {"T_max": 500}, "iter": 500}, path)
    return path


def state_of(name: str) -> dict[str, Tensor]:
    torch.manual_seed(3)
    return zoo.create_model(name).state_dict()


@pytest.mark.parametrize("name", ["pcsr_fsrcnn_x4", "pcsr_carn_x4", "fsrcnn_x4", "carn_m_x4", "srresnet_x4"])
def test_a_file_becomes_a_folder_that_gives_the_same_images(tmp_path: Path, name: str) -> None:
    torch.manual_seed(3)
    net = zoo.create_model(name).eval()
    report = convert_file(official(tmp_path / "iter.pth", net.state_dict()), tmp_path / "out", name, allow_pickle=True)
    assert report.tensors == len(net.state_dict())
    again = zoo.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    x = torch.rand(1, 3, 8, 9)
    with torch.inference_mode():
        assert torch.equal(net(x), again(x))
    mean = getattr(again, "normalisation").mean  # noqa: B009 - not of nn.Module
    assert mean == ((0.4488, 0.4371, 0.404) if "carn" in name else (0.0, 0.0, 0.0))


@pytest.mark.parametrize("name", ["pcsr_fsrcnn_x4", "pcsr_carn_x4", "pcsr_srresnet_x3"])
def test_networks_of_any_width_are_read_off_their_tensors(tmp_path: Path, name: str) -> None:
    """The golden networks, and what the authors' code gave for them."""
    about, stored = golden(name)
    path = official(tmp_path / "iter.pth", part_of(stored, "state."))
    convert_file(path, tmp_path / "out", "pcsr", allow_pickle=True)
    net: Any = zoo.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    with torch.inference_mode():
        made = net(stored["in.lr"], size=tuple(about["kwargs"]["hr_size"])).flatten(2).mT
    torch.testing.assert_close(made, stored["out.pred_k0_refined"], **about["tolerance"])


def test_a_file_of_the_first_phase_gets_what_it_lacks(tmp_path: Path) -> None:
    state = {k: v for k, v in state_of("pcsr_carn_x4").items() if not k.startswith(("light_sampler", "classifier"))}
    source = official(tmp_path / "iter.pth", state, "pcsr-phase0")
    report = convert_file(source, tmp_path / "out", "pcsr_carn_x4", allow_pickle=True)
    assert "first phase of training: light_sampler and classifier are not in it" in report.notes[0]
    net: Any = zoo.create_model(f"local-dir:{tmp_path / 'out'}")
    assert all(torch.equal(net.state_dict()[key], value) for key, value in state.items())
    assert hidden_layers(net.state_dict())["light_sampler"] == (20, 20, 20)
    other = convert_file(source, tmp_path / "other", "pcsr_carn_x4", allow_pickle=True)
    assert report.notes[-1] == other.notes[-1]  # drawn by a seed of their own: the sums are equal


def test_other_widths_are_named(tmp_path: Path) -> None:
    small = zoo.create_model("pcsr", backbone={"name": "carn", "nf": 52}, upsamplers=[[8], [9, 9]], classifier=[])
    source = official(tmp_path / "iter.pth", small.state_dict())
    with pytest.raises(
        ConversionError, match=r"light_sampler has hidden layers \[8\], \[20, 20, 20\] were expected, heavy"
    ):
        convert_file(source, tmp_path / "out", "pcsr_carn_x4", allow_pickle=True)
    with pytest.raises(ConversionError, match="it is of PCSR, and the model is an original network"):
        convert_file(source, tmp_path / "out", "carn_m_x4", allow_pickle=True)
    with pytest.raises(ConversionError, match="it is an original network, without networks of pixels"):
        convert_file(
            official(tmp_path / "o.pth", state_of("carn_m_x4")), tmp_path / "out", "pcsr_carn_x4", allow_pickle=True
        )
    with pytest.raises(
        ConversionError, match="without networks of pixels; those are fsrcnn_x4, carn_m_x4 and srresnet"
    ):
        zoo.weights.convert(state_of("fsrcnn_x4"), "pcsr")
    lone = {k: v for k, v in small.state_dict().items() if not k.startswith("classifier")}
    with pytest.raises(ConversionError, match="the classifier are missing; there are heavy_sampler, light_sampler"):
        zoo.weights.convert(lone, "pcsr")
    first = {k: v for k, v in small.state_dict().items() if k.startswith(("encoder", "heavy"))}
    with pytest.raises(ConversionError, match=r"heavy network of hidden layers \[9, 9\] and no light one"):
        convert_file(official(tmp_path / "first.pth", first), tmp_path / "out", "pcsr_carn_x4", allow_pickle=True)


def test_other_names_are_listed(tmp_path: Path) -> None:
    state = {**state_of("pcsr_fsrcnn_x4"), "layer4.0.conv1.weight": torch.zeros(1)}
    with pytest.raises(ConversionError, match=r"1 of 39 names are not PCSR's.*layer4\.0\.conv1\.weight"):
        zoo.weights.convert(state, "pcsr_fsrcnn_x4")
