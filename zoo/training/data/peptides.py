"""Antimicrobial peptides and transmembrane segments: real sequences with no download."""

from __future__ import annotations

from pathlib import Path

from zoo.training.data.image_set import Splits
from zoo.training.data.sequence_files import open_sequences
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.split import stratified_split

TEST, VAL = 82, 50
_FILE = Path(__file__).with_name("peptides.tsv")


def open_peptides() -> Splits:
    """412 sequences of 8 to 56 amino acids in two classes, AMP and TM: 280 train, 50 val, 82 test, split by seed 0.

    The halves of a class are as alike in one split as across them: no clusters of similar sequences were kept together.

    Source: Schneider et al. (2016, doi:10.1002/minf.201600011), as shipped by modlAMP; see peptides.LICENSE.
    """
    whole = open_sequences(str(_FILE)).train
    assert isinstance(whole, SequenceSet)
    rest, test = stratified_split(whole.labels, TEST, seed=0)
    train, val = stratified_split(whole.labels[rest], VAL, seed=0)
    return Splits(
        name="peptides",
        train=whole.subset(rest[train], "train of peptides"),
        val=whole.subset(rest[val], "val of peptides"),
        test=whole.subset(test, "test of peptides"),
        facts={"name": "peptides", "licence": "BSD-3-Clause", "url": "https://github.com/alexarnimueller/modlAMP"},
    )
