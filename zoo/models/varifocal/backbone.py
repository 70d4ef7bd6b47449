"""The trunk of a scale: the paper's, one of timm's or of ours with its parts replaced, or any module."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.models.placed import example_of, placed_copy
from zoo.models.varifocal.wide_trunk import WideTrunk
from zoo.naming import did_you_mean

#: What stands for a backbone: None for the paper's, a name, a mapping ({"name": ..., **options}, or a composition's
#: {"base": ..., "mlp": ..., ...}), or a module that returns a map or has timm's `forward_features`.
BackboneLike = str | Mapping[str, Any] | nn.Module | None
_COMPOSITION = "zoo_composite"
_SIZE_MATTERS = "img_size"
#: Parts of a composition that are behind its map, which a trunk ends with.
_BEHIND = ("head", "pool")


@dataclass(frozen=True)
class MapShape:
    """What a trunk gives for images of the size that it is made for.

    Attributes:
        dim: channels.
        height, width: of the map.
        prefix: tokens before those of the map; None of a trunk that gives maps.
        channels_last: maps are (batch, height, width, channels).
    """

    dim: int
    height: int
    width: int
    prefix: int | None = None
    channels_last: bool = False


def make_trunk(
    given: BackboneLike, in_chans: int, size: tuple[int, int], wide: Mapping[str, Any], place: Mapping[str, Any]
) -> nn.Module:
    """The trunk of what stands for a backbone.

    Args:
        given: see `BackboneLike`. A module is copied, so that the scales do not share weights.
        in_chans: channels of the image.
        size: height and width of the image; networks for one size only are made for it.
        wide: options of the paper's trunk.
        place: `device` and `dtype`.

    Raises:
        ValueError: no name, or one that neither we nor timm have; a module of other channels; a replaced head or pool,
            which no trunk has; a network that cannot be made for such images.
        TypeError: the class of a module, or something else.
    """
    if given is None:
        return WideTrunk(in_chans, **wide, **place)
    if isinstance(given, type):
        raise TypeError(f"the backbone is the class {given.__name__}: give a module of it, {given.__name__}(...)")
    if not isinstance(given, str | Mapping | nn.Module):
        raise TypeError(f"a backbone is a name, a mapping with a 'name' or a 'base', or a module; got {given!r}")
    if isinstance(given, nn.Module):
        has = getattr(given, "in_chans", in_chans)
        if has != in_chans:
            raise ValueError(f"the backbone {type(given).__name__} takes {has} channels, the images have {in_chans}")
        return copy.deepcopy(given)
    name, options = _named(given)
    options = {"num_classes": 0, **options, "in_chans": in_chans}
    own = {key: value for key, value in place.items() if value is not None}
    with _of_images(name, size):
        try:
            trunk = timm.create_model(name, img_size=size, **options)
        except TypeError as error:
            if _SIZE_MATTERS not in str(error):
                raise
            trunk = timm.create_model(name, **options)  # a network for images of any size
    spec = getattr(trunk, "zoo_spec", None) or {}
    if behind := [part for part in _BEHIND if spec.get(part) is not None]:
        raise ValueError(
            f"backbone {given!r} has another {' and '.join(behind)}, which a trunk does not have: it ends with its "
            "map. head= beside backbone= replaces the classifiers of a varifocal network; its pools are its own, "
            "head_pool= and loc_pool="
        )
    return trunk.to(**own)


@contextmanager
def _of_images(name: str, size: tuple[int, int]) -> Iterator[None]:
    """Say of what a trunk refuses by itself which images it was tried with."""
    try:
        yield
    except (ZooError, TypeError, OSError):
        raise
    except Exception as error:  # of any code: asserts, views that do not fit, kernels larger than maps
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise ValueError(
            f"the backbone {name} cannot be used for images of {size[0]}x{size[1]} pixels ({said[:300]}). Those of the "
            "global scale are of img_size, crops of local_size, half of it by default: give another one"
        ) from error


def saved_backbone(given: BackboneLike) -> BackboneLike:
    """What a network is saved with: it brings its weights itself, so none are fetched for its trunks."""
    return {k: v for k, v in given.items() if k != "pretrained"} if isinstance(given, Mapping) else given


def _named(given: str | Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    options = {"name": given} if isinstance(given, str) else dict(given)
    if "base" in options:
        return _COMPOSITION, options
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ValueError(f"a backbone is a name, a mapping with a 'name' or a 'base', or a module; got {given!r}")
    # A repository or folder is no backbone: a config from elsewhere must not lead to one.
    if not timm.is_model(name):
        hint = did_you_mean(name, timm.list_models()) or "."
        raise ValueError(f"there is no backbone {name!r}{hint} Any name of `zoo.list_models(source='all')` will do")
    return name, options


def raw_features(trunk: nn.Module, x: Tensor) -> Any:
    """What a trunk gives, by timm's `forward_features` where it has one."""
    features = getattr(trunk, "forward_features", trunk)(x)
    return features[-1] if isinstance(features, list | tuple) else features


def as_map(features: Tensor, shape: MapShape, image: Sequence[int]) -> Float[Tensor, "batch dim height width"]:
    """Features as a map, channels first.

    Args:
        features: of a trunk.
        shape: what it gives for images of the size that it is made for.
        image: height and width of this image, for tokens of another size.
    """
    if shape.prefix is not None:
        tokens = features[:, shape.prefix :]
        height, width = _grid(tokens.shape[1], shape, image)
        return tokens.transpose(1, 2).unflatten(2, (height, width))
    return features.permute(0, 3, 1, 2) if shape.channels_last else features


def _grid(count: int, shape: MapShape, image: Sequence[int]) -> tuple[int, int]:
    if count == shape.height * shape.width:
        return shape.height, shape.width
    height = max(round((count * image[0] / image[1]) ** 0.5), 1)
    return height, count // height


def take_out_unused(trunk: nn.Module, in_chans: int, size: tuple[int, int]) -> MapShape:
    """Find what a trunk gives, and take out what its features do not need: norms and convolutions of its classifier.

    It is run without values where it can be; of a trunk that looks at values nothing is taken out.

    Raises:
        ValueError: it gives no map.
    """
    twin = trunk
    if not any(p.is_meta for p in trunk.parameters()):
        twin = placed_copy(trunk, "meta")
        for parameter in twin.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
    twin.eval()
    name, used = type(trunk).__name__, None
    with _of_images(name, size):
        try:
            with torch.enable_grad():
                features = raw_features(twin, example_of(twin, (1, in_chans, *size)))
                if isinstance(features, Tensor):
                    used = {id(p) for p in _used(features, list(twin.parameters()))}
        except (RuntimeError, NotImplementedError):
            if twin is trunk:
                raise
            plain = placed_copy(trunk)  # it looks at values
            with torch.no_grad():
                features = raw_features(plain, example_of(plain, (1, in_chans, *size)))
    _check_features(features)
    if used is None:
        return _shape_of(features, trunk, size)
    for name, child in list(twin.named_children()):
        parameters = list(child.parameters())
        if parameters and not any(id(p) in used for p in parameters):
            setattr(trunk, name, nn.Identity())
    trunk.train()
    return _shape_of(features, trunk, size)


def _used(features: Tensor, parameters: list[nn.Parameter]) -> list[nn.Parameter]:
    learning = [p for p in parameters if p.requires_grad]
    if not learning or not features.requires_grad:
        return parameters
    gradients = torch.autograd.grad(features.sum(), learning, allow_unused=True)
    return [p for p, gradient in zip(learning, gradients, strict=True) if gradient is not None]


def _check_features(features: Any) -> None:
    if not isinstance(features, Tensor) or features.ndim not in (3, 4):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"the backbone must give a map (batch, dim, h, w) or tokens (batch, n, dim), got {got}")


def _shape_of(features: Tensor, trunk: nn.Module, size: tuple[int, int]) -> MapShape:
    """Where channels, rows and columns are in what a trunk gives."""
    if features.ndim == 4:
        dim = getattr(trunk, "num_features", None)
        last = str(getattr(trunk, "output_fmt", "")).endswith("NHWC")
        last = last or (dim == features.shape[3] and dim != features.shape[1])
        if last:
            return MapShape(features.shape[3], features.shape[1], features.shape[2], channels_last=True)
        return MapShape(features.shape[1], features.shape[2], features.shape[3])
    prefix = int(getattr(trunk, "num_prefix_tokens", 0))
    count = features.shape[1] - prefix
    grid = getattr(getattr(trunk, "patch_embed", None), "grid_size", None)
    if not grid or grid[0] * grid[1] != count:
        grid = _grid(count, MapShape(features.shape[2], 0, 0, prefix), size)
    if grid[0] * grid[1] != count:
        raise ValueError(
            f"{count} tokens for an image of {size[0]}x{size[1]} pixels make no map; a backbone with pooled tokens, "
            "or with several grids of them, has none"
        )
    return MapShape(features.shape[2], grid[0], grid[1], prefix)
