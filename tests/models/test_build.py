"""Models that functions make, as timm loads them: saved, and by name."""

from __future__ import annotations

import inspect

import pytest
import timm
import torch

import zoo
from zoo.registry import default_registry

_TRUNK = {"stem": 4, "widths": (4, 4, 4), "depths": (1, 1, 1)}
_SCALES = {"img_size": 32, "loc_hidden": 4, "mlp_hidden": 4, "head_pool": 1, "loc_pool": 1}
_WIDE = {**_SCALES, **_TRUNK}
_GPT2 = {"num_features": 8, "vocab_size": 40, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
#: Of models that are larger than a test needs, smaller ones. None: made by a function that another of these has, or of
#: channels without an image size, which timm does not read (and no card promises).
SMALLER = {
    "zoo_composite": {"base": "test_resnet", "head": "kan"},
    **dict.fromkeys(("resnet18_kan_head", "vit_tiny_kan_avg", "vit_small_dina", "swin_tiny_kan")),
    **dict.fromkeys(("convnext_atto_kan", "vit_tiny_r_s16_kan", "resnet18_tversky_head", "tversky_resnet50_nabirds")),
    "hopfield_mnist_bags": None,
    "pcsr": {"backbone": "fsrcnn", "scale": 2},
    **dict.fromkeys(("tversky_gpt2_head", "tversky_gpt2_tied", "tversky_gpt2_all", "tversky_gpt2_all_untied"), _GPT2),
    "varifocal": {**_SCALES, "backbone": "test_resnet"},
    **dict.fromkeys(("varifocal_chromosome_r18", "varifocal_chromosome_r34")),
    **dict.fromkeys(("varifocal_chromosome", "varifocal_chromosome_w64", "varifocal_chromosome_w32"), _WIDE),
}
FUNCTIONS = [entry.name for entry in default_registry().models if not inspect.isclass(entry.load())]


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if SMALLER.get(name, {}) is not None])
def test_timm_loads_what_a_function_made(name, tmp_path):
    torch.manual_seed(0)
    model = zoo.create_model(name, **SMALLER.get(name, {}))
    zoo.save_pretrained(model, tmp_path / "m", license="mit")
    again = timm.create_model(f"local-dir:{tmp_path / 'm'}", pretrained=True)
    assert _same(model, again)
    assert again.pretrained_cfg.get("label_names") == model.pretrained_cfg.get("label_names")


def test_timm_gives_a_functions_model_the_weights_of_the_catalogue():
    model = timm.create_model("varifocal_chromosome_nano", pretrained=True)
    assert _same(model, zoo.create_model("varifocal_chromosome_nano", pretrained=True))
    assert model.temperature == (1.277, 0.884)
    fewer = timm.create_model("varifocal_chromosome_nano", pretrained=True, num_classes=5)
    assert (fewer.fusion.mlp_type[3].out_features, fewer.temperature) == (5, (1.0, 1.0))
    assert torch.equal(fewer.g_net.trunk.stem.weight, model.g_net.trunk.stem.weight)


def test_a_function_of_timms_kind_is_given_all_of_timms_words(tmp_path):
    seen = {}

    @zoo.register_model(input_size=(3, 8, 8), override=True)
    def a_net_of_timms_kind(pretrained=False, **kwargs):
        seen.update(kwargs)
        return timm.models.build_model_with_cfg(torch.nn.Identity, "a_net_of_timms_kind", pretrained)

    timm.create_model("a_net_of_timms_kind", pretrained_model_args={"img_size": 8}, cache_dir="here")
    default_registry()._entries.pop("a_net_of_timms_kind")
    assert (seen["pretrained_model_args"], seen["cache_dir"]) == ({"img_size": 8}, "here")
