"""Which models enlarge images, and how."""

from __future__ import annotations

import inspect
import math
from typing import Any

import timm
import torch
from torch import Tensor, nn

from zoo.layers.pixel_adaptive.coordinates import is_number
from zoo.models.super_resolution.network import SuperResolutionNet
from zoo.registry import is_model
from zoo.training.model_source import model_class, model_name, ready_model, resolve_name

#: What such models say of themselves, as an attribute `task` of the class.
SUPER_RESOLUTION = "super-resolution"


def is_super_resolution(model: Any) -> bool:
    """Whether a model, itself or by name, enlarges images."""
    return getattr(model_class(model), "task", None) == SUPER_RESOLUTION


def super_resolver(model: Any) -> nn.Module:
    """A model that enlarges images: itself, or by name with its weights.

    Raises:
        ValueError: one that does not, before its weights are looked for.
        UnknownModelError, WeightsError, HubError: as `zoo.create_model`.
    """
    known = isinstance(model, nn.Module) or is_model(name := resolve_name(model)) or timm.is_model(name)
    net = model if known and not is_super_resolution(model) else ready_model(model)
    if not is_super_resolution(net):
        raise ValueError(f"{model_name(net)} enlarges no images; zoo list 'pcsr*' lists models that do")
    return net


def takes_any_scale(model: nn.Module) -> bool:
    """Whether the scale is said when the model is called."""
    return "scale" in inspect.signature(model.forward).parameters


def scale_of(model: nn.Module) -> int | float:
    """The scale that the model was made for."""
    return getattr(model, "scale", None) or 4


def check_scale(model: nn.Module, scale: Any) -> int:
    """The scale to train or measure at: the model's own if none is given.

    Raises:
        ValueError: no whole number from 2, or not the one that the model has.
    """
    own = scale_of(model)
    chosen = own if scale is None else scale
    if not is_number(chosen) or not math.isfinite(chosen) or chosen != int(chosen) or chosen < 2:
        raise ValueError(
            f"scale must be a whole number from 2, got {chosen!r}: pixels of photographs are grouped by it"
        )
    if not takes_any_scale(model) and chosen != own:
        raise ValueError(
            f"scale={chosen}: this model enlarges by {own} alone; another is made by model_args={{'scale': {chosen}}} "
            f"(--model-arg scale={chosen}), where it can be"
        )
    return int(chosen)


def refuse_other_channels(model: nn.Module) -> None:
    """Refuse a model of other images than photographs are.

    Raises:
        ValueError: it takes another number of channels than 3.
    """
    if (channels := getattr(model, "in_chans", 3)) != 3:
        raise ValueError(f"photographs are of 3 channels, and this model takes {channels}: make it with in_chans=3")


@torch.inference_mode()
def enlarge(model: nn.Module, small: Tensor, scale: int, **policy: Any) -> Tensor:
    """The enlarged image (3, scale h, scale w) of (3, h, w) uint8, in [0, 1] but for what goes beyond.

    Args:
        model: in evaluation mode.
        small: the image, on the model's device.
        scale: how much larger.
        policy: options of the forward of a model that has several.
    """
    image = small[None].to(next(model.parameters()).dtype) / 255
    options = {"scale": scale, **policy} if takes_any_scale(model) else {}
    return model(image, **options)[0].float()


@torch.inference_mode()
def enlarge_with_info(model: nn.Module, small: Tensor, scale: int, **policy: Any) -> tuple[Tensor, dict[str, float]]:
    """As `enlarge`, and what it cost where the model tells.

    Returns:
        The image, and `flops` (as the paper counts) and `true_flops`; before these, where pixels have classes, `hard`
        (the part of them that is of any class but the lightest) and `fraction_0`, `fraction_1`, … (of each class, from
        the lightest).
    """
    if not hasattr(model, "train_queries"):
        return enlarge(model, small, scale), _flops_of(model, (small.shape[1], small.shape[2]))
    image = small[None].to(next(model.parameters()).dtype) / 255
    made, info = model(image, scale=scale, return_info=True, **policy)
    cost = {"flops": info.flops["paper"][0], "true_flops": info.flops["true"][0]}
    return made[0].float(), {**info.shares(), **cost}


def _flops_of(model: nn.Module, size: tuple[int, int]) -> dict[str, float]:
    """What a network whose pixels have no classes tells of its cost."""
    if not isinstance(model, SuperResolutionNet):
        return {}
    return {
        name: float(model.flops(size, convention=convention))
        for name, convention in (("flops", "paper"), ("true_flops", "true"))
    }
