"""Varifocal networks by name, as the catalogue makes them: each function fixes numbers only."""

import inspect
from typing import Any

from timm.models import resolve_pretrained_cfg

from zoo.models.varifocal.network import VarifocalNet
from zoo.naming import check_keywords

_OPTIONS = [name for name in inspect.signature(VarifocalNet.__init__).parameters if name != "self"]
_TIMMS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")
POLARITIES = ("short arm up", "short arm down")
#: Pools for trunks that reduce an image 32 times, as residual networks do: maps of 8x8 and 4x4.
_OF_32 = {"head_pool": 2, "loc_pool": 4}


def varifocal(**options: Any) -> VarifocalNet:
    """`VarifocalNet` over any backbone, for any set of images.

    Args:
        options: of `VarifocalNet`; by default on ResNet-18, for images of 3 channels and 224 pixels.
    """
    small = {"backbone": "resnet18", "num_classes": 1000, "in_chans": 3, "img_size": 224, **_OF_32}
    return _made("varifocal", {**small, **options})


def varifocal_nano(**options: Any) -> VarifocalNet:
    """Ours, for a laptop CPU: a narrow and shallow trunk on grey images of 28 pixels, of which the box has 14.

    Args:
        options: of `VarifocalNet`.
    """
    trunk = {"stem": 8, "widths": (8, 16, 32), "depths": (1, 1, 1), "strides": (1, 2, 2)}
    heads = {"loc_pool": 4, "loc_hidden": 32, "mlp_hidden": 64}
    return _made("varifocal_nano", {"num_classes": 10, "in_chans": 1, "img_size": 28, **trunk, **heads, **options})


def varifocal_chromosome(**options: Any) -> VarifocalNet:
    """The network of the paper, with strides of our choice.

    Args:
        options: of `VarifocalNet`.
    """
    return _chromosome("varifocal_chromosome", {}, options)


def varifocal_chromosome_w64(**options: Any) -> VarifocalNet:
    """The paper's trunk at 0.4 of its width.

    Args:
        options: of `VarifocalNet`.
    """
    return _chromosome("varifocal_chromosome_w64", {"widths": (64, 128, 256)}, options)


def varifocal_chromosome_w32(**options: Any) -> VarifocalNet:
    """The paper's trunk at 0.2 of its width.

    Args:
        options: of `VarifocalNet`.
    """
    return _chromosome("varifocal_chromosome_w32", {"widths": (32, 64, 128)}, options)


def varifocal_chromosome_r18(**options: Any) -> VarifocalNet:
    """Both scales on ResNet-18.

    Args:
        options: of `VarifocalNet`.
    """
    return _chromosome("varifocal_chromosome_r18", {"backbone": "resnet18", **_OF_32}, options)


def varifocal_chromosome_r34(**options: Any) -> VarifocalNet:
    """Both scales on ResNet-34.

    Args:
        options: of `VarifocalNet`.
    """
    return _chromosome("varifocal_chromosome_r34", {"backbone": "resnet34", **_OF_32}, options)


def varifocal_chromosome_nano(**options: Any) -> VarifocalNet:
    """Ours, for a laptop CPU: a narrow and shallow trunk on images of 64 pixels.

    Args:
        options: of `VarifocalNet`.
    """
    narrow = {"img_size": 64, "stem": 8, "widths": (8, 16, 32), "depths": (2, 2, 2)}
    heads = {"loc_pool": 4, "loc_hidden": 32, "mlp_hidden": 64}
    return _chromosome("varifocal_chromosome_nano", {**narrow, **heads}, options)


def _chromosome(name: str, own: dict[str, Any], options: dict[str, Any]) -> VarifocalNet:
    return _made(name, {"polarity_names": POLARITIES, **own, **options})


def _made(name: str, options: dict[str, Any]) -> VarifocalNet:
    """The network, with the configuration that is known by its name or given.

    Raises:
        TypeError: an option that it does not take, with the nearest one.
    """
    given, overlay = options.get("pretrained_cfg"), options.get("pretrained_cfg_overlay")
    options = {key: value for key, value in options.items() if key not in _TIMMS}
    check_keywords(options, _OPTIONS, name)
    model = VarifocalNet(**options)
    cfg = resolve_pretrained_cfg(name, given, overlay).to_dict()
    if len(cfg.get("label_names") or ()) != model.num_classes:
        cfg["label_names"] = cfg["label_descriptions"] = None
    known = {key: value for key, value in cfg.items() if value is not None}
    model.pretrained_cfg = {**known, "classifier": model.classifier_names(), "architecture": name}
    return model


# `zoo.create_model` lets a model say that it takes several tasks at once, num_classes=(24, 2).
for _function in (
    varifocal,
    varifocal_nano,
    varifocal_chromosome,
    varifocal_chromosome_w64,
    varifocal_chromosome_w32,
    varifocal_chromosome_r18,
    varifocal_chromosome_r34,
    varifocal_chromosome_nano,
):
    _function.several_tasks = True  # pyright: ignore[reportFunctionMemberAccess]
