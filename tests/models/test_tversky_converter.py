"""Checkpoints of the authors' Tversky library in our layout."""

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from tests.layers.tversky.goldens import golden, needs_goldens
from zoo.errors import ConversionError
from zoo.layers.tversky import TverskyProjection, TverskySimilarity
from zoo.models.tversky_mnist import TverskyMnistCnn
from zoo.weights.converters.tversky import convert_official, from_official_options, infer_variant


def example(**options) -> dict[str, torch.Tensor]:
    """A state dict with the names and shapes of the library's example."""
    torch.manual_seed(0)
    return zoo.create_model("tversky_mnist_cnn", **options).state_dict()


def without(state: dict, *names: str) -> dict:
    return {k: v for k, v in state.items() if k not in names}


def test_names_stay_and_remarks_are_made():
    state = example()
    state["tproj.beta"] = torch.tensor(-0.25)
    new, notes = convert_official(state)
    assert list(new) == list(state)
    assert all(new[k] is v for k, v in state.items())
    assert any("contrast, product and ignorematch" in note for note in notes)
    assert any("below 0" in note and note.endswith("tproj.beta") for note in notes)


@needs_goldens
def test_the_examples_tensors_give_the_authors_logits():
    case = golden("mnist_cnn")
    state = {f"module.{k}": v.float() for k, v in case.part("state").items()}
    converted = zoo.weights.convert({"state_dict": state, "epoch": 3}, "tversky_mnist_cnn")
    assert (converted.report.num_classes, converted.report.in_chans, converted.report.options) == (10, 1, {})
    model = zoo.create_model("tversky_mnist_cnn").eval()
    model.load_state_dict(converted, strict=True)
    x = case.tensors["in.x"].float()
    with torch.no_grad():
        case.check(model(x), case.tensors["out.y"], "logits")
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        case.check(features, case.tensors["out.features"], "features")
        measures = features @ model.tproj.feature_bank.weight.T
        case.check(measures.relu().sum(-1), case.tensors["out.salience"], "salience")


def test_another_bank_becomes_an_option_of_the_model(tmp_path):
    state = TverskyMnistCnn(7, 3, projection={"num_features": 20}).state_dict()
    save_file(state, tmp_path / "official.safetensors")
    report = zoo.weights.convert_file(tmp_path / "official.safetensors", tmp_path / "ours", "tversky_mnist_cnn")
    assert (report.num_classes, report.in_chans) == (7, 3)
    assert report.options == {"projection": {"num_features": 20}}
    model = zoo.create_model(f"local-dir:{tmp_path / 'ours'}")
    assert model.tproj.num_features == 20
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_variant_is_read_from_shapes():
    assert infer_variant(example(num_classes=4)) == {
        "name": "tversky_mnist_cnn",
        "dims": (12, 12, 36),
        "num_classes": 4,
        "in_chans": 1,
        "projection": {},
    }
    wide = TverskyMnistCnn(3, 2, dims=(4, 8, 16), projection={"num_features": 5}).state_dict()
    found = infer_variant(wide)
    assert (found["name"], found["dims"], found["in_chans"]) == (None, (4, 8, 16), 2)
    assert found["projection"] == {"num_features": 5}
    headless = infer_variant(example(num_classes=0))
    assert (headless["num_classes"], headless["projection"]) == (0, {})
    for state in (without(example(), "conv4.weight"), {**example(), "fc.weight": torch.zeros(1)}):
        with pytest.raises(ConversionError, match="conv1 to conv6"):
            infer_variant(state)


@pytest.mark.parametrize("cls", [TverskyProjection, TverskySimilarity])
def test_single_layers_are_taken_too(cls):
    sizes = (6, 5, 4) if cls is TverskyProjection else (6, 4)
    state = cls(*sizes).state_dict()
    converted = zoo.weights.convert(state, cls.__name__)
    cls(*sizes).load_state_dict(converted, strict=True)
    with pytest.raises(ConversionError, match=r"beside .* there is fc\.bias"):
        zoo.weights.convert({**state, "fc.bias": torch.zeros(2)}, cls.__name__)


def test_a_backbone_with_the_librarys_head_is_one_of_ours():
    state = zoo.create_model("resnet18_tversky_head", num_classes=3).state_dict()
    converted = zoo.weights.convert(state, "resnet18_tversky_head")
    assert converted.report.num_classes == 3
    zoo.create_model("resnet18_tversky_head", num_classes=3).load_state_dict(converted, strict=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "tproj.theta"), r"tproj lacks tproj\.theta"),
        (lambda s: without(s, "tproj.feature_bank.weight"), r"lacks tproj\.feature_bank\.weight"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("conv")}, "no Tversky layer among 12 names"),
        (lambda s: {**s, "tproj.alpha": torch.ones(1)}, r"tproj\.alpha must be one number.*\(1,\)"),
        (lambda s: {**s, "tproj.prototypes.weight": torch.ones(10, 35)}, r"\(10, 35\).*\(36, 36\).*as many columns"),
    ],
)
def test_what_is_no_layer_of_the_library_is_refused(change, message):
    with pytest.raises(ConversionError, match=message):
        convert_official(change(example()))


def test_the_model_is_compared_as_well():
    with pytest.raises(ConversionError, match=r"no place for conv7\.weight"):
        zoo.weights.convert({**example(), "conv7.weight": torch.zeros(1)}, "tversky_mnist_cnn")


def test_official_constructor_arguments_are_translated():
    options = from_official_options(
        embedding_dim=6,
        class_count=3,
        fbank_size=5,
        similarity_model="ratio",
        normalize=True,
        intersection_reduction="mean",
        difference_reduction="subtractmatch",
    )
    layer = TverskyProjection(**options)
    assert (layer.in_features, layer.out_features, layer.num_features) == (6, 3, 5)
    assert (layer.similarity, layer.intersection, layer.difference) == ("ratio", "mean", "substractmatch")
    assert layer.normalize
    bank = layer.feature_bank.weight.detach()
    assert float(bank.min()) >= 0
    assert float(bank.max()) < 1
    pair = TverskySimilarity(**from_official_options(6, fbank_size=5, similarity_model="contrast", normalize=False))
    assert (pair.in_features, pair.num_features, pair.intersection) == (6, 5, "product")
    with pytest.raises(ValueError, match=r"'contrast'.*got 'contrats'"):
        from_official_options(6, 3, 5, similarity_model="contrats", normalize=False)


def test_round_trip_of_two_layers_on_one_bank(tmp_path):
    first = TverskyProjection(6, 3, 5)
    model = torch.nn.ModuleDict({"first": first, "second": TverskyProjection(6, 4, feature_bank=first)})
    save_file(model.state_dict(), tmp_path / "two.safetensors")
    state = load_file(tmp_path / "two.safetensors")
    assert "second.feature_bank.weight" not in state
    model.load_state_dict(state, strict=True)
