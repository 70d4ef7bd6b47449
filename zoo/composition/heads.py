"""The classifier: every leaf of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from zoo.composition.probe import Probe
from zoo.composition.slots import Places, Slot
from zoo.composition.specialise import Specialised, specialise
from zoo.weights.adapt import class_row_names, classifier_names


class ConvHead(Specialised):
    """A head at the end of a convolutional classifier: maps of 1 x 1 to logits of the same form.

    A larger map, of a model that does not pool (`global_pool=""`), is classified at every position.
    """

    beneath = ("forward", "zoo_classify")
    if TYPE_CHECKING:
        zoo_classify: Callable[[Tensor], Tensor]

    def forward(self, x: Tensor) -> Tensor:
        return self.zoo_classify(x.movedim(1, -1)).movedim(-1, 1)


def _leaf_paths(model: nn.Module) -> list[str]:
    """Dotted paths of the classifier's leaves, whether or not they hold a layer now."""
    names = classifier_names(model)
    if names:
        return list(names)
    classifier = model.get_classifier() if hasattr(model, "get_classifier") else None  # type: ignore[operator]
    return [path for path, module in model.named_modules() if module is classifier]


def class_row_paths(model: nn.Module) -> tuple[str, ...]:
    """timm's `classifier` field for the heads that the model has now: the modules whose `weight` has a row a class.

    Where there is no layer now, the name stays: `reset_classifier` may put one there.
    """
    paths = []
    for name, path in zip(class_row_names(model), classifier_names(model), strict=True):
        leaf = _module_at(model, path)
        rows = getattr(leaf, "class_rows", "")
        paths.append(name if leaf is None or isinstance(leaf, nn.Identity) else f"{path}.{rows}" if rows else path)
    return tuple(paths)


def find_heads(model: nn.Module, seen: Probe) -> Places:
    """Leaves of the classifier that hold a layer; none when the model was built with `num_classes=0`."""
    return Places(leaf_slots(model))


def leaf_slots(model: nn.Module) -> list[Slot]:
    """The places of the classifier's leaves that hold a layer now."""
    leaves = ((path, _module_at(model, path)) for path in _leaf_paths(model))
    slots = (_leaf_slot(path, leaf) for path, leaf in leaves if leaf is not None)
    return [slot for slot in slots if slot is not None]


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    """The module at a path; `None` where a backbone without it has nothing, or no module."""
    try:
        return model.get_submodule(path)
    except AttributeError:
        return None


def _leaf_slot(path: str, leaf: nn.Module) -> Slot | None:
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
