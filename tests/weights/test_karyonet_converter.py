"""KaryoNet's checkpoints to our modules and back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from tests.karyotype.goldens import golden, part
from zoo.cli import app
from zoo.errors import ConversionError, UnknownModuleError
from zoo.layers import CaseInteraction, KaryotypeAssignment
from zoo.weights import convert
from zoo.weights.converters.karyonet import convert_official, infer_variant, to_official

RUN = CliRunner()
_DAM = part(golden("karyonet_dam")[1], "state")
_MFIM = part(golden("karyonet_mfim")[1], "state")
_TRUNK = {"conv1.weight": torch.zeros(4, 3, 7, 7), "layer1.0.bn1.weight": torch.zeros(4)}
#: Classifiers of the image trunk, under the names that the MFIM's have too.
_OTHER = {"fc1.weight": torch.zeros(24, 2048), "fc1.bias": torch.zeros(24)}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("state", "trunk"), [(_DAM, _TRUNK | _OTHER), (_MFIM, _TRUNK)])
def test_whole_checkpoints(state, trunk, prefix):
    whole = {prefix + key: value for key, value in (trunk | state).items()}
    found, notes = convert_official(whole)
    assert notes == [f"{len(trunk)} tensors of the image trunk are left out"]
    alone, none = convert_official(state)
    assert none == []
    assert found.keys() == alone.keys()
    back = to_official(found)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], state[key]) for key in state)
    assert infer_variant(whole) == infer_variant(found)


def test_variants_build_the_module():
    assert infer_variant(_DAM) == {"hidden_dim": 8, "head_dim": 64, "num_layers": 2}
    KaryotypeAssignment(**infer_variant(_DAM)).load_state_dict(convert_official(_DAM)[0])
    assert infer_variant(_MFIM) == {"dim": 16, "ff_dim": 24, "num_layers": 2, "num_classes": 24}
    both = _MFIM | {"fc2.weight": torch.zeros(2, 16), "fc2.bias": torch.zeros(2)}
    assert infer_variant(both)["num_classes"] == (24, 2)
    module = CaseInteraction(num_heads=4, **infer_variant(both))
    module.load_state_dict(convert_official(both)[0])
    assert to_official(module.state_dict()).keys() == both.keys()
    bare = {key: value for key, value in _MFIM.items() if not key.startswith("fc")}
    assert infer_variant(bare)["num_classes"] == 0


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (_TRUNK, r"neither lstm_row \(DAM\) nor pairconv10 \(MFIM\) is among 2 names: conv1.weight"),
        ({k: v for k, v in _DAM.items() if "hidden2tag_3" not in k}, "has hidden2tag_3.weight, .*; this one has not"),
        (
            {k: v for k, v in _DAM.items() if "lstm_col2" not in k},
            "has lstm_col2.weight_ih_l0, .* and 11 more; this one",
        ),
        (
            {k: v for k, v in _MFIM.items() if not k.startswith("transformer")},
            r"\(MFIM\) has transformer.encoder.layers.0.linear1.weight; this one has not",
        ),
        ({k: v for k, v in _MFIM.items() if k != "pairbn2.bias"}, r"\(MFIM\) has pairbn2.bias; this one has not"),
        (_MFIM | {"pairbn9.bias": torch.zeros(1)}, r"pairbn9.bias of CaseInteraction \(MFIM\) has no place"),
        (
            _MFIM | {"pairconv3.weight": torch.zeros(3, 8, 1, 1)},
            r"pairconv3.weight .* must be \[4, 8, 1, 1\], got \[3,",
        ),
    ],
)
def test_refusals(state, message):
    with pytest.raises(ConversionError, match=message):
        convert_official(state)


@pytest.mark.parametrize("name", ["KaryotypeAssignment", "case/karyonet_assignment"])
def test_by_name_on_disk(name, tmp_path):
    """`zoo convert` finds the converter by the layer, or by what it is registered as, and the one that is asked for."""
    torch.save({"state_dict": _TRUNK | _MFIM | _DAM}, tmp_path / "official.pth")
    source, target = str(tmp_path / "official.pth"), str(tmp_path / "dam.safetensors")
    told = RUN.invoke(app, ["convert", source, target, "--model", name, "--allow-pickle", "--json"])
    assert told.exit_code == 0, told.stderr
    report = json.loads(told.stdout)
    assert report["name"] == "KaryotypeAssignment"
    assert "made by KaryotypeAssignment(hidden_dim=8, head_dim=64, num_layers=2)" in report["notes"]
    module = KaryotypeAssignment(**report["options"])
    module.load_state_dict(load_file(tmp_path / "dam.safetensors"))
    assert torch.equal(module.lstm_row.weight_hh_l0, _DAM["lstm_row.weight_hh_l0"])
    other = convert(_TRUNK | _MFIM | _DAM, "CaseInteraction")
    assert other.report.options["dim"] == 16
    with pytest.raises(
        ConversionError, match=r"is one of KaryotypeAssignment \(DAM\), not of CaseInteraction \(MFIM\)"
    ):
        convert(_DAM, "CaseInteraction")
    with pytest.raises(UnknownModuleError, match="did you mean 'case/karyonet_assignment'"):
        convert(_DAM, "case/karyonet_assign")


def test_refuses_other_layouts():
    with pytest.raises(ConversionError, match=r"KaryotypeAssignment \(DAM\) has no lstm_3.weight"):
        to_official(_DAM | {"lstm_3.weight": torch.zeros(1)})
    with pytest.raises(ConversionError, match="neither lstm_row"):
        to_official(_TRUNK)
