"""Chromosomes: images with a type, perhaps the polarity, perhaps the case that they belong to."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.karyotype import HUMAN
from zoo.karyotype.polarity import UNKNOWN, polarity_number
from zoo.training.data.image_set import ImageSet, Splits
from zoo.training.data.labels import some
from zoo.training.data.rendered_chromosomes import TYPES, RenderedCase, render_case

#: Bytes of rendered pictures that a set keeps.
_MOST_KEPT = 256 * 2**20
#: Seeds of the cases of each split begin here.
_FIRST_SEED = {"train": 0, "val": 1_000_000, "test": 2_000_000}


class ChromosomeSet(ImageSet):
    """Images of chromosomes of one split. To models of one task they are images and their types.

    Args:
        images: the pictures, whose labels are the types.
        polarity: (N,) 0 where the short arm points up, 1 where down, -1 where that is not known; None of all.
        cases: the case of each, whatever it is called; a case is never split. None where that is not known.

    Raises:
        DataError: another number of them than of images; another polarity.
    """

    noun, group_noun = "chromosome", "case"

    def __init__(self, images: ImageSet, polarity: Any = None, cases: Sequence[Hashable] | None = None):
        self.images = images
        self.decodes, self.partial, self.counted = images.decodes, images.partial, images.counted
        count = len(images)
        self.polarity = np.full(count, UNKNOWN) if polarity is None else np.asarray(polarity).astype(np.int64)
        self.groups = None if cases is None else list(cases)
        super().__init__(images.labels, images.classes, name=images.name, flip=images.flip, ordinal=images.ordinal)
        if self.multi_label:
            raise DataError(f"{self.name}: a chromosome has one type, these have several")
        for what, there in (("polarities", self.polarity), ("cases", self.groups)):
            if there is not None and len(there) != count:
                raise DataError(f"{self.name} has {count} chromosomes but {len(there)} {what}")
        bad = ~np.isin(self.polarity, (UNKNOWN, 0, 1))
        if bad.any():
            index = int(bad.argmax())
            raise DataError(
                f"{self.where(index)} has the polarity {self.polarity[index]}; 0 is the short arm up, 1 down, "
                f"{UNKNOWN} not known"
            )

    @property
    def knows_polarity(self) -> bool:
        """Whether that of any of them is known."""
        return bool((self.polarity != UNKNOWN).any())

    @property
    def case_numbers(self) -> np.ndarray | None:
        """(N,) the case of each, numbered as they come; None where cases are not known."""
        if self.groups is None:
            return None
        number: dict[Hashable, int] = {}
        return np.array([number.setdefault(case, len(number)) for case in self.groups])

    def image(self, index: int) -> Any:
        return self.images.image(index)

    def where(self, index: int) -> str:
        return self.images.where(index)

    def content(self, index: int) -> bytes | None:
        return self.images.content(index)

    def size(self, index: int) -> int | None:
        return self.images.size(index)

    def told(self) -> bytes:
        return super().told() + self.polarity.tobytes() + repr(self.groups).encode()

    def subset(self, indices: Sequence[int] | np.ndarray, name: str) -> ChromosomeSet:
        chosen = np.asarray(indices, dtype=np.int64)
        made = copy.copy(self)
        made.images, made.name = self.images.subset(chosen, name), name
        made.labels, made.polarity = self.labels[chosen], self.polarity[chosen]
        made.groups = None if self.groups is None else [self.groups[int(i)] for i in chosen]
        made._check_labels()
        return made


def read_polarity(values: Sequence[Any], where: str) -> np.ndarray:
    """Polarities as people write them: up or 0, down or 1; nothing, -1 or ? where it is not known.

    Raises:
        DataError: another word, with its row.
    """
    try:
        return np.array(
            [polarity_number(value, f"{where}, row {row + 1}") for row, value in enumerate(values)], np.int64
        )
    except ValueError as error:
        raise DataError(str(error)) from None


def read_types(values: Sequence[Any]) -> list[Any]:
    """Types by their names, whatever the case of their letters, and behind "chr": X for x; other labels as they are."""
    return [HUMAN.spellings.get(one.strip().lower(), one) if isinstance(one, str) else one for one in values]


def note_of_types(classes: Sequence[str], source: str) -> list[str]:
    """What keeps the cases of a set from being measured: its classes are other ones than the types of a karyotype."""
    differences = HUMAN.differences(classes)
    if not differences or not set(classes) & set(TYPES):  # a karyotype, or nothing of the kind
        return []
    return [
        f"{source}: classes are not the {len(TYPES)} types {TYPES[0]} to {TYPES[-1]} ({differences}): accuracy is "
        "measured, but not by case"
    ]


def check_cases(splits: Splits) -> None:
    """Refuse a case that lies in several splits.

    Raises:
        DataError: naming some.
    """
    seen: dict[Hashable, str] = {}
    for name, part in splits.present().items():
        for case in part.groups or ():
            if seen.setdefault(case, name) != name:
                raise DataError(
                    f"case {case!r} of {splits.name} has chromosomes in {seen[case]} and in {name}: a case is one "
                    "patient, and what is learned of it would flatter the metric"
                )


class RenderedChromosomes(ImageSet):
    """Chromosomes of rendered cases; drawn when they are first wanted."""

    def __init__(self, cases: Sequence[RenderedCase], size: int, name: str):
        self.cases, self.side = list(cases), size
        self._kept: dict[int, np.ndarray] = {}
        self._ends = np.cumsum([len(case.kinds) for case in self.cases])
        super().__init__(np.concatenate([case.kinds for case in self.cases]), TYPES, name=name)

    def image(self, index: int) -> np.ndarray:
        """(size, size) uint8, dark on a bright background."""
        if index not in self._kept:
            case, place = self._place(index)
            picture = case.picture(place, self.side)
            if (len(self._kept) + 1) * picture.nbytes > _MOST_KEPT:
                return picture
            self._kept[index] = picture
        return self._kept[index]

    def where(self, index: int) -> str:
        case, place = self._place(index)
        return f"chromosome {place} of {case.name}"

    def _place(self, index: int) -> tuple[RenderedCase, int]:
        number = int(np.searchsorted(self._ends, index, side="right"))
        return self.cases[number], index - int(self._ends[number]) + len(self.cases[number].kinds)


def rendered_set(seeds: Sequence[int], *, size: int = 64, name: str = "rendered chromosomes") -> ChromosomeSet:
    """Rendered cases by their seeds: see `render_case`. They are drawn by a program, of no patient."""
    cases = [render_case(seed) for seed in seeds]
    return ChromosomeSet(
        RenderedChromosomes(cases, size, name),
        np.concatenate([case.inverted for case in cases]),
        [case.name for case in cases for _ in case.kinds],
    )


def open_rendered_chromosomes(*, size: int = 64, cases: int = 60) -> Splits:
    """Rendered chromosomes: `cases` normal cases of 46 to train, and a third as many each of val and test.

    Args:
        size: side of the pictures; what is drawn grows with it.
        cases: of train.

    Raises:
        DataError: a size below 16, or no cases.
    """
    if size < 16 or cases < 1:
        raise DataError(f"rendered chromosomes: size must be from 16 and cases from 1, got {size} and {cases}")
    counts = {"train": cases, "val": max(1, cases // 3), "test": max(1, cases // 3)}
    made: dict[str, Any] = {
        split: rendered_set(
            range(_FIRST_SEED[split], _FIRST_SEED[split] + count), size=size, name=f"{split} of rendered chromosomes"
        )
        for split, count in counts.items()
    }
    return Splits(
        name="rendered_chromosomes",
        **made,
        notes=["rendered chromosomes: drawn by a program with bands of its own; they tell nothing of real ones"],
    )


def open_chromosomes(options: dict[str, str] | None = None) -> Splits:
    """`open_rendered_chromosomes` by the options of a text: `chromosomes?size=64&cases=60`.

    Raises:
        DataError: an option that is no whole number, or out of range.
    """
    given = options or {}
    wrong = [f"{key}={value}" for key, value in given.items() if not value.isdecimal()]
    if wrong:
        raise DataError(f"chromosomes: whole numbers are wanted, got {some(wrong)}")
    return open_rendered_chromosomes(**{key: int(value) for key, value in given.items()})
