"""`zoo.stitch`: pretrained networks of several sizes, joined into one that runs at any size between."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from zoo.factory import create_model
from zoo.models.stitching.made import AnchorLike, check_count, make_anchor, rates_of
from zoo.models.stitching.network import StitchNet
from zoo.naming import check_keywords

_OPTIONS = [name for name in inspect.signature(StitchNet).parameters if name != "anchors"]
#: Options of `StitchNet` that the anchors are made with.
_OF_ANCHORS = ("num_classes", "in_chans", "img_size", "global_pool", "drop_rate", "device", "dtype")
_LOADING = ("cache_dir", "token", "local_files_only")


def stitch(anchors: Sequence[AnchorLike], *, pretrained: bool = False, **options: Any) -> StitchNet:
    """Join networks of several sizes into one that holds them, and every path from one into the next.

        net = zoo.stitch(["deit_tiny_patch16_224", "deit_small_patch16_224"], pretrained=True)
        net.init_stitches(images)                   # least squares; then zoo.finetune(net, data)
        net.set_budget(flops=3e9)                   # or net.set_stitch(7), or net(x, stitch=7)
        small = net.export()                        # one path alone

    Args:
        anchors: two or more, from small to large: names as `create_model` takes them (with a tag, or of a folder or a
            repository), mappings {"name": ..., **options}, models, or a network of your own as `zoo.AnchorSpec`.
        pretrained: load the weights of anchors that are given by name. Models keep those that they have.
        **options: of `StitchNet`: `cuts` ("forward", "paired", "two_way"), `kernel_size`, `stride`, `nearest`,
            `stages`, `lora_rank`, `stitch_norm`, `strict`, `stitch`, `top1`, `num_classes`, `in_chans`, `img_size`,
            `drop_rate`, `drop_path_rate`, ...; and of `create_model`: `cache_dir`, `token`, `local_files_only`.

    Returns:
        The network, in training mode, on the path of its last anchor. Its stitching layers are random: call
        `init_stitches` on a few images, then train (`zoo.finetune`).

    Raises:
        ValueError: anchors that cannot be stitched, or options out of range, as of `StitchNet`.
        TypeError: an unknown option, or an anchor that is not known how to cut into blocks.
        UnknownModelError: an anchor's name is unknown.
        WeightsError: `pretrained` is asked for, and an anchor has no weights.
    """
    check_keywords(options, [*_OPTIONS, *_LOADING], "zoo.stitch")
    check_count(anchors)
    loading = {name: options.pop(name) for name in _LOADING if name in options}
    shared = {name: options[name] for name in _OF_ANCHORS if name in options}
    rates = rates_of(options.pop("drop_path_rate", None), len(anchors))

    def create(name: str, **own: Any) -> nn.Module:
        return create_model(name, pretrained=pretrained or None, **loading, **own)

    models = [
        make_anchor(anchor, {**shared, "drop_path_rate": rate}, create)
        for anchor, rate in zip(anchors, rates, strict=True)
    ]
    net = StitchNet(models, **options)
    net.anchor_names = tuple(_name(anchor, name) for anchor, name in zip(anchors, net.anchor_names, strict=True))
    labels = [(getattr(model, "pretrained_cfg", None) or {}).get("label_names") for model in models]
    if labels[0] and all(own == labels[0] for own in labels):
        net.pretrained_cfg = net.default_cfg = {**net.pretrained_cfg, "label_names": list(labels[0])}
    return net


def _name(anchor: AnchorLike, otherwise: str) -> str:
    """What an anchor is called: as it was asked for, unless that is a place rather than a name."""
    name = anchor if isinstance(anchor, str) else anchor.get("name") if isinstance(anchor, Mapping) else None
    return name if isinstance(name, str) and ":" not in name else otherwise
