"""How many copies of every chromosome a cell is expected to have."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from zoo.karyotype.arrays import integer
from zoo.naming import did_you_mean


@dataclass(frozen=True)
class Template:
    """The types of a species' chromosomes in class order, and the copies of each by sex.

    Args:
        names: of the types, those that are no sex chromosome first.
        copies: sex -> copies of every type. The first sex is the one that ties go to.
        sex_names: of `names`, the sex chromosomes, in the order in which a karyotype writes them.
    """

    names: tuple[str, ...]
    copies: Mapping[str, tuple[int, ...]]
    sex_names: tuple[str, ...] = ("X", "Y")

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not self.names:
            raise ValueError(f"the types of a template must be names that differ, got {self.names}")
        missing = [name for name in self.sex_names if name not in self.names]
        if missing:
            raise ValueError(f"the sex chromosomes {missing} are not among the types {self.names}")
        if not self.copies:
            raise ValueError("a template needs the copies of at least one sex")
        counts = {
            sex: tuple(integer(value, f"each copy number of template {sex!r}") for value in given)
            for sex, given in self.copies.items()
        }
        for sex, given in counts.items():
            if len(given) != len(self.names):
                raise ValueError(f"template {sex!r} has the copies of {len(given)} types; there are {len(self.names)}")
            if not any(given):
                raise ValueError(f"template {sex!r} has no chromosome")
        object.__setattr__(self, "copies", counts)

    @classmethod
    def diploid(cls, autosomes: int) -> Template:
        """Two copies of types 1..`autosomes`, and XX or XY: 22 for a human, 19 for a mouse, 20 for a rat.

        Raises:
            TypeError: no integer.
            ValueError: less than 1.
        """
        if integer(autosomes, "autosomes") < 1:
            raise ValueError("autosomes must be at least 1, got 0; 22 for a human")
        names = (*(str(number + 1) for number in range(autosomes)), "X", "Y")
        pairs = (2,) * autosomes
        return cls(names, {"XX": (*pairs, 2, 0), "XY": (*pairs, 1, 1)})

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def spellings(self) -> dict[str, str]:
        """The types by their names in lower case, also behind "chr": `x` and `chrx` of X."""
        return {prefix + name.lower(): name for prefix in ("chr", "") for name in self.names}

    def differences(self, names: Iterable[str]) -> str:
        """What is missing among names of classes, and what is no type: "without X, Y; besides x, 24". Empty if none."""
        given = list(names)
        missing = [name for name in self.names if name not in given]
        others = [name for name in given if name not in self.names]
        told = (("without ", missing), ("besides ", others))
        return "; ".join(begin + _listed(which) for begin, which in told if which)

    def __hash__(self) -> int:
        return hash((self.names, tuple(self.copies.items()), self.sex_names))

    def total(self, sex: str) -> int:
        """Chromosomes of a cell of this sex that deviates nowhere."""
        return sum(self.of(sex))

    def of(self, sex: str) -> tuple[int, ...]:
        """Copies of every type.

        Raises:
            ValueError: an unknown sex, with near names.
        """
        if sex not in self.copies:
            known = list(self.copies)
            raise ValueError(f"unknown sex {sex!r}{did_you_mean(str(sex), known) or '.'} Known: {', '.join(known)}")
        return self.copies[sex]


def _listed(names: list[str], most: int = 8) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def as_template(given: Template | Mapping[str, Sequence[int]] | None) -> Template:
    """A template as users give it: None for a human's, or sex -> copies of the types 1, 2, ..., X, Y."""
    if given is None:
        return HUMAN
    if isinstance(given, Template):
        return given
    if not isinstance(given, Mapping) or not given:
        raise TypeError(f"template must be a zoo.karyotype.Template or a mapping sex -> copies, got {given!r}")
    types = len(next(iter(given.values())))
    if types < 3:
        raise ValueError(f"a template has one type and two sex chromosomes at least, got copies of {types} types")
    return Template(Template.diploid(types - 2).names, {sex: tuple(copies) for sex, copies in given.items()})


#: 1..22, X, Y as classes 0..23.
HUMAN = Template.diploid(22)
