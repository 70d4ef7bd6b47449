"""The variants of a comparison: a base, and the combinations of what its parts may be."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from zoo.composition import SLOTS, Choice
from zoo.errors import ZooError
from zoo.training.freeze import FreezePlan
from zoo.training.model_source import fixed_size, resolve_name, set_image_size
from zoo.training.options import Options

#: In the place of a module: what the base has there stays.
KEEP = "none"


@dataclass(frozen=True)
class Variant:
    """One of the models that are compared.

    Attributes:
        label: what it is called in the table: the choices that differ between variants.
        folder: name of its folder, the same in every comparison.
        parts: slot -> what takes its place, as `zoo.create_model` takes it.
        content: the same as JSON.
    """

    label: str
    folder: str
    parts: Mapping[str, Any]
    content: Mapping[str, Any]


def make_variants(given: Mapping[str, Any]) -> list[Variant]:
    """The combinations of all choices, the last part's changing fastest.

    Args:
        given: slot -> one choice, or a list of them. `None` and "none" keep what the base has.

    Raises:
        ValueError: nothing to compare, an empty list, or a choice twice.
        UnknownModuleError, TypeError: a choice that is no module, or an option that it does not take.
    """
    lists = {slot: list(v) for slot in SLOTS if isinstance(v := given.get(slot), list | tuple)}
    for slot, values in lists.items():
        if not values:
            raise ValueError(f"{slot}=[] has no choice in it; leave {slot} out to keep what the model has")
    read = {slot: [_read(slot, v) for v in lists.get(slot, [given.get(slot)])] for slot in SLOTS}
    for slot, choices in read.items():
        contents = [_content(choice) for choice in choices]
        if twice := next((c for i, c in enumerate(contents) if c in contents[:i]), None):
            raise ValueError(f"{slot} has the choice {_text(twice)} twice")
    variants = [_variant(dict(zip(SLOTS, row, strict=True)), lists) for row in itertools.product(*read.values())]
    if len(variants) < 2:
        slot = next(iter(lists), next((s for s in SLOTS if given.get(s) is not None), "head"))
        choice = read[slot][0]
        one = _text(_content(choice)) if choice is not None else "kan"
        raise ValueError(
            f"there is one model and nothing to compare it with: give a list, {slot}=[{KEEP!r}, {one!r}] for instance "
            f"({KEEP!r} keeps the model's own; --{slot} {KEEP},{one})"
        )
    return variants


def build_without_memory(
    base: Any, variant: Variant, classes: int, options: Options, model_args: Mapping[str, Any]
) -> tuple[int, int]:
    """Build a variant on the meta device, to know before any training that it can be built.

    Returns:
        Its parameters, and how many of them are ever trained.

    Raises:
        The errors of `zoo.create_model` and of freezing, with the variant's name before their message.
    """
    try:
        try:
            model = _build(base, variant, classes, options, model_args, meta=True)
        except (ZooError, TypeError, ValueError, AssertionError):
            raise
        except Exception:  # a constructor that computes with values
            model = _build(base, variant, classes, options, model_args, meta=False)
        trained = FreezePlan(model, options.freeze, options.unfreeze).ever_trained()
    except (ZooError, TypeError, ValueError, AssertionError) as error:
        error.args = (f"{variant.label}: {error}", *error.args[1:])
        raise
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    return sum(sizes.values()), sum(sizes[name] for name in trained)


def _build(
    base: Any, variant: Variant, classes: int, options: Options, model_args: Mapping[str, Any], *, meta: bool
) -> nn.Module:
    from zoo.factory import create_model

    with torch.device("meta") if meta else nullcontext():
        name = resolve_name(base)
        arguments = {**fixed_size(name, options.img_size), **model_args, **variant.parts, "num_classes": classes}
        model = create_model(name, pretrained=False, **arguments)
        if options.img_size is not None:
            set_image_size(model, options.img_size)
        return model


def _read(slot: str, value: Any) -> Choice | None:
    return None if value is None or value == KEEP else Choice.of(slot, value)


def _content(choice: Choice | None) -> Any:
    return KEEP if choice is None else json.loads(json.dumps(choice.to_dict(), default=_class_name))


def _variant(choices: Mapping[str, Choice | None], lists: Mapping[str, Sequence[Any]]) -> Variant:
    content = {slot: _content(choice) for slot, choice in choices.items() if choice is not None or slot in lists}
    differing = [slot for slot in lists if len(lists[slot]) > 1] or list(lists)
    label = ", ".join(f"{slot} {_text(content[slot])}" for slot in differing)
    folder = "-".join(f"{slot}-{_safe(content[slot])}" for slot in content)
    parts = {slot: choice.to_dict() for slot, choice in choices.items() if choice is not None}
    return Variant(label, folder, parts, content)


def _text(content: Any) -> str:
    """A choice as a person writes it: `kan`, `kan(grid_size=3, where=last:4)`."""
    if not isinstance(content, Mapping):
        return str(content)
    options = ", ".join(f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in content.items() if k != "type")
    return f"{_short(content)}({options})" if options else _short(content)


def _short(content: Mapping[str, Any]) -> str:
    """A module's name; a class's without where it is defined."""
    return str(content["type"]).rpartition(".")[2]


def _safe(content: Any) -> str:
    """A choice in a folder's name; what is not in its short name is told by a digest."""
    if not isinstance(content, Mapping):
        return str(content)
    name = "".join(c if c.isalnum() or c == "_" else "_" for c in _short(content))
    if content == {"type": name}:
        return name
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return f"{name}-{digest[:8]}"


def _class_name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}" if hasattr(value, "__qualname__") else repr(value)
