"""Files of sequences: FASTA, and tables, of UniProt too."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import DataError
from zoo.training.data.image_set import Splits
from zoo.training.data.labels import some
from zoo.training.data.options_text import split_options
from zoo.training.data.sequences import Filters, Record, drop_labels, sequence_splits
from zoo.training.data.table import BAG, IMAGE, LABEL, SPLIT, SPLIT_NAMES, find_column, open_text, read_text

#: Before files whose ending does not say that they hold sequences, or several files.
SEQUENCES = "sequences:"
FASTA = (".fasta", ".fa", ".faa", ".fas", ".fasta.gz", ".fa.gz", ".faa.gz")
TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
FILTERS = ("min_len", "max_len", "alphabet")
OPTIONS = ("sequence", "label", "split", "group", "id", "classes", *FILTERS)
SEQUENCE = ("sequence", "seq", "sequences", "protein", "peptide")
GROUP = ("group", "cluster", "cluster_id")
ID = ("entry", "accession", "acc", "id", "name")
#: UniProt's column, and the class of an entry whose text has one of the words; one with words of both is left out.
UNIPROT = "subcellular_location_[cc]"
UNIPROT_RULES: Mapping[str, tuple[str, ...]] = {"cytoplasm": ("cytoplasm", "cytosol"), "membrane": ("membrane",)}
_EVIDENCE = re.compile(r"\{[^}]*\}|Note=.*", re.DOTALL)
#: DeepLoc's header: a location, and whether the protein is of a membrane, soluble, or that is unknown.
_DEEPLOC = re.compile(r"(?P<location>[^\s-]\S*?)-(?P<membrane>[MSU])")


def holds_sequences(text: str) -> bool:
    """Whether a source is of sequences: FASTA by its ending, or a table with a column of sequences and none of images
    or bags, or one whose column is named, `t.csv?sequence=COLUMN`."""
    file, _, options = (text, "", "") if Path(text).exists() else text.partition("?")
    path = Path(file).expanduser()
    if path.name.lower().endswith(FASTA):
        return True
    if not path.name.lower().endswith(TABLES) or not path.is_file():
        return False
    if any(option.startswith("sequence=") for option in options.split("&")):
        return True
    try:
        with open_text(path) as stream:
            head = stream.readline()
    except (OSError, EOFError, UnicodeDecodeError):
        return False  # whoever reads it says what is wrong
    names = {re.sub(r"\s+", "_", name.strip(' "\r\n').lower()) for name in re.split(r"[,;\t]", head)}
    return not names.isdisjoint(SEQUENCE) and names.isdisjoint((*IMAGE, *BAG))


def open_sequences(text: str, *, labelled: bool = True) -> Splits:
    """Read sequences and their classes, with options after a `?`.

    - FASTA with DeepLoc's headers, `>ACC Location-M|S|U [test]`: the class is the location, or with `label=membrane`
      membrane or soluble; those marked test are the test split.
    - Several FASTA files, `a.fasta,b.fasta`: one a class, which has the file's name.
    - A table (CSV, TSV) with a column of sequences and one of classes, perhaps one of splits; or of groups of sequences
      that are alike, such as clusters of homologues, none of which is then in two splits.
    - UniProt's TSV with the columns Sequence and Subcellular location [CC]: cytoplasm or membrane, by `UNIPROT_RULES`.

    Columns are found by their usual names, or given: `proteins.tsv?sequence=aa&label=place&group=cluster`. Further
    options: `classes=A,B` takes these alone; `min_len`, `max_len`, `alphabet` leave out what is outside. Empty
    sequences, those that are there twice, and all with two labels are left out; a note counts them.

    Args:
        text: the files and their options.
        labelled: False takes no account of labels, which need not be there.

    Raises:
        DataError: naming what is wrong and what was found.
    """
    source, options = split_options(text, OPTIONS)
    paths = [Path(part).expanduser() for part in ([source] if Path(source).exists() else source.split(","))]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise DataError(f"no file {some(missing)}; {SEQUENCES}FILE wants FASTA or a table of sequences")
    fasta = [path.name.lower().endswith(FASTA) for path in paths]
    if len(paths) > 1 and not all(fasta):
        raise DataError(f"several files are FASTA, one a class; {paths[fasta.index(False)]} is not")
    filters = filters_of(options)
    if not all(fasta):
        records = _of_table(read_text(paths[0]), str(paths[0]), options, filters, labelled)
    elif len(paths) > 1:
        records = [
            Record(header.split()[0] if header.split() else f"{path.stem} {k}", letters, path.name.partition(".")[0])
            for path in paths
            for k, (header, letters) in enumerate(read_fasta(path))
        ]
    else:
        records = _of_headers(read_fasta(paths[0]), str(paths[0]), options, filters, labelled)
    name = paths[0].name.partition(".")[0] if len(paths) == 1 else "-".join(p.name.partition(".")[0] for p in paths)
    everything = len(records) + filters.left_out
    if labelled and "classes" in options:
        wanted = [part.strip() for part in options["classes"].split(",")]
        records = drop_labels(records, wanted, filters, str(paths[0]))
    if not labelled:
        records = [Record(one.id, one.text, None, one.split, one.group) for one in records]
    return sequence_splits(records, filters, name, everything=everything)


def read_fasta(path: Path) -> list[tuple[str, str]]:
    """(header, letters) of every record; a record may be empty.

    Raises:
        DataError: it cannot be read, or letters come before the first header.
    """
    try:
        with open_text(path) as stream:
            return list(_records(stream, path))
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path} as FASTA ({error})") from error


def _records(lines: Iterator[str] | Any, path: Path) -> Iterator[tuple[str, str]]:
    header, letters = None, []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if line.startswith(">"):
            if header is not None:
                yield header, "".join(letters)
            header, letters = line[1:].strip(), []
        elif line and not line.startswith(";"):
            if header is None:
                raise DataError(f"{path}, line {number}: FASTA begins with a header, '>name', got {line[:30]!r}")
            letters.append("".join(line.split()))
    if header is None:
        raise DataError(f"{path} has no sequences; FASTA is '>name' and lines of letters")
    yield header, "".join(letters)


def _of_headers(
    found: Sequence[tuple[str, str]], source: str, options: Mapping[str, str], filters: Filters, labelled: bool
) -> list[Record]:
    which = options.get("label", "location")
    if which not in ("location", "membrane"):
        raise DataError(f"{source}: the label of FASTA is location or membrane, got {which!r}")
    records = []
    for k, (header, letters) in enumerate(found):
        words = header.split()
        name = words[0] if words else f"record {k + 1}"
        said = _DEEPLOC.fullmatch(words[1]) if len(words) > 1 else None
        if not labelled:
            records.append(Record(name, letters, None))
            continue
        if said is None:
            raise DataError(
                f"{source}: the header '>{header[:60]}' does not tell a class; expected '>ACC Location-M|S|U [test]'. "
                f"Give one file a class, {SEQUENCES}a.fasta,b.fasta, or a table of sequences and labels"
            )
        label = said["location"] if which == "location" else {"M": "membrane", "S": "soluble"}.get(said["membrane"])
        if label is None:
            filters.drop(name, "of unknown solubility")
            continue
        records.append(Record(name, letters, label, "test" if words[2:] == ["test"] else "train"))
    if all(record.split == "train" for record in records):  # without marks, nothing was split
        records = [Record(one.id, one.text, one.label) for one in records]
    return records


def _of_table(
    columns: Mapping[str, Sequence[Any]], source: str, options: Mapping[str, str], filters: Filters, labelled: bool
) -> list[Record]:
    def column(what: str, usual: Sequence[str]) -> Sequence[Any] | None:
        if what in options:
            return columns[find_column(columns, options[what], (), what, source)]
        plain = {name.strip().lower().replace(" ", "_"): name for name in reversed(list(columns))}
        return next((columns[plain[name]] for name in usual if name in plain), None)

    texts = columns[find_column(columns, options.get("sequence"), SEQUENCE, "sequence", source)]
    location = None if "label" in options else column("location", (UNIPROT,))
    labels: Sequence[Any] | None = None
    if labelled and location is None:
        labels = columns[find_column(columns, options.get("label"), LABEL, "label", source)]
    parts, groups, ids = column("split", SPLIT), column("group", GROUP), column("id", ID)
    records = []
    for k, text in enumerate(texts):
        name = str(ids[k]) if ids is not None else f"in row {k + 1}"
        label = str(labels[k]).strip() if labels is not None else None
        if labelled and location is not None:
            label = _uniprot_class(str(location[k]))
            if label is None or "," in label:
                filters.drop(name, "of both classes" if label else "of neither class")
                continue
        split = "" if parts is None else SPLIT_NAMES.get(str(parts[k]).strip().lower(), "?")
        if split == "?":
            raise DataError(f"{source}, row {k + 1}: no split {parts[k]!r}; splits are {some(sorted(SPLIT_NAMES), 20)}")  # pyright: ignore
        records.append(Record(name, str(text), label, split, "" if groups is None else str(groups[k]).strip()))
    return records


def _uniprot_class(text: str) -> str | None:
    """The class, several joined by commas, or None."""
    said = _EVIDENCE.sub("", text).lower()
    return ",".join(name for name, words in UNIPROT_RULES.items() if any(word in said for word in words)) or None


def filters_of(options: Mapping[str, str]) -> Filters:
    """The filters that options ask for.

    Raises:
        DataError: a length that is none.
    """
    least, most = _number(options, "min_len", 2), _number(options, "max_len", None)
    return Filters(least, most, options.get("alphabet"))


def _number(options: Mapping[str, str], name: str, default: Any) -> Any:
    given = options.get(name)
    if given is None:
        return default
    if not given.isdecimal() or int(given) < 1:
        raise DataError(f"{name} must be a whole number from 1, got {given!r}")
    return int(given)
