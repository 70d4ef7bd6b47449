"""The models behind what stands for an anchor."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
from torch import nn

from zoo.models.stitching.anchors import Anchor, AnchorSpec
from zoo.models.stitching.rebuilt import SHARED
from zoo.registry import model_entry

#: What stands for an anchor: a name of timm's registry, a mapping of it ("name") and options, or a model.
AnchorLike = str | Mapping[str, Any] | nn.Module
_NO_ANCHOR = "an anchor is a name, a mapping with a 'name', or a model; got {!r}"


def check_count(anchors: Any) -> None:
    """Refuse what is no list of two anchors or more.

    Raises:
        ValueError: saying what was given.
    """
    if isinstance(anchors, str | Mapping | nn.Module) or not isinstance(anchors, Sequence) or len(anchors) < 2:
        raise ValueError(f"a stitched network needs two anchors or more, from small to large; got {anchors!r}")
    for anchor in anchors:
        if not isinstance(anchor, str | Mapping | nn.Module):
            raise ValueError(_NO_ANCHOR.format(anchor))
    modules = [id(anchor) for anchor in anchors if isinstance(anchor, nn.Module)]
    if len(set(modules)) < len(modules):
        raise ValueError(
            "one module is given for two anchors, which would share all weights: give copies (copy.deepcopy)"
        )


def rates_of(drop_path_rate: int | float | Sequence[int | float] | None, count: int) -> Sequence[int | float | None]:
    """The rate of each anchor.

    Raises:
        ValueError: another number of rates than anchors.
    """
    rates = list(drop_path_rate) if isinstance(drop_path_rate, Sequence) else [drop_path_rate] * count
    if len(rates) != count:
        raise ValueError(f"drop_path_rate has {len(rates)} entries for {count} anchors")
    return rates


def make_anchor(
    given: AnchorLike, options: Mapping[str, Any], create: Callable[..., nn.Module] = timm.create_model
) -> nn.Module:
    """The model of an anchor.

    Args:
        given: what stands for it; a model is given another classifier if `options` ask for other classes.
        options: of the whole network. None, and an image size that it has no use for, are left out; classes,
            channels and size win over the anchor's own, which wins in all else.
        create: makes the model of a name.

    Raises:
        ValueError: no name, or a model of other channels.
        UnknownModelError: nothing is called so.
    """
    shared = {key: value for key, value in options.items() if value is not None}
    if isinstance(given, nn.Module):
        return _fitted(given, shared)
    own = {"name": given} if isinstance(given, str) else dict(given)
    if not isinstance(own.get("name"), str):
        raise ValueError(_NO_ANCHOR.format(given))
    name = own.pop("name")
    if create is timm.create_model and not timm.is_model(name):
        # With near names; and no repository or folder, which a config from elsewhere must not lead to.
        model_entry(name, timm.list_models())
    own = {**shared, **own, **{key: shared[key] for key in SHARED if key in shared}}
    try:
        return create(name, **own)
    except TypeError as error:
        if "img_size" not in own or "img_size" not in str(error):
            raise
        del own["img_size"]  # of networks for images of any size
        return create(name, **own)


def _fitted(model: nn.Module, shared: Mapping[str, Any]) -> nn.Module:
    """A model that was given, with as many classes as were asked for."""
    classes, channels = shared.get("num_classes"), shared.get("in_chans")
    has = getattr(model, "in_chans", channels)
    if channels is not None and has != channels:
        raise ValueError(
            f"a {type(model).__name__} that takes {has} channels is given for an anchor, and in_chans={channels} is "
            "asked for: channels are changed of anchors that are given by name"
        )
    if classes is not None and getattr(model, "num_classes", classes) != classes:
        reset: Any = getattr(model, "reset_classifier", None)
        if reset is None:
            raise ValueError(
                f"a {type(model).__name__} of {model.num_classes} classes is given for an anchor, and num_classes="
                f"{classes} is asked for: give it such a head"
            )
        reset(classes)
    return model


def name_of(given: AnchorLike, model: nn.Module) -> str:
    """What an anchor is called: the name it was asked for by, or its architecture's or class's."""
    if isinstance(given, str):
        return given
    if isinstance(given, Mapping):
        return str(given["name"])
    if isinstance(model, AnchorSpec):
        return type(model).__name__
    return str((getattr(model, "pretrained_cfg", None) or {}).get("architecture") or type(model).__name__)


def labels_of(names: Sequence[str], anchors: Sequence[Anchor]) -> tuple[str, ...]:
    """What tells anchors apart: their names; with width, depth and place as far as names are the same."""
    facts = [
        (f"width {anchor.stages[-1].width}", f"depth {sum(anchor.depths)}", f"anchor {place}")
        for place, anchor in enumerate(anchors)
    ]
    labels = list(names)
    for count in (1, 2, 3):
        seen = Counter(labels)
        labels = [
            f"{name} ({', '.join(own[:count])})" if seen[label] > 1 else label
            for label, name, own in zip(labels, names, facts, strict=True)
        ]
    return tuple(labels)
