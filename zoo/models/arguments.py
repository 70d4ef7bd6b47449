"""Checks of what people pass to `create_model`, and better words for what timm's constructors say."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from timm.models import model_entrypoint
from torch import nn

from zoo.errors import ZooError
from zoo.naming import check_keywords, did_you_mean
from zoo.registry import Entry

#: What timm's builder takes out of the keywords before the constructor sees them.
BUILDER_KEYWORDS = (
    "cache_dir",
    "feature_cfg",
    "feature_cls",
    "features_only",
    "kwargs_filter",
    "out_indices",
    "output_fmt",
    "pretrained_cfg",
    "pretrained_cfg_overlay",
    "pretrained_custom_load",
    "pretrained_filter_fn",
    "pretrained_strict",
)
# Parts that the zoo's factory replaces.
_PARTS = ("head", "mlp", "mixer", "pool", "act")
#: Sides of images; microscopes' whole slides are cut into far smaller tiles.
MAX_IMAGE_SIDE = 8_192
_RATES = (
    "drop_rate",
    "drop_path_rate",
    "drop_block_rate",
    "attn_drop",
    "attn_drop_rate",
    "proj_drop",
    "proj_drop_rate",
    "pos_drop_rate",
    "patch_drop_rate",
)
_SHOWN = ("features_only", "out_indices", "feature_cls")
_POOLS = (
    "",
    "avg",
    "max",
    "avgmax",
    "catavgmax",
    "fast",
    "fastavg",
    "fastmax",
    "fastavgmax",
    "fastcatavgmax",
    "token",
    "map",
    "prr",
)


def _check_count(name: str, value: Any, minimum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int ≥ {minimum}, got {value!r}")
    if value < minimum:
        raise ValueError(f"{name} must be an int ≥ {minimum}, got {value!r}")


def _check_rate(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number in [0, 1), got {value!r}")
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), got {value!r}")


def takes_several_tasks(entry: Entry) -> bool:
    """Whether a model has a head a task, so that it takes `num_classes=(24, 2)`."""
    return bool(getattr(entry.load(), "several_tasks", False))


def check_values(kwargs: Mapping[str, Any], *, several_tasks: bool = False) -> None:
    """Check the options that every image model shares.

    Args:
        kwargs: the options.
        several_tasks: leave a list of `num_classes` to a model that takes one.

    Raises:
        TypeError: `num_classes`, `in_chans` or a rate of the wrong type.
        ValueError: out of range (`num_classes` ≥ 0, `in_chans` ≥ 1, rates in [0, 1), positive image sizes).
    """
    if "num_classes" in kwargs and not (several_tasks and isinstance(kwargs["num_classes"], list | tuple)):
        _check_count("num_classes", kwargs["num_classes"], 0)
    if "in_chans" in kwargs:
        _check_count("in_chans", kwargs["in_chans"], 1)
    for name in _RATES:
        if name in kwargs:
            _check_rate(name, kwargs[name])
    if "img_size" in kwargs:
        size = kwargs["img_size"]
        if isinstance(size, list | tuple) and len(size) != 2:
            raise ValueError(f"img_size must be one side or (height, width), got {size!r}")
        for side in size if isinstance(size, list | tuple) else [size]:
            _check_count("img_size", side, 1)
            if side > MAX_IMAGE_SIDE:
                raise ValueError(f"img_size must be at most {MAX_IMAGE_SIDE:,} pixels a side, got {size!r}")


def check_model_keywords(entry: Entry, kwargs: Iterable[str]) -> None:
    """Refuse keywords that a model of ours does not take; a target with `**kwargs` is left to check its own.

    Raises:
        TypeError: the keyword, near names, and all accepted ones.
    """
    parameters = inspect.signature(entry.load()).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    builder = BUILDER_KEYWORDS if inspect.isclass(entry.load()) else ()
    unknown = [k for k in kwargs if k not in builder]
    check_keywords(unknown, [*parameters, *_PARTS, *(k for k in builder if k in _SHOWN)], entry.name)


def _accepted_by(class_name: str, architecture: str) -> list[str]:
    """Constructor keywords of the class that timm builds for `architecture`."""
    module = sys.modules.get(model_entrypoint(architecture).__module__)  # ours are filed under a name of no module
    cls = getattr(module, class_name, None)
    return [] if cls is None else [n for n in inspect.signature(cls).parameters if n != "self"]


def _accepted_pools(architecture: str, kwargs: Mapping[str, Any]) -> list[str]:
    """The `global_pool` values with which `architecture` can really be built; tried on the meta device."""
    accepted = []
    rest = {k: v for k, v in kwargs.items() if k not in ("global_pool", "pretrained_cfg", "pretrained_cfg_overlay")}
    for pool in _POOLS:
        try:
            with torch.device("meta"):
                model_entrypoint(architecture)(pretrained=False, **rest, global_pool=pool)
        except Exception:
            continue
        accepted.append(pool)
    return accepted


def build_explained(build: Callable[[], nn.Module], architecture: str, kwargs: Mapping[str, Any]) -> nn.Module:
    """Call `build()`, turning the constructor's complaints into ones that name a way out.

    Raises:
        TypeError: a keyword that the constructor does not take, with near and accepted names; `features_only` of a
            model without stages.
        ValueError: a `global_pool` that the model does not have, with those it has; another value that the
            constructor cannot use.
    """
    try:
        return build()
    except ZooError:
        raise
    except TypeError as error:
        found = re.search(r"(?:(\w+)\.__init__|\w+)\(\) got an unexpected keyword argument '(\w+)'", str(error))
        if found is None or found[2] not in kwargs:
            _blame(error, architecture, kwargs)
            raise
        accepted = [*_accepted_by(found[1] or "", architecture), *_PARTS]
        hint = did_you_mean(found[2], accepted) or "."
        names = f" Accepted: {', '.join(sorted(accepted))}" if accepted else ""
        raise TypeError(f"{architecture} takes no argument {found[2]!r}{hint}{names}") from error
    except OSError:
        raise
    except Exception as error:
        if kwargs.get("features_only") and isinstance(error, AttributeError) and "feature_info" in str(error):
            options = {k: v for k, v in kwargs.items() if k not in BUILDER_KEYWORDS}
            without = _builds(architecture, {**options, "num_classes": 0})
            hint = "; num_classes=0 makes a model that gives features" if without else ""
            raise TypeError(f"{architecture} has no stages, so features_only=True is not for it{hint}") from error
        pool = kwargs.get("global_pool")
        if pool is not None:
            accepted = _accepted_pools(architecture, kwargs)
            if accepted and pool not in accepted:
                raise ValueError(
                    f"global_pool={pool!r} is not a pooling of {architecture}; it has {accepted}"
                ) from error
        _blame(error, architecture, kwargs)
        raise


def _builds(architecture: str, options: Mapping[str, Any]) -> bool:
    """Whether the model can be built, without memory."""
    try:
        with torch.device("meta"):
            model_entrypoint(architecture)(pretrained=False, **options)
    except Exception:
        return False
    return True


def _blame(error: Exception, architecture: str, kwargs: Mapping[str, Any]) -> None:
    """Name the one argument without which the model can be built, where there is one and `error` does not.

    Raises:
        TypeError, ValueError: with the argument, its value, and what the constructor said.
    """
    if torch.get_default_device().type == "meta":
        return  # a trial; the real attempt comes after it
    rest = {k: v for k, v in kwargs.items() if k not in (*BUILDER_KEYWORDS, *_PARTS, "base", "device", "dtype")}
    if any(name in str(error) for name in rest) or not rest or _builds(architecture, rest):
        return
    culprit = next((name for name in rest if _builds(architecture, {k: v for k, v in rest.items() if k != name})), None)
    if culprit is None:
        return
    kind = TypeError if isinstance(error, TypeError | AttributeError) else ValueError
    said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    raise kind(f"{architecture} cannot be built with {culprit}={rest[culprit]!r} ({said[:300]})") from error
