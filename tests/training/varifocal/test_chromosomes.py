"""Chromosomes as data: what is rendered, what tables say, what no split may part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from zoo.training.data import ArrayImages, open_split, open_splits
from zoo.training.data.chromosomes import ChromosomeSet, rendered_set
from zoo.training.data.rendered_chromosomes import (
    _LENGTHS,
    _SHORT_ARMS,
    TYPES,
    Look,
    band_pattern,
    render_case,
    render_chromosome,
)

PLAIN = Look(contrast=0.0, blur=0.005)


def ink(picture: np.ndarray) -> np.ndarray:
    return 1 - picture.astype(float) / 255


def extent(picture: np.ndarray, axis: int) -> int:
    """Rows or columns with something in them."""
    return int((ink(picture).max(axis) > 0.3).sum())


def test_the_same_seed_draws_the_same_picture_and_another_one_does_not():
    one, same, other = (render_case(seed).picture(3, 48) for seed in (5, 5, 6))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert one.dtype == np.uint8
    assert one.shape == (48, 48)


def test_lengths_are_in_the_proportion_of_the_types():
    lengths = [extent(render_chromosome(kind, size=256, look=PLAIN), 1) for kind in range(24)]
    wanted = np.array(_LENGTHS) / _LENGTHS[0] * lengths[0]
    assert np.abs(np.array(lengths) - wanted).max() <= 4
    assert lengths[0] == pytest.approx(0.78 * 256, abs=3)


def test_the_centromere_is_the_narrow_place_and_turns_over_with_the_polarity():
    for kind in (2, 7, 15):
        widths = []
        for inverted in (False, True):
            picture = ink(render_chromosome(kind, size=256, inverted=inverted, look=PLAIN))
            rows = np.flatnonzero(picture.max(1) > 0.3)
            inside = rows[len(rows) // 8 : -len(rows) // 8]
            width = (picture[inside] > 0.3).sum(1)
            widths.append((inside[width == width.min()].mean() - rows[0]) / len(rows))
        assert widths[0] == pytest.approx(_SHORT_ARMS[kind] / _LENGTHS[kind], abs=0.03)
        assert widths[1] == pytest.approx(1 - widths[0], abs=0.02)


def test_an_inverted_chromosome_is_the_mirror_image():
    up, down = (render_chromosome(4, size=64, inverted=inverted) for inverted in (False, True))
    assert np.abs(up[::-1].astype(int) - down.astype(int)).max() <= 1


def test_types_differ_by_their_bands():
    places = np.linspace(0, 1, 500)
    patterns = np.stack([band_pattern(kind, places) for kind in range(24)])
    assert patterns.min() >= 0
    assert patterns.max() <= 1
    distances = np.abs(patterns[:, None] - patterns).mean(2) + np.eye(24)
    assert distances.min() > 0.1


@pytest.mark.parametrize("bend", [2.5, -2.5])
def test_a_bent_chromosome_is_as_long_along_its_axis_and_no_other_way_round(bend: float):
    straight, bent = (ink(render_chromosome(0, size=256, bend=angle, look=PLAIN)) for angle in (0.0, bend))
    assert extent(255 * (1 - bent), 1) < 0.9 * extent(255 * (1 - straight), 1)
    assert bent.sum() == pytest.approx(straight.sum(), rel=0.02)
    mirrored = render_chromosome(2, size=64, bend=-bend)[:, ::-1].astype(int)
    assert np.abs(mirrored - render_chromosome(2, size=64, bend=bend)).max() <= 1


def test_a_case_has_46_and_the_sexes_differ():
    cases = [render_case(seed) for seed in range(20)]
    assert {case.sex for case in cases} == {"XX", "XY"}
    for case in cases:
        counts = np.bincount(case.kinds, minlength=24)
        assert (counts[:22] == 2).all()
        assert tuple(counts[22:]) == ((2, 0) if case.sex == "XX" else (1, 1))


def test_built_in_set_is_split_by_case():
    splits = open_splits("chromosomes?size=32&cases=3")
    assert {name: len(part) for name, part in splits.present().items()} == {"train": 138, "val": 46, "test": 46}
    assert splits.name == "rendered_chromosomes"
    assert any("drawn by a program" in note for note in splits.notes)
    parts = {name: set(part.groups or ()) for name, part in splits.present().items()}
    assert len(parts["train"]) == 3
    assert not parts["train"] & parts["val"]
    assert splits.train
    assert splits.train.classes == list(TYPES)
    image, label = splits.train[5]
    assert image.shape == (32, 32)
    assert 0 <= label < 24


def test_what_is_held_out_is_whole_cases():
    splits = open_splits(rendered_set(range(5), size=16), val=0.4)
    train, val = splits.train, splits.val
    assert isinstance(train, ChromosomeSet)
    assert isinstance(val, ChromosomeSet)
    assert (len(train), len(val)) == (3 * 46, 2 * 46)
    assert not set(train.groups or ()) & set(val.groups or ())
    assert len(train.polarity) == len(train)
    assert open_splits(rendered_set(range(5), size=16)).notes == [
        "no validation split: 46 of 230 training chromosomes are held out, 1 of 5 cases as a whole, by seed 0"
    ]
    with pytest.raises(zoo.errors.DataError, match="has 46 chromosomes of one case: too few to hold some out"):
        open_splits(rendered_set([1], size=16))


def test_fingerprint_tells_another_polarity_and_another_case():
    splits = open_splits("chromosomes?size=16&cases=1")
    before = splits.fingerprint()
    assert isinstance(splits.train, ChromosomeSet)
    splits.train.polarity[0] ^= 1
    assert splits.fingerprint() != before
    splits.train.polarity[0] ^= 1
    assert splits.fingerprint() == before
    splits.train.groups = ["other"] * 46
    assert splits.fingerprint() != before


@pytest.fixture
def table(tmp_path: Path) -> Path:
    case = render_case(3)
    lines = ["file,type,polarity,case,split"]
    for k in range(12):
        Image.fromarray(case.picture(k, 24)).save(tmp_path / f"{k}.png")
        polarity = ("up", "down", "", "0")[k % 4]
        lines.append(f"{k}.png,{'X' if k % 3 else 7},{polarity},{k // 4},{'train' if k < 8 else 'test'}")
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    return tmp_path / "labels.csv"


def test_a_table_says_type_polarity_and_case(table: Path):
    splits = open_splits(f"{table}?label=type", val=False)
    train, test = splits.train, splits.test
    assert isinstance(train, ChromosomeSet)
    assert isinstance(test, ChromosomeSet)
    assert train.classes == ["7", "X"]
    assert train.polarity.tolist() == [0, 1, -1, 0, 0, 1, -1, 0]
    assert train.groups == ["0"] * 4 + ["1"] * 4
    assert test.groups == ["2"] * 4
    assert test.case_numbers is not None
    assert test.case_numbers.tolist() == [0] * 4
    assert train.where(1).endswith("1.png")


def test_types_by_other_spellings_are_the_types(table: Path):
    """x, X and chrX are one type; of other classes is told that cases are not measured, and which they are."""
    text = table.read_text()
    for k, name in enumerate(("x", "chrX", " x", "ChrX")):
        text = text.replace(f"{(1, 2, 4, 5)[k]}.png,X", f"{(1, 2, 4, 5)[k]}.png,{name}")
    table.write_text(text)
    splits = open_splits(f"{table}?label=type", val=False)
    assert splits.train
    assert splits.train.classes == ["7", "X"]
    (note,) = splits.notes
    assert note.endswith(
        "classes are not the 24 types 1 to Y (without 1, 2, 3, 4, 5, 6, 8, 9 and 14 more): accuracy is measured, but "
        "not by case"
    )
    table.write_text(text.replace(",7,", ",24,"))
    assert "; besides 24)" in open_splits(f"{table}?label=type", val=False).notes[0]
    whole = [f"{k}.png,{name.lower()},up,{k // 20}" for k, name in enumerate((*TYPES, "x"))]
    for k in range(12, 25):
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(table.parent / f"{k}.png")
    table.write_text("\n".join(["file,label,polarity,patient", *whole]))
    splits = open_splits(str(table), val=False)
    assert splits.train
    assert (splits.train.classes, splits.notes) == (list(TYPES), [])


def test_a_table_that_cannot_be(table: Path):
    text = table.read_text()
    table.write_text(text.replace(",down,", ",left,", 1))
    with pytest.raises(zoo.errors.DataError, match=r"row 2 has the polarity 'left'; it is up or 0, down or 1"):
        open_splits(f"{table}?label=type")
    table.write_text(text.replace(",2,test", ",1,test"))
    with pytest.raises(zoo.errors.DataError, match="case '1' of labels has chromosomes in train and in test"):
        open_splits(f"{table}?label=type")
    table.write_text(text)
    with pytest.raises(zoo.errors.DataError, match="no column 'patiant'"):
        open_splits(f"{table}?label=type&case=patiant")


def test_sets_that_cannot_be():
    images = ArrayImages(np.zeros((3, 8, 8), dtype=np.uint8), np.arange(3), ["1", "2", "X"], name="three")
    with pytest.raises(zoo.errors.DataError, match="3 chromosomes but 2 polarities"):
        ChromosomeSet(images, [0, 1])
    with pytest.raises(zoo.errors.DataError, match="image 1 of three has the polarity 2; 0 is the short arm up"):
        ChromosomeSet(images, [0, 2, 1])
    assert not ChromosomeSet(images).knows_polarity
    for text, words in (
        ("chromosomes?size=8", "size must be from 16"),
        ("chromosomes?cases=many", "whole numbers are wanted"),
        ("chromosomes?color=red", "takes no option 'color'"),
    ):
        with pytest.raises(zoo.errors.DataError, match=words):
            open_split(text)
