"""The short form of a karyotype, as the International System for Human Cytogenomic Nomenclature writes numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.karyotype.arrays import as_array
from zoo.karyotype.template import Template, as_template


def iscn(copies: Any, sex: str = "XX", template: Template | Mapping[str, Sequence[int]] | None = None) -> str:
    """The number of chromosomes, the sex chromosomes, then gains and losses by type: "46,XY", "47,XX,+21", "45,X".

    Sex chromosomes are written as they are found, so that a gained or a lost one shows as a letter more or less. A
    cell without any has its losses written: "44,-X,-X". Numerical changes only: no structure is looked at.

    Where more than half of the autosomes have another number of copies in common than the template's, gains and losses
    are those from that ploidy: "69,XXY" of a triploid cell, "70,XXY,+21", "23,X" of a haploid one.

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
    expected = _at_ploidy(counts, dict(zip(template.names, template.of(sex), strict=True)), template.sex_names)
    changes = [
        f"{'+' if counts[name] > wanted else '-'}{name}"
        for name, wanted in expected.items()
        if counts[name] != wanted and not (letters and name in template.sex_names)
        for _ in range(abs(counts[name] - wanted))
    ]
    return ",".join([str(sum(copies)), *([letters] if letters else []), *changes])


def _at_ploidy(counts: dict[str, int], template: dict[str, int], sex_names: Sequence[str]) -> dict[str, int]:
    """The copies that a cell of the ploidy of `counts` has where nothing is gained or lost."""
    autosomes = [name for name in template if name not in sex_names]
    usual = {template[name] for name in autosomes}
    if len(usual) != 1:
        return template
    (number, found), *_ = Counter(counts[name] for name in autosomes).most_common(1)
    before = usual.pop()
    if 2 * found <= len(autosomes) or number in (0, before) or not before:
        return template
    # Half a pair of sex chromosomes is one of the first kind: XXY of XY three times by halves, X once.
    scaled = {name: template[name] * number // before for name in sex_names}
    scaled[sex_names[0]] = -(-template[sex_names[0]] * number // before)
    return dict.fromkeys(template, number) | scaled
