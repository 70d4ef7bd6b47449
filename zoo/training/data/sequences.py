"""Labelled sequences of letters, such as proteins, and what is left out of them before anything is learned."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from zoo.errors import DataError
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import encode, some

#: Of the sequences with groups, these shares are held out.
_TEST, _VAL = 0.2, 0.1
_LETTERS = re.compile(r"[A-Z]+")


def plain_letters(text: str) -> str:
    """A sequence as it is written, in capitals, without white space and the stop at its end."""
    return re.sub(r"\s", "", text).upper().removesuffix("*")


def written(texts: Sequence[str], name: str) -> SequenceSet:
    """Sequences that are given as texts, called by their numbers.

    Args:
        texts: of letters.
        name: of the set.

    Raises:
        DataError: something else than letters, such as a gap.
    """
    plain = [plain_letters(text) for text in texts]
    for k, text in enumerate(plain):
        wrong = next((letter for letter in text if not _LETTERS.fullmatch(letter)), None)
        if wrong is not None:
            raise DataError(
                f"sequence {k} of {name} ({texts[k][:20]!r}) has {wrong!r}, which is no letter from A to Z; take out "
                "gaps and stops"
            )
    ids = [str(k) for k in range(len(plain))]
    return SequenceSet(plain, np.zeros(len(plain), dtype=np.int64), ["?"], name=name, ids=ids)


class SequenceSet(ImageSet):
    """Labelled sequences of one split; `image(i)` is the text.

    Args:
        texts: the sequences.
        labels, classes, name: as of `ImageSet`.
        ids: what the sequences are called.
    """

    noun = "sequence"

    def __init__(
        self, texts: Sequence[str], labels: np.ndarray, classes: Sequence[str], *, name: str, ids: Sequence[str]
    ):
        self.texts, self.ids = list(texts), list(ids)
        super().__init__(labels, classes, name=name, flip=False)

    def image(self, index: int) -> str:
        return self.texts[index]

    def where(self, index: int) -> str:
        return f"sequence {self.ids[index]} of {self.name}"

    def content(self, index: int) -> bytes:
        return self.texts[index].encode()

    def size(self, index: int) -> int:
        return len(self.texts[index])

    def subset(self, indices: Sequence[int] | np.ndarray, name: str) -> SequenceSet:
        chosen = [int(i) for i in indices]
        made = SequenceSet(
            [self.texts[i] for i in chosen], self.labels[chosen], self.classes, name=name,
            ids=[self.ids[i] for i in chosen],
        )  # fmt: skip
        made.partial = self.partial
        return made


@dataclass(frozen=True)
class Record:
    """A sequence as a file has it.

    Attributes:
        id: what it is called.
        text: its letters.
        label: its class; None where none was asked for.
        split: "train", "val" or "test"; empty where the file does not say.
        group: of sequences that are alike, which belong into one split; empty for none.
    """

    id: str
    text: str
    label: str | None
    split: str = ""
    group: str = ""


@dataclass
class Filters:
    """What is left out.

    Attributes:
        min_len, max_len: of letters; None for no limit.
        alphabet: a sequence with another letter is left out; None for any letter from A to Z.
        dropped: reason -> what those are called that were left out for it.
    """

    min_len: int = 2
    max_len: int | None = None
    alphabet: str | None = None
    dropped: dict[str, list[str]] = field(default_factory=dict)

    def drop(self, record: str, reason: str) -> None:
        """Take account of one that is left out."""
        self.dropped.setdefault(reason, []).append(record)

    @property
    def left_out(self) -> int:
        """How many."""
        return sum(map(len, self.dropped.values()))

    def kept(self, records: Sequence[Record]) -> list[Record]:
        """The records that are left, their letters as capitals; `dropped` counts the others by the reason."""
        found = []
        for record in records:
            text = plain_letters(record.text)
            reason = self.reason(text)
            if reason is None:
                found.append(replace(record, text=text))
            else:
                self.drop(record.id, reason)
        return self._once(found)

    def reason(self, text: str) -> str | None:
        """Why a sequence of capital letters is left out; None if it is not."""
        if not text:
            return "empty"
        if not _LETTERS.fullmatch(text) or (self.alphabet is not None and set(text) - set(self.alphabet)):
            return f"with other letters than {self.alphabet or 'A to Z'}"
        if len(text) < self.min_len:
            return f"shorter than {self.min_len}"
        if self.max_len is not None and len(text) > self.max_len:
            return f"longer than {self.max_len}"
        return None

    def _once(self, records: Sequence[Record]) -> list[Record]:
        """Each sequence once in a split, and none that has two labels; all of those without labels."""
        if all(record.label is None for record in records):
            return list(records)
        labels: dict[str, set[str | None]] = {}
        for record in records:
            labels.setdefault(record.text, set()).add(record.label)
        seen: set[tuple[str, str]] = set()
        found = []
        for record in records:
            if len(labels[record.text]) > 1:
                self.drop(record.id, "with two labels")
            elif (record.text, record.split) in seen:
                self.drop(record.id, "repeated")
            else:
                seen.add((record.text, record.split))
                found.append(record)
        return found

    def notes(self, name: str, everything: int) -> list[str]:
        """What was left out, if anything was: how many for each reason, and which of them come first."""
        if not self.dropped:
            return []
        most = sorted(self.dropped.items(), key=lambda item: -len(item[1]))
        reasons = ", ".join(
            f"{len(ids):,} {reason} ({', '.join(ids[:3])}{', …' * (len(ids) > 3)})" for reason, ids in most
        )
        return [f"left out {self.left_out:,} of {everything:,} sequences of {name}: {reasons}"]


def sequence_splits(records: Sequence[Record], filters: Filters, name: str, *, everything: int | None = None) -> Splits:
    """Splits out of records: as they say, or so that no group is in two, or all in train.

    Args:
        records: of one source.
        filters: what is left out.
        name: of the data set.
        everything: how many there were before others were counted in `filters.dropped`; those given if None.

    Raises:
        DataError: nothing is left, some sequences are in a split and others in none.
    """
    kept = filters.kept(records)
    splits = Splits(name=name)
    splits.notes += filters.notes(name, len(records) if everything is None else everything)
    if not kept:
        raise DataError(f"{name} has no sequence that can be used{': ' + splits.notes[0] if splits.notes else ''}")
    without = next((record for record in kept if not record.split), None)
    if without is not None and any(record.split for record in kept):
        raise DataError(f"{name}: {without.id} is in no split, others are; say of every sequence where it belongs")
    grouped = any(record.group for record in kept)
    if without is not None and grouped:
        kept = _split_by_group(kept, name)
        splits.notes.append(f"{name} was split by groups of sequences that are alike, none of which is in two splits")
    elif grouped:
        _check_groups(kept, name)
    splits.whole = without is not None and not grouped
    rows = {
        split: [record for record in kept if (record.split or "train") == split] for split in ("train", "val", "test")
    }
    rows = {split: found for split, found in rows.items() if found}
    if all(record.label is not None for record in kept):
        encoded = encode({split: [record.label for record in found] for split, found in rows.items()}, name)
        classes, labels = encoded.classes, encoded.labels
    else:
        classes, labels = ["?"], {split: np.zeros(len(found), dtype=np.int64) for split, found in rows.items()}
    for split, found in rows.items():
        title = f"{split} of {name}"
        made = SequenceSet(
            [record.text for record in found], labels[split], classes, name=title, ids=[record.id for record in found]
        )
        made.partial = True
        setattr(splits, split, made)
    return splits


def _split_by_group(records: Sequence[Record], name: str) -> list[Record]:
    """Whole groups, in an order drawn by seed 0, to test and val until their shares are full; the rest to train."""
    alone = next((record for record in records if not record.group), None)
    if alone is not None:
        raise DataError(
            f"{name}: {alone.id} is in no group, others are; a sequence like no other is a group of its own"
        )
    names = sorted({record.group for record in records})
    if len(names) < 3:
        raise DataError(f"{name} has {len(names)} group(s) of sequences; to split by them there must be three")
    sizes: Mapping[str, int] = Counter(record.group for record in records)
    chosen: dict[str, str] = {}
    filled = Counter[str]()
    for k in np.random.RandomState(0).permutation(len(names)):
        group = names[k]
        split = next(
            (s for s, share in (("test", _TEST), ("val", _VAL)) if filled[s] < share * len(records)), "train"
        )  # fmt: skip
        chosen[group] = split
        filled[split] += sizes[group]
    return [replace(record, split=chosen[record.group]) for record in records]


def _check_groups(records: Sequence[Record], name: str) -> None:
    where: dict[str, str] = {}
    for record in records:
        if record.group and where.setdefault(record.group, record.split) != record.split:
            raise DataError(
                f"{name}: the group {record.group!r} has sequences in {where[record.group]} and in {record.split}"
            )


def drop_labels(records: Sequence[Record], wanted: Sequence[str], filters: Filters, name: str) -> list[Record]:
    """The records of the wanted classes; the others are counted.

    Raises:
        DataError: no record has one of the wanted.
    """
    there = sorted({record.label or "" for record in records})
    missing = [label for label in wanted if label not in there]
    if missing:
        raise DataError(f"{name} has no class {some(missing)}; there: {some(there, 20)}")
    for record in records:
        if record.label not in wanted:
            filters.drop(record.id, "of other classes")
    return [record for record in records if record.label in wanted]
