"""Writing config.json: the model as it is now, canonical, and readable by timm."""

import json
import warnings

import pytest
import timm
import torch
from torch import nn

import zoo
from zoo.errors import ConfigError
from zoo.models.data_config import set_data_config
from zoo.weights import describe, write_config
from zoo.weights.config import parse_config
from zoo.weights.description import dump_config


def test_equals_what_timm_writes_plus_our_block(tmp_path):
    from timm.models._hub import save_config_for_hf

    model = timm.create_model("test_resnet", num_classes=5)
    set_data_config(model, label_names=list("abcde"))
    ours = describe(model)
    block = ours.pop("zoo")
    theirs = tmp_path / "config.json"
    save_config_for_hf(model, str(theirs), model_config={"label_names": list("abcde")})
    theirs = json.loads(theirs.read_text())
    theirs["pretrained_cfg"].pop("label_names", None)  # they stand at the top already
    assert ours == theirs
    assert block == {
        "format": 1,
        "version": zoo.__version__,
        "requires": {"timm": ">=1.0.31"},
        "params": sum(p.numel() for p in model.parameters()),
        "dtype": "float32",
    }


def test_the_golden_config_is_written_again_from_its_model():
    from tests.weights.test_config import GOLDEN

    golden = json.loads(GOLDEN.read_text())
    model = timm.create_model("test_resnet", num_classes=5)
    set_data_config(model, label_names=golden["label_names"])
    ours = describe(model)
    assert {k: ours[k] for k in golden} == golden


def test_describes_the_model_after_every_change():
    model = timm.create_model("test_vit", num_classes=5, in_chans=1, img_size=96, drop_path_rate=0.1)
    set_data_config(model, label_names=list("abcde"))
    model.reset_classifier(3, "avg")
    content = describe(model)
    assert content["num_classes"] == content["pretrained_cfg"]["num_classes"] == 3
    assert "label_names" not in content  # there were five, they name nothing now
    assert content["global_pool"] == "avg"
    args = content["model_args"]
    expected = {"num_classes": 3, "in_chans": 1, "img_size": [96, 96], "global_pool": "avg"}
    assert args == expected | {"fc_norm": False}  # timm's note that the norm stays where it was
    assert content["pretrained_cfg"]["input_size"] == [1, 96, 96]
    assert content["pretrained_cfg"]["mean"] == [0.5]


def test_statistics_of_the_user_are_in_it():
    model = timm.create_model("test_resnet", in_chans=2)
    set_data_config(model, mean=(0.1, 0.2), std=(0.3, 0.4), crop_pct=1.0)
    cfg = describe(model)["pretrained_cfg"]
    assert (cfg["mean"], cfg["std"], cfg["crop_pct"]) == ([0.1, 0.2], [0.3, 0.4], 1.0)


def test_a_config_with_repeated_statistics_is_written_without_noise():
    model = timm.create_model("test_resnet", in_chans=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        content = describe(model)
    assert len(content["pretrained_cfg"]["mean"]) == 5


def test_equal_models_give_equal_bytes(tmp_path):
    facts = {"files": {"b": {"size": 1, "sha256": "x"}, "a": {"sha256": "y", "size": 2}}}
    for folder in "ab":
        model = timm.create_model("test_vit", num_classes=3)
        write_config(describe(model, metrics=[{"name": "accuracy", "value": 0.1 + 0.2}], **facts), tmp_path / folder)
    text = (tmp_path / "a").read_text()
    assert text == (tmp_path / "b").read_text()
    assert text.endswith("}\n")
    assert '"value": 0.30000000000000004' in text
    block = json.loads(text)["zoo"]
    assert list(block) == sorted(block)


def test_read_and_written_again_is_the_same(tmp_path):
    model = timm.create_model("test_convnext", num_classes=4)
    content = describe(model)
    config = parse_config(json.loads(dump_config(content)), "x")
    again = timm.create_model(config.architecture, pretrained_cfg=config.pretrained_cfg, **config.model_args)
    assert dump_config(describe(again)) == dump_config(content)


def test_half_precision_and_label_descriptions_and_licence_are_told():
    model = timm.create_model("test_vit", num_classes=2).to(torch.bfloat16)
    set_data_config(model, label_names=["cat", "dog"], label_descriptions={"cat": "a small feline"})
    content = describe(model, license="mit")
    assert content["zoo"]["dtype"] == "bfloat16"
    assert content["label_names"] == ["cat", "dog"]
    assert content["label_descriptions"] == {"cat": "a small feline"}
    assert content["pretrained_cfg"]["license"] == "mit"


def test_a_shared_matrix_needs_an_owner_in_the_model():
    from zoo.layers import TverskyProjection

    model = zoo.create_model("tversky_mnist_cnn")
    outside = nn.Embedding(10, 36)
    model.tproj = TverskyProjection(36, 10, 36, prototypes=outside)
    with pytest.raises(ConfigError, match=r"prototypes of tproj is shared with SharedBank\(Embedding \(10, 36\)\)"):
        describe(model)
    model.embedding = outside
    assert describe(model)["architecture"] == "tversky_mnist_cnn"


def test_models_that_nobody_could_rebuild_are_refused():
    with pytest.raises(ConfigError, match=r"Linear was not made by a registered name.*register_model"):
        describe(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match=r"feature extractor \(features_only=True\)"):
        describe(timm.create_model("test_resnet", features_only=True))
    model = timm.create_model("test_vit", norm_layer=nn.LayerNorm)
    with pytest.raises(ConfigError, match=r"model_args\['norm_layer'\] of 'test_vit'.*JSON.*pass the name"):
        describe(model)


@pytest.mark.parametrize("value", [float("nan"), {1, 2}])
def test_facts_that_json_cannot_hold_are_refused_by_name(value):
    model = timm.create_model("test_vit")
    with pytest.raises(ConfigError, match=r"zoo\['training'\]"):
        describe(model, training={"lr": value})
