"""The places of a backbone where a module can go."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.models._features_fx import register_notrace_module
from torch import nn

from zoo.composition.spec import Choice, check_options, parameters_of, refuse_placement, resolve_options
from zoo.errors import UnsupportedSurgery, ZooError


@dataclass
class Slot:
    """One place.

    Attributes:
        path: dotted path in the model.
        sizes: keywords that the new module must be built with; a user's options cannot change them.
        wishes: keywords taken over from the old module where the new one knows them; a user's options win.
        layout: how the tensors lie: "NLC" tokens, "NHWC" or "NCHW" maps, "BTNC" windows as an axis of their own.
        facts: what the kind's adapter needs beside.
    """

    path: str
    sizes: Mapping[str, Any]
    wishes: Mapping[str, Any] = field(default_factory=dict)
    layout: str = "NLC"
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Places:
    """What a finder found: the places, and why others that look like one are none.

    Attributes:
        slots: in the order of the model.
        left: path -> reason why it stays as it is.
        old: path -> (class name, parameters) of what is there before the replacement.
        others: how many places of the kind are not among them.
    """

    slots: list[Slot] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    old: dict[str, tuple[str, int]] = field(default_factory=dict)
    others: int = 0

    @property
    def paths(self) -> list[str]:
        return [slot.path for slot in self.slots]


def make(choice: Choice, slot: Slot, like: nn.Module) -> nn.Module:
    """Build the chosen module for a place, where `like` is and of its type.

    Args:
        choice: what to build.
        slot: sizes and wishes.
        like: the module whose device, type and training mode the new one takes.

    Raises:
        UnsupportedSurgery: it cannot be built in these sizes, or refuses the value of an option; the cause is in the
            message.
        ValueError: an option that the backbone decides.
    """
    given = choice.options_at(slot.path)
    refuse_placement(given, choice.name)
    if clash := sorted(given.keys() & {*slot.sizes}):
        raise ValueError(f"{', '.join(clash)} of {choice.name} comes from the backbone and cannot be an option")
    target = choice.target
    entry = choice.entry
    chosen = resolve_options(given)
    ratio = chosen.pop("hidden_ratio", None) if choice.slot == "mlp" and not takes(target, "hidden_ratio") else None
    if ratio is not None:
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not ratio > 0:
            raise ValueError(f"hidden_ratio must be a number greater than 0, got {ratio!r}")
        if "hidden_features" in chosen:
            raise ValueError("hidden_ratio and hidden_features both say how wide: give one of them")
        chosen["hidden_features"] = max(1, round(ratio * slot.sizes["in_features"]))
    options = {**slot.wishes, **(entry.args if entry else {}), **chosen}
    device, dtype = placement(like)
    accepted = {k: v for k, v in {**options, "device": device, "dtype": dtype}.items() if takes(target, k)}
    try:
        check_options(target, [*slot.sizes, *chosen], choice.name)
        module = target(**slot.sizes, **accepted)
    except ZooError:
        raise
    except (ValueError, RuntimeError, TypeError, AssertionError, ZeroDivisionError) as error:
        raise _refusal(choice.name, slot, chosen, error) from error
    if not isinstance(module, nn.Module):
        raise TypeError(f"{choice.name} made a {type(module).__name__}, not a torch.nn.Module")
    if "device" not in accepted or "dtype" not in accepted:
        module.to(device=device, dtype=dtype)
    register_notrace_module(type(module))  # it may choose a path by what its input is: a leaf for torch.fx
    return module.train(like.training)


def _refusal(name: str, slot: Slot, options: Iterable[str], error: Exception) -> UnsupportedSurgery:
    """Why a module could not be built: its options, if its constructor's error speaks of one of them first."""
    sizes = ", ".join(f"{k} {v}" for k, v in slot.sizes.items())
    options = set(options)
    spoken_of = (word for word in re.findall(r"\w+", str(error)) if word in options or word in slot.sizes)
    if isinstance(error, ValueError | TypeError) and next(spoken_of, None) in options:
        return UnsupportedSurgery(f"{name} refuses its options: {error}; built for {slot.path!r} with {sizes}")
    return UnsupportedSurgery(f"{name} does not fit {slot.path!r} ({sizes}): {error}")


def placement(module: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and floating type of a module's tensors; torch's defaults for one without."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.get_default_device(), torch.get_default_dtype()


def holds_values(module: nn.Module) -> bool:
    """Whether a module has tensors that say where it is and of which type."""
    return any(tensor.is_floating_point() for tensor in (*module.parameters(), *module.buffers()))


def takes(target: Callable[..., Any], keyword: str) -> bool:
    """Whether a constructor knows a keyword."""
    parameters = parameters_of(target)
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def replace_module(model: nn.Module, path: str, new: nn.Module) -> None:
    """Put a module at a dotted path, and wherever else the same object stands."""
    old = model.get_submodule(path)
    for owner in list(model.modules()):
        for name, child in owner._modules.items():
            if child is old:
                owner._modules[name] = new


def declared_layout(module: nn.Module, choice: Choice, default: str = "NLC") -> str:
    """The layout that a module says it works on: its class's word, else the catalogue's."""
    entry = choice.entry
    return getattr(module, "layout", None) or (entry.layout if entry else "") or default


def parents(path: str) -> Sequence[str]:
    """Names on the way to a module, without its own."""
    return path.split(".")[:-1]
