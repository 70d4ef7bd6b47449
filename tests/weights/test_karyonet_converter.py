"""KaryoNet's checkpoints to our modules and back."""

from __future__ import annotations

import pytest
import torch

from tests.karyotype.goldens import golden, part
from zoo.errors import ConversionError
from zoo.layers import CaseInteraction, KaryotypeAssignment
from zoo.weights.converters.karyonet import convert_official, infer_variant, to_official

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
        ({k: v for k, v in _DAM.items() if "hidden2tag_3" not in k}, "has hidden2tag_3.weight; this one has not"),
        (
            {k: v for k, v in _MFIM.items() if not k.startswith("transformer")},
            r"\(MFIM\) has transformer.encoder.layers.0.norm2.bias; this one has not",
        ),
    ],
)
def test_refusals(state, message):
    with pytest.raises(ConversionError, match=message):
        convert_official(state)


def test_refuses_other_layouts():
    with pytest.raises(ConversionError, match=r"KaryotypeAssignment \(DAM\) has no lstm_3.weight"):
        to_official(_DAM | {"lstm_3.weight": torch.zeros(1)})
    with pytest.raises(ConversionError, match="neither lstm_row"):
        to_official(_TRUNK)
