"""Sequences from FASTA and tables: classes, splits, and what is left out."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from zoo.errors import DataError
from zoo.training.data.sequences import SequenceSet
from zoo.training.data.source import open_splits

DEEPLOC = """>A1 Cytoplasm-S
MKTA
 VL
>A2 Cell.membrane-M test
LLVVIAK*
>A3 Cell.membrane-M

>A4 Cytoplasm-S test
mmk
>A5 Cell.membrane-M
LLVVI
>A6 Cytoplasm-U
MKTAVV
"""


def of(source: str, split: str = "train") -> tuple[list[str], list[str]]:
    """Texts and classes of a split."""
    made = open_splits(source, val="no").present()[split]
    assert isinstance(made, SequenceSet)
    return made.texts, [made.classes[k] for k in made.labels]


def notes(source: str) -> list[str]:
    return open_splits(source, val="no").notes


def test_headers_tell_location_membrane_and_what_is_held_out(tmp_path: Path) -> None:
    file = tmp_path / "proteins.fasta"
    file.write_text(DEEPLOC)
    assert of(str(file)) == (["MKTAVL", "LLVVI", "MKTAVV"], ["Cytoplasm", "Cell.membrane", "Cytoplasm"])
    assert of(str(file), "test") == (["LLVVIAK", "MMK"], ["Cell.membrane", "Cytoplasm"])
    assert notes(str(file)) == ["left out 1 of 6 sequences of proteins: 1 empty (A3)"]
    assert of(f"{file}?label=membrane") == (["MKTAVL", "LLVVI"], ["soluble", "membrane"])
    assert notes(f"{file}?label=membrane") == [
        "left out 2 of 6 sequences of proteins: 1 of unknown solubility (A6), 1 empty (A3)"
    ]
    packed = tmp_path / "packed.fasta.gz"
    packed.write_bytes(gzip.compress(DEEPLOC.encode()))
    assert of(str(packed)) == of(str(file))


def test_files_may_be_classes(tmp_path: Path) -> None:
    for name, text in (("inside", ">a\nMKT\n>b\nMMK\n"), ("outside", ">c\nLLV\n>d\nMMK\n")):
        (tmp_path / f"{name}.fa").write_text(text)
    source = f"sequences:{tmp_path}/inside.fa,{tmp_path}/outside.fa"
    assert of(source) == (["MKT", "LLV"], ["inside", "outside"])
    assert notes(source) == ["left out 2 of 4 sequences of inside-outside: 2 with two labels (b, d)"]


def test_tables_have_columns_by_their_usual_names_or_given_ones(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    table.write_text(
        "id\tsequence\tlabel\tsplit\np\tMKT\tx\ttrain\nq\tLLV\ty\ttrain\nr\tMKK\tx\ttest\ns\tLLV\ty\ttrain\n"
    )
    assert of(str(table)) == (["MKT", "LLV"], ["x", "y"])
    assert of(str(table), "test") == (["MKK"], ["x"])
    assert notes(str(table)) == ["left out 1 of 4 sequences of t: 1 repeated (s)"]
    named = tmp_path / "n.csv"
    named.write_text("aa,place\nMKT,x\nLLV,y\nMKTMKT,z\nM-T,x\nM,x\nMKX,y\n")
    options = "sequence=aa&label=place&classes=x,y&min_len=2&max_len=5&alphabet=MKTLV"
    assert of(f"sequences:{named}?{options}") == (["MKT", "LLV"], ["x", "y"])
    (said,) = notes(f"sequences:{named}?{options}")
    assert said.startswith("left out 4 of 6 sequences of n: ")
    for reason in (
        "2 with other letters than MKTLV (in row 4, in row 6)",
        "1 of other classes (in row 3)",
        "1 shorter than 2 (in row 5)",
    ):
        assert reason in said
    assert of(f"{named}?{options}") == of(f"sequences:{named}?{options}")  # a column of sequences is named
    packed = tmp_path / "n.csv.gz"
    packed.write_bytes(gzip.compress(named.read_bytes()))
    assert of(f"{packed}?{options}") == of(f"{named}?{options}")


def test_entries_of_uniprot_are_of_the_cytoplasm_or_of_a_membrane(tmp_path: Path) -> None:
    table = tmp_path / "u.tsv"
    rows = [
        ("P1", "MKTA", "SUBCELLULAR LOCATION: Cytoplasm, cytosol {ECO:0000269|membrane}. Note=At the membrane too."),
        ("P2", "LLVV", "SUBCELLULAR LOCATION: Cell membrane; Multi-pass membrane protein."),
        ("P3", "MLKL", "SUBCELLULAR LOCATION: Cytoplasm. Membrane."),
        ("P4", "MLKK", "SUBCELLULAR LOCATION: Secreted."),
    ]
    table.write_text("Entry\tSequence\tSubcellular location [CC]\n" + "\n".join("\t".join(row) for row in rows))
    assert of(str(table)) == (["MKTA", "LLVV"], ["cytoplasm", "membrane"])
    assert notes(str(table)) == ["left out 2 of 4 sequences of u: 1 of both classes (P3), 1 of neither class (P4)"]


def test_no_group_is_in_two_splits(tmp_path: Path) -> None:
    table, letters = tmp_path / "g.tsv", "ACDEFGHIKL"
    rows = [f"{a}{b}MM\t{'xy'[k % 2]}\tc{k // 5}" for k, (a, b) in enumerate((a, b) for a in letters for b in letters)]
    table.write_text("sequence\tlabel\tcluster\n" + "\n".join(rows))
    splits = open_splits(str(table))
    sets = {name: set(part.texts) for name, part in splits.present().items() if isinstance(part, SequenceSet)}
    assert {name: len(texts) for name, texts in sets.items()} == {"train": 70, "val": 10, "test": 20}
    groups = {row.split("\t")[0]: row.split("\t")[2] for row in rows}
    seen = Counter(group for texts in sets.values() for group in {groups[text] for text in texts})
    assert set(seen.values()) == {1}
    table.write_text("sequence\tlabel\tcluster\tsplit\nMK\tx\t1\ttrain\nLV\ty\t1\ttest\n")
    with pytest.raises(DataError, match="the group '1' has sequences in train and in test"):
        open_splits(str(table))


def test_peptides_come_with_the_package() -> None:
    splits = open_splits("peptides")
    assert {name: Counter(part.labels.tolist()) for name, part in splits.present().items()} == {
        "train": {0: 140, 1: 140},
        "val": {0: 25, 1: 25},
        "test": {0: 41, 1: 41},
    }
    assert splits.present()["train"].classes == ["AMP", "TM"]
    texts = [text for part in splits.present().values() for text in part.texts]  # type: ignore[attr-defined]
    assert len(set(texts)) == 412
    assert not splits.notes
    assert open_splits("peptides").fingerprint() == splits.fingerprint()
    short = open_splits("peptides?min_len=20&max_len=25&alphabet=ACDEFGHIKLMNPQRSTVWY")
    for name, part in short.present().items():
        there = [text for text in splits.present()[name].texts if 20 <= len(text) <= 25]  # type: ignore[attr-defined]
        assert part.texts == there  # type: ignore[attr-defined]
    assert short.notes[0].startswith("left out ")
    assert " of 412 sequences of peptides: " in short.notes[0]
    with pytest.raises(DataError, match=r"no sequence of the train of peptides is left: left out 412 of 412"):
        open_splits("peptides?min_len=500")
    assert np.mean([len(text) for text in texts]) == pytest.approx(23, abs=3)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.fasta", "MKT\n", r"line 1: FASTA begins with a header"),
        ("a.fasta", "", "has no sequences"),
        ("a.fasta", ">sp|P1 some protein\nMKT\n", r"header '>sp\|P1 some protein' does not tell a class"),
        ("a.fasta?label=place", DEEPLOC, "location or membrane, got 'place'"),
        ("a.fasta?min_len=x", DEEPLOC, "min_len must be a whole number from 1, got 'x'"),
        ("t.csv?sequnce=aa", "aa,label\nMKTA,x\n", "takes no option 'sequnce'; did you mean 'sequence'"),
        ("a.fasta?clases=A", DEEPLOC, "takes no option 'clases'; did you mean 'classes'"),
        ("a.fasta?classes=Golgi", DEEPLOC, "has no class 'Golgi'; there: 'Cell.membrane', 'Cytoplasm'"),
        ("a.tsv", "sequence\tplace\nMKT\tx\n", "has no column for the label by a usual name"),
        ("a.tsv", "sequence\tlabel\tsplit\nMKT\tx\ttrial\n", "row 1: no split 'trial'"),
        ("a.tsv", "sequence\tlabel\tsplit\nMK\tx\t\nLV\ty\ttrain\n", "row 1: no split ''"),
        ("a.tsv", "sequence\tlabel\n\tx\n", "has no sequence that can be used"),
        ("a.tsv", "sequence\tlabel\tcluster\nMK\tx\t1\nLV\ty\t\n", "is in no group, others are"),
        ("a.csv", "aa,place\nMKT,x\n", r"of sequences of letters '…\?sequence=COLUMN&label=COLUMN'"),
        ("a.dat", "MKT", r"of sequences FASTA \(\.fasta, \.fa"),
        (
            "a.csv?max_len=3",
            "id,sequence,label\nq,MKLV,y\n" + "".join(f"{k},MK{k},x\n" for k in "ACDEF"),
            r"sequences of a second class \(left out 1 of 6 sequences of a: 1 longer than 3 \(q\)",
        ),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name.partition("?")[0]).write_text(text)
    with pytest.raises(DataError, match=message):
        open_splits(f"{tmp_path}/{name}")


def test_files_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match=r"no file 'nowhere\.fasta'"):
        open_splits("sequences:nowhere.fasta")
