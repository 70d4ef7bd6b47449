"""How images are prepared: the model's real channels and size, and values of the user that are checked."""

import pytest
import timm
import torch
from timm.data import create_transform, resolve_model_data_config

from zoo.models.data_config import data_config, set_data_config


def test_equals_timm_s_for_a_model_as_registered():
    for name in ("test_vit", "resnet18", "convnext_atto"):
        with torch.device("meta"):
            model = timm.create_model(name)
        assert data_config(model) == resolve_model_data_config(model)


def test_one_channel_takes_the_mean_of_the_statistics():
    model = timm.create_model("resnet18", in_chans=1, device="meta")
    config = data_config(model)
    assert config["input_size"] == (1, 224, 224)
    assert config["mean"] == pytest.approx(((0.485 + 0.456 + 0.406) / 3,))
    assert config["std"] == pytest.approx(((0.229 + 0.224 + 0.225) / 3,))


def test_a_grey_image_goes_through_the_transform():
    """With timm's own configuration this fails: three means for one channel."""
    from PIL import Image

    model = timm.create_model("test_resnet", in_chans=1)
    transform = create_transform(**data_config(model), is_training=False)
    image = transform(Image.new("L", (200, 170), 128))
    assert image.shape == (1, 160, 160)
    assert torch.allclose(image, torch.full_like(image, (128 / 255 - 0.5) / 0.5), atol=1e-6)


def test_more_channels_repeat_the_statistics_and_ask_for_real_ones():
    model = timm.create_model("resnet18", in_chans=4, device="meta")
    with pytest.warns(UserWarning, match=r"4 channels but only 3 values.*set_data_config"):
        config = data_config(model)
    assert config["mean"] == (0.485, 0.456, 0.406, 0.485)
    assert config["input_size"] == (4, 224, 224)


def test_the_image_size_is_the_model_s():
    model = timm.create_model("test_vit", img_size=(96, 64))
    assert data_config(model)["input_size"] == (3, 96, 64)
    model.set_input_size((64, 64))
    assert data_config(model)["input_size"] == (3, 64, 64)


def test_values_of_the_user_win():
    model = timm.create_model("test_resnet", in_chans=2, num_classes=3)
    config = set_data_config(
        model,
        input_size=(2, 96, 96),
        mean=0.25,
        std=[0.1, 0.2],
        interpolation="nearest",
        crop_pct=1,
        crop_mode="squash",
    )
    assert config == data_config(model)
    assert config == {
        "input_size": (2, 96, 96),
        "interpolation": "nearest",
        "mean": (0.25, 0.25),
        "std": (0.1, 0.2),
        "crop_pct": 1.0,
        "crop_mode": "squash",
    }
    set_data_config(model, label_names=["a", "b", "c"])
    assert model.pretrained_cfg["label_names"] == ("a", "b", "c")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"mean": (0.1, 0.2)}, "mean has 2 values, the model takes 3 channels"),
        ({"mean": ("a", "b", "c")}, "finite numbers"),
        ({"mean": float("nan")}, "finite numbers"),
        ({"std": (0.1, 0.0, 0.1)}, "std must be positive"),
        ({"input_size": (1, 160, 160)}, "has 1 channels, the model takes 3"),
        ({"input_size": (3, 160)}, "three whole numbers"),
        ({"input_size": 160}, "three whole numbers"),
        ({"interpolation": "cubic"}, "bicubic"),
        ({"crop_pct": 0}, r"\(0, 2\]"),
        ({"crop_mode": "middle"}, "center"),
        ({"label_names": ["a"]}, "has 1 names, the model has 3 classes"),
        ({"label_names": ["a", "b", "a"]}, "twice: 'a'"),
        ({"label_names": "abc"}, "list of texts"),
        ({"label_names": ["a", "b", 3]}, "list of texts"),
        ({"label_descriptions": {"a": 1}}, "map label names to texts"),
        ({"license": 3}, "must be a text"),
    ],
)
def test_wrong_values_are_refused_and_change_nothing(fields, said):
    model = timm.create_model("test_resnet", num_classes=3)
    before = dict(model.pretrained_cfg)
    with pytest.raises(ValueError, match=said):
        set_data_config(model, crop_pct=0.5, **fields) if "crop_pct" not in fields else set_data_config(model, **fields)
    assert model.pretrained_cfg == before


def test_a_size_that_a_fixed_model_does_not_have_is_refused():
    model = timm.create_model("test_vit")
    with pytest.raises(ValueError, match=r"built for images of 160 x 160.*img_size=96"):
        set_data_config(model, input_size=(3, 96, 96))


def test_an_unknown_field_gets_near_names_and_a_bare_module_is_refused():
    model = timm.create_model("test_resnet", num_classes=3)
    with pytest.raises(TypeError, match="did you mean 'label_names'"):
        set_data_config(model, label_name=["a"])
    with pytest.raises(ValueError, match="no pretrained_cfg"):
        set_data_config(torch.nn.Linear(2, 2), mean=0.5)


def test_one_number_stands_for_all_channels_and_zero_is_no_gap():
    model = timm.create_model("test_resnet", num_classes=3)
    model.pretrained_cfg |= {"mean": 0, "std": 0.5}
    assert (data_config(model)["mean"], data_config(model)["std"]) == ((0, 0, 0), (0.5, 0.5, 0.5))
