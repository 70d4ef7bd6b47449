"""Gives one object further behaviour by a subclass of its own class, without a wrapper around it.

A module that has to see another layout, or a model whose `reset_classifier` has to rebuild another head, keeps its
class (for `isinstance`), its place and the names of its parameters. The subclass is made once per combination; its
instances are copied and pickled by the names of the classes that it is made of, never by its own.
"""

from __future__ import annotations

from functools import cache
from types import FunctionType
from typing import Any, ClassVar, TypeVar

from torch import nn

M = TypeVar("M", bound=nn.Module)


class Specialised:
    """Base of every behaviour that `specialise` can add; knows how to be copied and pickled.

    Attributes:
        beneath: the method that the behaviour replaces, and the name by which it calls the one beneath; TorchScript
            knows no `super()`.
        zoo_parts: the original class, and the behaviours on top of it.
    """

    beneath: ClassVar[tuple[str, str] | None] = None
    zoo_parts: ClassVar[tuple[type, tuple[type, ...]]]

    def __reduce__(self) -> tuple[Any, ...]:
        root, behaviours = self.zoo_parts
        return _blank, (root, behaviours), self.__dict__.copy()


@cache
def _subclass(root: type, behaviours: tuple[type[Specialised], ...]) -> type:
    if not behaviours:
        return root
    *inner, last = behaviours
    below = _subclass(root, tuple(inner))
    body: dict[str, Any] = {}
    if last.beneath is not None:
        method, name = last.beneath
        body[name] = _renamed(getattr(below, method), name)
    # TorchScript takes the annotations of a class for those of its attributes.
    body["__annotations__"] = dict(getattr(root, "__annotations__", {}))
    body |= {"__module__": root.__module__, "__doc__": root.__doc__, "zoo_parts": (root, behaviours)}
    return type(root.__name__, (last, below), body)


def _renamed(function: Any, name: str) -> FunctionType:
    copy = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    copy.__dict__.update(function.__dict__)
    copy.__annotations__, copy.__kwdefaults__ = function.__annotations__, function.__kwdefaults__
    return copy


def _blank(root: type, behaviours: tuple[type, ...]) -> Any:
    return object.__new__(_subclass(root, behaviours))


def original_class(module: nn.Module) -> type:
    """The class that the object had before any behaviour was added."""
    return module.zoo_parts[0] if isinstance(module, Specialised) else type(module)


def specialise(module: M, *behaviours: type, **attributes: Any) -> M:
    """Add behaviours (subclasses of `Specialised`) to one object, in place.

    Args:
        module: the object; its class becomes a subclass of what it was.
        *behaviours: mixins, the last one outermost; one that is there already is not added again.
        **attributes: set on the object, for the behaviours to read.

    Returns:
        The same object.
    """
    present = module.zoo_parts[1] if isinstance(module, Specialised) else ()
    module.__class__ = _subclass(original_class(module), (*present, *(b for b in behaviours if b not in present)))
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


def restore(module: M, *behaviours: type) -> M:
    """Take behaviours off an object again, in place."""
    if isinstance(module, Specialised):
        root, present = module.zoo_parts
        left = tuple(b for b in present if b not in behaviours)
        module.__class__ = _subclass(root, left) if left else root
    return module
