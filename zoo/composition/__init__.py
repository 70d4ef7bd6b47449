"""Composition: put registered modules into any backbone, and describe the result by one spec."""

from zoo.composition.composed import Change, Composed, Composition
from zoo.composition.composite import NAME, compose_features, compose_onto, flat_spec, is_composition
from zoo.composition.slots import Places, Slot
from zoo.composition.spec import BUILD_OPTIONS, SLOTS, Choice, Spec
from zoo.composition.surgery import operate, replaceable

__all__ = [
    "BUILD_OPTIONS",
    "NAME",
    "SLOTS",
    "Change",
    "Choice",
    "Composed",
    "Composition",
    "Places",
    "Slot",
    "Spec",
    "compose_features",
    "compose_onto",
    "flat_spec",
    "is_composition",
    "operate",
    "replaceable",
]
