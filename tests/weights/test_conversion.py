"""Official checkpoints in our layout, in memory and on disk."""

import pytest
import timm
import torch

import zoo
from zoo.errors import ConversionError, PickleRefusedError, UnknownModelError
from zoo.weights import convert, convert_file
from zoo.weights.converters.medvit2 import export_official
from zoo.weights.safetensors_file import SafetensorsFile

NAME = "medvit2_kan_nano"


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return zoo.create_model(NAME, num_classes=4, in_chans=1).eval()


@pytest.fixture(scope="module")
def official(model):
    return export_official(model.state_dict())


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def wrapped(state):
    return {f"module.{k}": v for k, v in state.items()}


@pytest.mark.parametrize("wrap", [dict, lambda state: {"model": state, "epoch": 1}, wrapped])
def test_a_checkpoint_is_mapped_with_its_own_classes_and_channels(model, official, wrap):
    converted = convert(wrap(official), NAME)
    assert same(converted, model.state_dict())
    report = converted.report
    assert (report.name, report.num_classes, report.in_chans) == (NAME, 4, 1)
    assert report.tensors == len(converted) < len(official)
    assert any("dropped" in note for note in report.notes)
    assert str(report).startswith(f"{len(converted)} tensors for {NAME}")


def test_a_checkpoint_without_classifier_has_no_classes(official):
    bare = {k: v for k, v in official.items() if not k.startswith("proj_head")}
    assert convert(bare, NAME).report.num_classes == 0


def test_every_key_without_a_place_and_every_gap_is_named(official):
    state = dict(official)
    del state["norm.weight"]
    with pytest.raises(ConversionError, match=r"nothing for norm\.weight"):
        convert(state, NAME)
    with pytest.raises(ConversionError, match=r"not_ours\.weight"):
        convert({**official, "not_ours.weight": torch.zeros(1)}, NAME)
    with pytest.raises(ConversionError, match=r"norm\.weight has shape \(3,\), the model's is"):
        convert({**official, "norm.weight": torch.zeros(3)}, NAME)


def test_the_wrong_model_is_told_in_a_few_names_and_counts(official):
    with pytest.raises(ConversionError, match=r"no place for .* and \d+ more; nothing for .* and \d+ more") as caught:
        convert(official, "medvit2_kan_tiny")
    assert len(str(caught.value)) < 1500


def test_unknown_targets_get_near_names(official):
    with pytest.raises(UnknownModelError, match=f"did you mean .*'{NAME}'"):
        convert(official, "medvit2_kan_nan")
    with pytest.raises(UnknownModelError, match="'GFPBlock'"):
        convert(official, "GFPBlok")


def test_a_layer_class_of_the_family_is_a_target_too(official):
    prefix = next(k for k in official if k.endswith("kan.layers.0.spline_linear.weight"))
    prefix = prefix.removesuffix("kan.layers.0.spline_linear.weight")
    block = {k.removeprefix(prefix): v for k, v in official.items() if k.startswith(prefix)}
    converted = convert(block, "GFPBlock")
    assert converted.keys() == {k for k in block if not k.startswith("conv.")}
    assert converted.report.num_classes is None


def test_a_model_of_no_family_takes_its_own_layout(monkeypatch):
    """Without a converter the layout is the model's own; the comparison is as strict."""
    from zoo.registry import Registry
    from zoo.registry.entry import Entry, Family

    registry = Registry([Entry("resnet10t", "model", "timm.models.resnet:resnet10t", Family("none"))])
    monkeypatch.setattr("zoo.registry.default_registry", lambda: registry)
    state = timm.create_model("resnet10t", num_classes=2).state_dict()
    assert convert({"state_dict": state}, "resnet10t").report.num_classes == 2
    with pytest.raises(ConversionError, match="no place for extra"):
        convert({**state, "extra": torch.zeros(1)}, "resnet10t")


# --- on disk ---


@pytest.fixture
def pth(official, tmp_path):
    torch.save({"model": official}, tmp_path / "official.pth")
    return tmp_path / "official.pth"


def test_a_file_becomes_a_folder_that_create_model_reads(pth, tmp_path, model):
    report = convert_file(pth, tmp_path / "out", NAME, allow_pickle=True)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["config.json", "model.safetensors"]
    again = zoo.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    image = torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(image), model(image))
    assert (again.num_classes, again.in_chans) == (4, 1)
    import hashlib

    digest = hashlib.sha256((tmp_path / "out/model.safetensors").read_bytes()).hexdigest()
    assert report.notes[-1] == f"sha256 {digest}"


def test_a_file_becomes_a_file(pth, tmp_path, model):
    convert_file(pth, tmp_path / "out.safetensors", NAME, allow_pickle=True)
    file = SafetensorsFile(tmp_path / "out.safetensors")
    assert same(file.load(), model.state_dict())
    assert file.metadata == {"format": "pt", "zoo_name": NAME}


@pytest.mark.parametrize("name", ["cv3.bin", "w.pth", "w.SAFETENSORS", "w.onnx", "w.safetensor"])
def test_a_file_of_another_kind_is_not_made_a_folder(pth, tmp_path, name):
    with pytest.raises(ValueError, match=rf"{name} looks like a file.*write to .*\.safetensors, or to a folder"):
        convert_file(pth, tmp_path / name, NAME, allow_pickle=True)
    assert [p.name for p in tmp_path.iterdir()] == ["official.pth"]


def test_only_a_folder_of_a_model_is_replaced(pth, tmp_path):
    for _ in range(2):
        convert_file(pth, tmp_path / "cv3.v1", NAME, allow_pickle=True)
    (tmp_path / "cv3.v1/notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"cv3\.v1 holds other files .*\(notes\.txt\).*choose a new one"):
        convert_file(pth, tmp_path / "cv3.v1", NAME, allow_pickle=True)
    assert (tmp_path / "cv3.v1/notes.txt").read_text() == "mine"
    (tmp_path / "plain").write_text("mine")
    with pytest.raises(ValueError, match="plain is a file"):
        convert_file(pth, tmp_path / "plain", NAME, allow_pickle=True)
    assert (tmp_path / "plain").read_text() == "mine"
    with pytest.raises(ValueError, match=r"d\.safetensors is a folder"):
        (tmp_path / "d.safetensors").mkdir()
        convert_file(pth, tmp_path / "d.safetensors", NAME, allow_pickle=True)


def test_pickles_need_leave_and_a_failure_leaves_nothing(pth, tmp_path):
    with pytest.raises(PickleRefusedError):
        convert_file(pth, tmp_path / "out", NAME)
    with pytest.raises(ConversionError):
        convert_file(pth, tmp_path / "out", "medvit2_kan_tiny", allow_pickle=True)
    with pytest.raises(ValueError, match="not the recorded file"):
        convert_file(pth, tmp_path / "out", NAME, allow_pickle=True, sha256="0" * 64)
    assert [p.name for p in tmp_path.iterdir()] == ["official.pth"]


def test_a_layer_has_no_config(pth, tmp_path, official):
    torch.save({k.removeprefix("features.2."): v for k, v in official.items() if k.startswith("features.2.")}, pth)
    with pytest.raises(ValueError, match=r"write to a \.safetensors file"):
        convert_file(pth, tmp_path / "out", "GFPBlock", allow_pickle=True)
    assert convert_file(pth, tmp_path / "out.safetensors", "GFPBlock", allow_pickle=True).tensors
