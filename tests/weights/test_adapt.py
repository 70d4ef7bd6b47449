"""Other channels and other classes, decided by the real shapes."""

import json
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from timm.models import adapt_input_conv as timm_adapt_input_conv

from zoo.weights.adapt import adapt_input_conv, classifier_names

GOLDEN = Path(__file__).parents[1] / "golden/platform"


@pytest.mark.parametrize("name", ["rgb", "13band", "space2depth"])
def test_first_conv_equals_the_golden_values_exactly(name):
    facts = json.loads((GOLDEN / f"first_conv_{name}.json").read_text())["kwargs"]
    tensors = safetensors.torch.load_file(GOLDEN / f"first_conv_{name}.safetensors")
    weight = tensors["in.weight"]
    for target in facts["targets"]:
        if (expected := tensors.get(f"out.to_{target}")) is None:
            with pytest.raises(ValueError, match="space-to-depth"):
                adapt_input_conv(weight, target, facts["base_chans"])
        else:
            assert torch.equal(adapt_input_conv(weight, target, facts["base_chans"]), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("target", [1, 2, 5])
def test_first_conv_equals_timm_in_other_types(dtype, target):
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)).to(dtype)
    ours = adapt_input_conv(weight, target, 3)
    assert ours.dtype == dtype
    assert torch.equal(ours, timm_adapt_input_conv(target, weight, 3))


def test_a_constant_image_keeps_its_response():
    weight = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    response = weight.sum(dim=(1, 2, 3))
    for target in (1, 6):
        assert torch.allclose(adapt_input_conv(weight, target, 3).sum(dim=(1, 2, 3)), response, atol=1e-5)


@pytest.mark.parametrize(("shape", "chans"), [((4, 3), (1, 3)), ((4, 5, 3, 3), (1, 3)), ((4, 3, 3, 3), (0, 3))])
def test_first_conv_refuses_what_is_no_such_weight(shape, chans):
    with pytest.raises(ValueError, match=r"channel|convolution"):
        adapt_input_conv(torch.zeros(shape), *chans)


def test_timm_and_the_reader_of_shapes_agree_on_the_channels_of_a_checkpoint():
    """The weight of a patch embedding says how many channels it was made for."""
    from zoo.weights.adapt import adapt_first_conv

    model = timm.create_model("test_vit", in_chans=5)
    shapes = {k: v.shape for k, v in model.state_dict().items()}
    source = timm.create_model("test_vit", in_chans=2).state_dict()
    tensors = dict(source)
    notes = adapt_first_conv(model, tensors, shapes, allowed=True, declared=None, origin="x")
    assert notes == {"patch_embed.proj.weight": "2 -> 5 image channels"}
    expected = timm_adapt_input_conv(5, source["patch_embed.proj.weight"], 2)
    assert torch.equal(tensors["patch_embed.proj.weight"], expected)


def test_a_classifier_whose_name_leads_into_it_is_the_whole_layer():
    from zoo.layers import TverskyProjection

    model = torch.nn.Sequential()
    model.add_module("head", torch.nn.Sequential())
    for name, layer, path in (
        ("head.fc.prototypes", TverskyProjection(4, 3), "head.fc"),
        ("head.fc.prototypes", torch.nn.Identity(), "head.fc"),
        ("head.fc", torch.nn.Linear(4, 3), "head.fc"),
        ("head.fc", torch.nn.Identity(), "head.fc"),
        ("fc", torch.nn.Linear(4, 3), "fc"),
    ):
        model.head.fc = layer
        model.pretrained_cfg = {"classifier": name}
        assert classifier_names(model) == (path,)
