"""What a stitched network says of its images and its layers in timm's configuration: what its anchors say."""

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models import get_pretrained_cfg
from torch import nn

from zoo.models.stitching.checks import check_equal

#: How images are prepared: as for the last anchor.
_IMAGES = ("input_size", "min_input_size", "fixed_input_size", "pool_size", "interpolation", "crop_pct", "crop_mode")
_STATISTICS = ("mean", "std", "num_classes")
#: Layers of every anchor.
_LAYERS = ("first_conv", "classifier")


def image_cfg(anchors: Sequence[str | Mapping[str, Any] | nn.Module]) -> dict[str, Any]:
    """Fields of timm's `pretrained_cfg` for a network stitched of these anchors.

    Args:
        anchors: names, mappings of a name and options, or models.
    """
    own = [_cfg_of(anchor) for anchor in anchors]
    cfg = {key: own[-1][key] for key in (*_IMAGES, *_STATISTICS) if own[-1].get(key) is not None}
    for key in _LAYERS:
        cfg[key] = tuple(f"anchors.{a}.{name}" for a, row in enumerate(own) for name in _names(row.get(key)))
    return cfg


def check_images(anchors: Sequence[str | Mapping[str, Any] | nn.Module], given: Mapping[str, Any]) -> None:
    """Refuse anchors of other classes or images, unless those of the whole network are given, which all then have.

    Args:
        anchors: names, mappings of a name and options, or models.
        given: options of the network: `num_classes`, `in_chans`, `img_size`.

    Raises:
        ValueError: naming two anchors and what differs.
    """
    seen: dict[str, tuple[str, Any]] = {}
    for anchor in anchors:
        name, cfg = _name_of(anchor), _cfg_of(anchor)
        channels, *size = cfg.get("input_size") or (None,)
        fixed = tuple(size) if cfg.get("fixed_input_size") else None
        for option, what, value in (
            ("num_classes", "num_classes", cfg.get("num_classes")),
            ("in_chans", "channels", channels),
            ("img_size", "images of", fixed),
        ):
            if given.get(option) is None and value is not None:
                first, wanted = seen.setdefault(option, (name, value))
                check_equal(what, first, wanted, name, value)


def _name_of(anchor: str | Mapping[str, Any] | nn.Module) -> str:
    if isinstance(anchor, nn.Module):
        return type(anchor).__name__
    return anchor if isinstance(anchor, str) else str(anchor.get("name"))


def path_cfg(anchors: Sequence[str | Mapping[str, Any] | nn.Module]) -> dict[str, Any]:
    """The same for a path through these anchors: the first layer is in `stem`, the classifier in `head`."""
    first, last = _names(_cfg_of(anchors[0]).get("first_conv")), _names(_cfg_of(anchors[-1]).get("classifier"))
    names = {"first_conv": [f"stem.{name}" for name in first], "classifier": [f"head.{name}" for name in last]}
    return {**image_cfg(anchors), **{k: v[0] if len(v) == 1 else tuple(v) or None for k, v in names.items()}}


def _cfg_of(anchor: str | Mapping[str, Any] | nn.Module) -> dict[str, Any]:
    if isinstance(anchor, nn.Module):
        cfg = dict(getattr(anchor, "pretrained_cfg", None) or {})
        classes = getattr(anchor, "num_classes", None)
        options: dict[str, Any] = {
            "num_classes": classes,
            "in_chans": getattr(anchor, "in_chans", None),
            "img_size": (getattr(anchor, "_traits", None) or {}).get("img_size"),
        }
    else:
        options = {"name": anchor} if isinstance(anchor, str) else dict(anchor)
        found = get_pretrained_cfg(str(options.get("name")))
        cfg = {} if found is None else found.to_dict()
    if options.get("num_classes") is not None:
        cfg["num_classes"] = options["num_classes"]
    if cfg.get("input_size"):
        channels, *size = cfg["input_size"]
        side = options.get("img_size")
        size = size if side is None else [side, side] if isinstance(side, int) else side
        cfg["input_size"] = (options.get("in_chans") or channels, *size)
    return cfg


def _names(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if not given else (given,) if isinstance(given, str) else tuple(given)


def traits_of(
    sizes: Sequence[tuple[int, int] | None], img_size: int | Sequence[int] | None, cfg: Mapping[str, Any]
) -> dict[str, Any]:
    """What timm is told of a network beside its configuration: the size of its images, and its first layer.

    Args:
        sizes: of the images that each anchor is made for, None for any.
        img_size: that the caller asked for.
        cfg: the network's configuration.
    """
    made = [size for size in sizes if size]
    asked = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size or ())
    return {
        "img_size": made[0] if made else asked or None,
        "fixed_input_size": bool(made),
        "first_conv": cfg["first_conv"],
    }
