"""The networks that enlarge images, as the catalogue makes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from zoo.models.super_resolution.backbone import make_network
from zoo.models.super_resolution.network import SuperResolutionNet
from zoo.models.super_resolution.pcsr import PCSR


def pcsr(
    backbone: str | Mapping[str, Any],
    *,
    upsamplers: Sequence[Sequence[int]] = ((20, 20, 20), (74, 74, 74, 74)),
    classifier: Sequence[int] = (10, 10),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    scale: float | int | None = None,
    in_chans: int = 3,
    num_classes: int = 0,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> PCSR:
    """`PCSR`, whose arguments these are.

    Args:
        num_classes: 0: an image has none.

    Raises:
        TypeError: a module as the backbone: none could make the model again by its name.
    """
    _check_classes(num_classes)
    if isinstance(backbone, nn.Module):
        raise TypeError(
            f"by name a backbone is a name or a mapping with a 'name', got a {type(backbone).__name__}; "
            "zoo.PCSR(backbone, upsamplers, classifier) takes modules"
        )
    given: Any = {"mean": mean, "std": std, "scale": scale, "in_chans": in_chans, "device": device, "dtype": dtype}
    model = PCSR(backbone, upsamplers, classifier, **given)
    if scale is not None:
        del model.pretrained_cfg  # of the name by which it is made, not of the class
    return model


def super_resolver(network: str, *, num_classes: int = 0, **options: Any) -> SuperResolutionNet:
    """One of `FSRCNN`, `CARN` and `SRResNet` with its tail.

    Args:
        network: "fsrcnn", "carn" or "srresnet".
        num_classes: 0: an image has none.
        options: of the class; timm's own keywords are left out.
    """
    _check_classes(num_classes)
    return make_network(network, {key: value for key, value in options.items() if key not in _TIMMS})


_TIMMS = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir")


def _check_classes(num_classes: int) -> None:
    if num_classes != 0:
        raise ValueError(f"a network that enlarges images has no classes; got num_classes={num_classes}")
