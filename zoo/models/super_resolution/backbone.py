"""The network that gives features at the size of the small image: ours, one of timm's, or any other."""

import inspect
from collections.abc import Mapping
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.models.super_resolution.carn import CARN
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.models.super_resolution.srresnet import SRResNet
from zoo.naming import check_keywords, did_you_mean

#: Our networks by name; others are timm's.
NETWORKS: dict[str, type[FSRCNN] | type[CARN] | type[SRResNet]] = {"fsrcnn": FSRCNN, "carn": CARN, "srresnet": SRResNet}
#: What stands for a backbone: a name, a mapping of it ("name") and options, or a module.
BackboneLike = str | Mapping[str, Any] | nn.Module
_PROBE = 32
_LEAVE_OUT = "Leave out what shrinks them: its strides and pooling, or a patch_size above 1"


def make_backbone(given: BackboneLike, in_chans: int, place: Mapping[str, Any]) -> nn.Module:
    """The module of what stands for a backbone.

    Args:
        given: "fsrcnn", "carn" or "srresnet", whose tail is left out; a name of timm's, whose `features_only` with one
            of `out_indices` is taken; a mapping of such a "name" and options; or a module.
        in_chans: channels of the image.
        place: `device` and `dtype`.

    Raises:
        ValueError: no name, or one that neither we nor timm have.
        TypeError: an option that the network does not take, or what stands for none.
    """
    if isinstance(given, nn.Module):
        return given
    if not isinstance(given, str | Mapping):
        hint = f"; make one of the class, {given.__name__}(…)" if isinstance(given, type) else ""
        raise TypeError(f"a backbone is a name, a mapping with a 'name', or a module; got {given!r}{hint}")
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"a backbone is a name, a mapping with a 'name', or a module; got {given!r}")
    if name in NETWORKS:
        return make_network(name, {"in_chans": in_chans, "no_upsampling": True, **options, **place})
    if not timm.is_model(name):
        hint = did_you_mean(name, [*NETWORKS, *timm.list_models()]) or "."
        raise ValueError(f"there is no backbone {name!r}{hint} Ours: {', '.join(NETWORKS)}; else one of timm's models")
    own = {key: value for key, value in place.items() if value is not None}
    return timm.create_model(name, features_only=True, in_chans=in_chans, **{"out_indices": (0,), **options}).to(**own)


def make_network(name: str, options: Mapping[str, Any]) -> FSRCNN | CARN | SRResNet:
    """One of our networks.

    Raises:
        ValueError: an unknown name, or an option out of range.
        TypeError: an option that it does not take.
    """
    if name not in NETWORKS:
        raise ValueError(
            f"there is no network {name!r}{did_you_mean(name, NETWORKS) or '.'} Ours: {', '.join(NETWORKS)}"
        )
    cls = NETWORKS[name]
    check_keywords(options, [p for p in inspect.signature(cls).parameters if p != "self"], name)
    return cls(**options)


def place_of(backbone: nn.Module, place: Mapping[str, Any]) -> dict[str, Any]:
    """Where what stands behind a backbone is to be: as asked for, else with the backbone's own weights.

    Args:
        backbone: a module.
        place: `device` and `dtype`, None where nothing is asked for.
    """
    like = next((p for p in backbone.parameters() if p.is_floating_point()), None)
    own = {} if like is None else {"device": like.device, "dtype": like.dtype}
    return {key: own.get(key) if value is None else value for key, value in place.items()}


def channels_of(backbone: nn.Module, in_chans: int) -> int:
    """Channels of the features: as the backbone says in `out_channels` or timm's `feature_info`, or gives for noise.

    Raises:
        ValueError: it gives no maps of the size of the image.
    """
    stated = getattr(backbone, "out_channels", None)
    if isinstance(stated, int):
        return stated
    info = getattr(backbone, "feature_info", None)
    if info is not None and callable(getattr(info, "channels", None)):
        channels = _only(list(info.channels()))
        if (times := max(info.reduction())) > 1:
            raise ValueError(
                f"the backbone must keep the size of the image: its features are {times} times smaller. {_LEAVE_OUT}"
            )
        return channels
    like = next(iter(backbone.parameters()), torch.empty(0))
    with evaluating(backbone), torch.no_grad():
        return features_of(backbone, torch.zeros(1, in_chans, _PROBE, _PROBE).to(like)).shape[1]


def features_of(
    backbone: nn.Module, x: Float[Tensor, "batch in_chans height width"]
) -> Float[Tensor, "batch c height width"]:
    """What the backbone gives for an image.

    Raises:
        ValueError: several maps, or features of another size than the image.
    """
    features = backbone(x)
    if isinstance(features, list | tuple):
        features = _only(features)
    if not isinstance(features, Tensor):
        raise ValueError(
            f"the backbone must give features (batch, channels, height, width), got {type(features).__name__}"
        )
    if str(getattr(backbone, "output_fmt", "")).endswith("NHWC"):
        features = features.permute(0, 3, 1, 2)
    if features.ndim != 4 or features.shape[2:] != x.shape[2:]:
        got = "x".join(map(str, features.shape[2:])) if features.ndim == 4 else f"the shape {tuple(features.shape)}"
        raise ValueError(
            f"the backbone must keep the size of the image: for {x.shape[2]}x{x.shape[3]} pixels it gives features of "
            f"{got}. {_LEAVE_OUT}"
        )
    stated = getattr(backbone, "out_channels", None)
    if isinstance(stated, int) and stated != features.shape[1]:
        raise ValueError(f"the backbone says out_channels={stated} and gives features of {features.shape[1]} channels")
    return features


def _only(maps: Any) -> Any:
    if len(maps) != 1:
        raise ValueError(f"the backbone gives {len(maps)} maps; choose one of them, of timm's by out_indices=(i,)")
    return maps[0]
