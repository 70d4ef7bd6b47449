"""Official MedViTV2 checkpoints in and out of our layout."""

import pytest
import torch

import zoo
from tests.models.medvit2_goldens import golden, state_shapes
from tests.models.test_medvit2 import PUBLISHED
from zoo.errors import ConversionError
from zoo.models.medvit2 import MedViT2
from zoo.weights.converters.medvit2 import convert_official, export_official, infer_variant

OFFICIAL_COUNTS = {"tiny": 11_338_310, "small": 29_578_912, "base": 66_233_492, "large": 117_275_702}


def _tiny_state():
    return golden("medvit_tiny_224").state()


def test_dead_weights_are_left_out_and_reported():
    state = _tiny_state()
    new, notes = convert_official(state)
    left_out = set(state) - set(new)
    assert len(left_out) == 22 * 4
    assert {key.split(".")[1] for key in left_out} == {"3", "6", "9", "10"}
    assert all(torch.equal(new[key], state[key]) for key in new)
    assert any("88 tensors of features.3.conv, features.6.conv" in note for note in notes)
    assert any("memory order" in note for note in notes)


@pytest.mark.parametrize("size", OFFICIAL_COUNTS)
def test_export_has_the_official_parameters(size):
    model = zoo.create_model(f"medvit2_kan_{size}", num_classes=9, device="meta")
    dead = 0
    for prefix in {
        n[: -len("kan.layers.0.rbf.grid")] for n in model.state_dict() if n.endswith("kan.layers.0.rbf.grid")
    }:
        c = model.state_dict()[f"{prefix}norm2.weight"].shape[0]
        # Two 1x1 convolutions, a depthwise one, three norms, and a gate of two hidden units, at ratio 2.
        dead += 2 * c * c * 2 + 9 * 2 * c + 2 * (2 * c + 2 * c + c) + (2 * c * 2 + 2) + (2 * c * 2 + 2 * c)
    assert PUBLISHED[size][0] + dead == OFFICIAL_COUNTS[size]


def test_export_and_convert_are_inverse():
    state = _tiny_state()
    model = zoo.create_model("medvit2_kan_tiny", num_classes=9)
    model.load_state_dict(convert_official(state)[0], strict=True)
    official = export_official(model.state_dict())
    shapes = {k: (str(v.dtype).removeprefix("torch."), list(v.shape)) for k, v in official.items()}
    assert shapes == {k: (dtype, list(shape)) for k, (dtype, shape) in state_shapes("medvit_tiny_224").items()}
    again, _ = convert_official(official)
    assert list(again) == list(model.state_dict())
    assert all(torch.equal(again[k], v) for k, v in model.state_dict().items())
    assert 0.01 < float(official["features.3.conv.conv.0.weight"].std()) < 0.03
    assert all(torch.equal(v, official[k]) for k, v in export_official(model.state_dict()).items())


def test_variant_is_read_from_shapes():
    assert infer_variant(_tiny_state()) == {
        "name": "medvit2_kan_tiny",
        "dims": (64, 128, 192, 384),
        "depths": (2, 2, 6, 1),
        "stem_chs": (64, 32, 64),
        "num_classes": 9,
        "in_chans": 3,
        "kan_base_branch": False,
    }
    for size in OFFICIAL_COUNTS:
        state = zoo.create_model(f"medvit2_kan_{size}", num_classes=0, device="meta").state_dict()
        assert (infer_variant(state)["name"], infer_variant(state)["num_classes"]) == (f"medvit2_kan_{size}", 0)
    reduced = golden("medvit_reduced")
    found = infer_variant(reduced.state())
    assert found["name"] is None
    assert (found["depths"], found["dims"]) == (tuple(reduced.kwargs["depths"]), tuple(reduced.kwargs["dims"]))


def test_base_branch_is_seen():
    model = MedViT2(
        (32, 64, 64, 64), (1, 1, 3, 2), mix_block_ratio=0.5, kan_base_branch=True, in_chans=1, device="meta"
    )
    new, notes = convert_official(model.state_dict())
    assert any("kan_base_branch=True" in note for note in notes)
    found = infer_variant(new)
    assert (found["kan_base_branch"], found["depths"], found["in_chans"]) == (True, (1, 1, 3, 2), 1)


def test_foreign_names_are_listed():
    state = _tiny_state()
    state |= {f"features.0.mlp.{i}": torch.zeros(1) for i in range(12)}
    with pytest.raises(ConversionError, match=r"12 of 597 names .*features\.0\.mlp\.0, .* and 2 more") as caught:
        convert_official(state)
    assert "features.0.mlp.10" not in str(caught.value)
    with pytest.raises(ConversionError, match=r"layer1\.0\.conv1\.weight"):
        convert_official({"layer1.0.conv1.weight": torch.zeros(1)})


def test_not_four_stages():
    state = {k: v for k, v in _tiny_state().items() if not k.startswith("features.9.")}
    with pytest.raises(ConversionError, match=r"features\.0 to features\.N"):
        infer_variant(state)
    state = {k: v for k, v in _tiny_state().items() if not k.startswith(("features.9.", "features.10."))}
    with pytest.raises(ConversionError, match=r"LLLGLLGLL.*four stages"):
        infer_variant(state)


@pytest.mark.parametrize("name", ["lfp_32_64_s2", "gfp_64_96_sr4", "fasterkan_32_64_32", "na2d_k3_rpb"])
def test_single_layers_are_taken_too(name):
    state = golden(name).state()
    new, _ = convert_official(state)
    dropped = set(state) - set(new)
    assert (
        (len(dropped) == 22 and all(k.startswith("conv.") for k in dropped)) if name.startswith("gfp") else not dropped
    )


def test_through_the_public_door():
    state = {f"module.{k}": v for k, v in _tiny_state().items()}
    converted = zoo.weights.convert({"model": state, "epoch": 3}, "medvit2_kan_tiny")
    assert converted.report.num_classes == 9
    zoo.create_model("medvit2_dina_tiny", num_classes=9).load_state_dict(converted, strict=True)
    with pytest.raises(ConversionError):
        zoo.weights.convert(state, "medvit2_kan_small")
    block = zoo.weights.convert(golden("gfp_64_96_sr4").state(), "GFPBlock")
    assert "conv.conv.0.weight" not in block
