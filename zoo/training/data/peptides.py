"""Antimicrobial peptides and transmembrane segments: real sequences with no download."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import Splits
from zoo.training.data.sequence_files import filters_of, open_sequences
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.split import stratified_split

TEST, VAL = 82, 50
_FILE = Path(__file__).with_name("peptides.tsv")


def open_peptides(options: Mapping[str, str] | None = None) -> Splits:
    """412 sequences of 8 to 56 amino acids in two classes, AMP and TM: 280 train, 50 val, 82 test, split by seed 0.

    `min_len`, `max_len` and `alphabet` leave sequences out of each split.

    The halves of a class are as alike in one split as across them: no clusters of similar sequences were kept together.

    Source: Schneider et al. (2016, doi:10.1002/minf.201600011), as shipped by modlAMP; see peptides.LICENSE.
    """
    whole = open_sequences(str(_FILE)).train
    assert isinstance(whole, SequenceSet)
    rest, test = stratified_split(whole.labels, TEST, seed=0)
    train, val = stratified_split(whole.labels[rest], VAL, seed=0)
    filters = filters_of(options or {})
    reasons = [filters.reason(text) for text in whole.texts]
    for name, reason in zip(whole.ids, reasons, strict=True):
        if reason is not None:
            filters.drop(name, reason)

    def split(rows: np.ndarray, name: str) -> SequenceSet:
        found = [k for k in rows if reasons[k] is None]
        if not found:
            raise DataError(f"no sequence of the {name} is left: {filters.notes('peptides', len(whole))[0]}")
        return whole.subset(found, name)

    return Splits(
        name="peptides",
        train=split(rest[train], "train of peptides"),
        val=split(rest[val], "val of peptides"),
        test=split(test, "test of peptides"),
        notes=filters.notes("peptides", len(whole)),
        facts={"name": "peptides", "licence": "BSD-3-Clause", "url": "https://github.com/alexarnimueller/modlAMP"},
    )
