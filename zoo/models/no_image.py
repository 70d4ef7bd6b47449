"""Configurations of models whose input is no image."""

from collections.abc import Mapping
from typing import Any, TypeVar

from timm.models import resolve_pretrained_cfg
from torch import nn

from zoo.models.data_config import WORDS, table_columns

#: What saving compares on an image, and timm's default sizes, have no place in the configuration of bags.
NO_IMAGE: dict[str, Any] = {"input_size": None, "classifier": "head"}
#: How images that are instances of bags are prepared.
_PREPARATION = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
Model = TypeVar("Model", bound=nn.Module)


def described(model: Model, given: Any, name: str = "") -> Model:
    """The model, with what a configuration says of its classes and of images.

    Args:
        model: whose `pretrained_cfg` is completed.
        given: a saved configuration, of timm's form.
        name: under which the model is registered, if `given` may be a tag or left to the registry.
    """
    if name:
        given = resolve_pretrained_cfg(name, pretrained_cfg=given)
    cfg = given.to_dict() if hasattr(given, "to_dict") else given if isinstance(given, Mapping) else {}
    fields = WORDS if table_columns(model) is not None else (*WORDS, *_PREPARATION)
    known = {key: cfg[key] for key in fields if cfg.get(key)}
    if len(known.get("label_names", ())) != model.num_classes:
        known.pop("label_names", None)
    model.pretrained_cfg = {**model.pretrained_cfg, **known}  # pyright: ignore
    return model
