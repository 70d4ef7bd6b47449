"""Public checkpoints of wide residual networks become trunks of both scales."""

from __future__ import annotations

import pytest
import torch

import zoo
from tests.layers.varifocal.goldens import golden, part_of
from zoo.errors import ConversionError
from zoo.weights.conversion import convert_file
from zoo.weights.save import save_safetensors


def _public() -> dict[str, torch.Tensor]:
    return part_of(golden("wide_trunk_16_1")[1], "state.")


def test_a_file_becomes_a_network(tmp_path):
    save_safetensors(_public(), tmp_path / "wrn.safetensors")
    report = convert_file(tmp_path / "wrn.safetensors", tmp_path / "out", "varifocal_chromosome")
    assert report.in_chans == 3
    assert any("drawn anew" in note for note in report.notes)
    assert any("fc.weight" in note for note in report.notes)
    model = zoo.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    assert (model.num_classes, model.num_polarities) == (24, 2)
    for net in (model.g_net, model.l_net):
        assert torch.equal(net.trunk.stages[1][0].shortcut.weight, _public()["block2.layer.0.convShortcut.weight"])
        assert torch.equal(net.trunk.norm.running_var, _public()["bn1.running_var"])
    assert model(torch.rand(2, 3, 64, 64)).type.isfinite().all()
    grey = zoo.create_model(f"local-dir:{tmp_path / 'out'}", in_chans=1)
    for net in (grey.g_net, grey.l_net):
        torch.testing.assert_close(net.trunk.stem.weight, _public()["conv1.weight"].sum(1, keepdim=True))


def test_counters_that_some_savers_leave_out():
    state = {key: value for key, value in _public().items() if not key.endswith("num_batches_tracked")}
    converted = zoo.weights.convert(state, "varifocal_chromosome")
    assert int(converted["g_net.trunk.norm.num_batches_tracked"]) == 0


def test_our_own_names_stay():
    model = zoo.create_model("varifocal_chromosome_nano")
    state = zoo.weights.convert(model.state_dict(), "varifocal_chromosome_nano")
    assert state.keys() == model.state_dict().keys()


@pytest.mark.parametrize("kind", ["other", "part"])
def test_other_checkpoints_are_refused(kind):
    state = _public()
    if kind == "other":
        state = {f"layer{i}.weight": torch.zeros(1) for i in range(14)}
        message = r"14 of 14 names are not those .*layer9.weight and 4 more"
    else:
        del state["block2.layer.1.conv2.weight"]
        message = r"not a whole wide residual network: .*stages\.1\.1\.conv2\.weight"
    with pytest.raises(ConversionError, match=message):
        zoo.weights.convert(state, "varifocal_chromosome")
