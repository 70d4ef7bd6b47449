"""The classifier: every leaf of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.composition.probe import Probe
from zoo.composition.slots import Places, Slot
from zoo.composition.specialise import Specialised, specialise
from zoo.weights.adapt import classifier_names


class ConvHead(Specialised):
    """A head at the end of a convolutional classifier: maps of 1 x 1 to logits of the same form.

    A larger map, of a model that does not pool (`global_pool=""`), is classified at every position.
    """

    beneath = ("forward", "zoo_classify")
    if TYPE_CHECKING:
        zoo_classify: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_classify(x.movedim(1, -1)).movedim(-1, 1)


def leaf_paths(model: nn.Module) -> list[str]:
    """Dotted paths of the classifier's leaves, whether or not they hold a layer now."""
    names = classifier_names(model)
    if names:
        return list(names)
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    return [path for path, module in model.named_modules() if module is classifier]


def class_row_paths(model: nn.Module) -> tuple[str, ...]:
    """timm's `classifier` field for the heads that the model has now: the modules whose `weight` has a row a class."""
    paths = []
    for path in classifier_names(model):
        rows = getattr(model.get_submodule(path), "class_rows", "")
        paths.append(f"{path}.{rows}" if rows else path)
    return tuple(paths)


def find_heads(model: nn.Module, seen: Probe) -> Places:
    """Leaves of the classifier that hold a layer; none when the model was built with `num_classes=0`."""
    places = Places()
    for path in leaf_paths(model):
        try:
            leaf = model.get_submodule(path)
        except AttributeError:
            continue
        slot = leaf_slot(path, leaf)
        if slot is not None:
            places.slots.append(slot)
    return places


def leaf_slot(path: str, leaf: nn.Module) -> Slot | None:
    """The place that a leaf is, `None` for an `Identity`."""
    if isinstance(leaf, nn.Conv2d):
        sizes = {"in_features": leaf.in_channels, "out_features": leaf.out_channels}
        return Slot(path, sizes, {"bias": leaf.bias is not None}, layout="NCHW")
    if not hasattr(leaf, "in_features") or not hasattr(leaf, "out_features"):
        return None
    sizes = {"in_features": leaf.in_features, "out_features": leaf.out_features}
    layout = "NCHW" if isinstance(leaf, ConvHead) else "NLC"
    return Slot(path, sizes, {"bias": getattr(leaf, "bias", True) is not None}, layout=layout)


def fit_head(new: nn.Module, slot: Slot, *_: Any) -> nn.Module:
    """Adapt a head to its place."""
    return specialise(new, ConvHead) if slot.layout == "NCHW" else new
