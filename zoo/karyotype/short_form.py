"""The short form of a karyotype, as the International System for Human Cytogenomic Nomenclature writes numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.karyotype.arrays import as_array
from zoo.karyotype.template import Template, as_template


def iscn(copies: Any, sex: str = "XX", template: Template | Mapping[str, Sequence[int]] | None = None) -> str:
    """The number of chromosomes, the sex chromosomes, then gains and losses by type: "46,XY", "47,XX,+21", "45,X".

    Sex chromosomes are written as they are found, so that a gained or a lost one shows as a letter more or less. A
    cell without any has its losses written: "44,-X,-X". Numerical changes only: no structure is looked at.

    Args:
        copies: how many chromosomes of every type.
        sex: the template that they are compared with.
        template: another species' types.

    Raises:
        ValueError: copies that are no counts of these types, or an unknown sex.
    """
    species = as_template(template)
    species.of(sex)  # refuses unknown ones
    found = as_array(copies, "copies")
    if found.shape != (len(species),):
        raise ValueError(f"copies must be [{len(species)}], one count per type, got {list(found.shape)}")
    if not np.isfinite(found).all() or (found < 0).any() or (found != np.round(found)).any():
        raise ValueError(f"copies must be integers of at least 0, got {found.tolist()}")
    return short_form(found.astype(int).tolist(), sex, species)


def short_form(copies: list[int], sex: str, template: Template) -> str:
    """`iscn` of counts that are known to be good."""
    counts = dict(zip(template.names, copies, strict=True))
    letters = "".join(name * counts[name] for name in template.sex_names)
    changes = [
        f"{'+' if counts[name] > wanted else '-'}{name}"
        for name, wanted in zip(template.names, template.of(sex), strict=True)
        if counts[name] != wanted and not (letters and name in template.sex_names)
        for _ in range(abs(counts[name] - wanted))
    ]
    return ",".join([str(sum(copies)), *([letters] if letters else []), *changes])
