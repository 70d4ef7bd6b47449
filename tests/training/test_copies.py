"""The same image in two splits, or twice with two labels, is noted: with how many, and which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoo.training.data import ArrayImages, Splits, copies, open_splits


def picture(seed: int, channels: int = 3) -> Image.Image:
    pixels = np.random.RandomState(seed).randint(0, 256, (10, 12, channels), dtype=np.uint8)
    return Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for s, split in enumerate(("train", "val", "test")):
        for k, name in enumerate("ab"):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(5):
                picture(100 * s + 10 * k + i).save(tmp_path / split / name / f"{i}.png")
    return tmp_path


def test_different_images_are_not_noted(folder: Path) -> None:
    assert open_splits(folder).notes == []


@pytest.mark.parametrize("end", ["png", "bmp", "tiff", "webp", "ppm"])
def test_the_same_pixels_in_another_format_are_found(folder: Path, end: str) -> None:
    options = {"lossless": True} if end == "webp" else {}
    for i in range(5):
        picture(i).save(folder / "test" / "a" / f"copy{i}.{end}", **options)
    (note,) = open_splits(folder).notes
    assert note.startswith("5 image(s) of test are also in train (")
    for i in range(3):
        assert f"test/a/copy{i}.{end} = {folder}/train/a/{i}.png" in note
    assert "copy3" not in note
    assert note.endswith("; and 2 more): the test metric is flattered")


def test_grey_saved_as_colour_is_found(folder: Path) -> None:
    picture(7, 1).save(folder / "train" / "a" / "grey.png")
    picture(7, 1).convert("RGB").save(folder / "val" / "b" / "colour.png")
    (note,) = open_splits(folder).notes
    assert "1 image(s) of val are also in train" in note


def test_large_sets_are_compared_by_stored_bytes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIXEL_BYTES", 0)
    source = folder / "train" / "b" / "4.png"
    (folder / "val" / "b" / "copy.png").write_bytes(source.read_bytes())
    picture(0).save(folder / "val" / "a" / "other.bmp")
    (note,) = open_splits(folder).notes
    assert "1 image(s) of val are also in train" in note
    assert "copy.png = " in note


def test_what_would_take_too_long_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIXEL_BYTES", 0)
    monkeypatch.setattr(copies, "STORED_BYTES", 0)
    for split in ("train", "val"):
        picture(0).save(folder / split / "a" / "x.bmp")
    (note,) = open_splits(folder).notes
    assert note.startswith("the splits were not searched for copies of an image: 0.0 GiB would")


def test_only_files_of_equal_length_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "PIXEL_BYTES", 0)
    splits = open_splits(folder)
    read: list[str] = []
    for data in splits.present().values():
        content = data.content
        monkeypatch.setattr(data, "content", lambda i, d=data, c=content: read.append(d.where(i)) or c(i))
    copies.note_copies(splits)
    sizes = [data.size(i) for data in splits.present().values() for i in range(len(data))]
    assert len(read) == sum(sizes.count(size) > 1 for size in sizes)


def test_two_labels_of_one_image_are_noted(folder: Path) -> None:
    picture(0).save(folder / "train" / "b" / "again.bmp")
    picture(1).save(folder / "train" / "a" / "twice.bmp")  # the same label again is no contradiction
    (note,) = open_splits(folder).notes
    assert note == (
        f"1 image(s) of train occur again with another label ({folder}/train/a/0.png: a, {folder}/train/b/again.bmp: b)"
    )


def test_arrays_are_compared_too() -> None:
    images = np.random.RandomState(0).randint(0, 256, (12, 6, 6), dtype=np.uint8)
    images[9], images[3] = images[0], images[2]
    whole = ArrayImages(images, np.arange(12) % 2, ["x", "y"], name="few")
    splits = Splits("few", train=whole.subset(range(8), "train"), test=whole.subset(range(8, 12), "test"))
    copies.note_copies(splits)
    shared, twice = splits.notes
    assert "1 image(s) of test are also in train (image 9 of few = image 0 of few)" in shared
    assert "image 2 of few: x, image 3 of few: y" in twice


def test_a_held_out_split_is_searched(tmp_path: Path) -> None:
    for k, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for i in range(10):
            picture(k).save(tmp_path / name / f"{i}.png")
    notes = open_splits(tmp_path).notes
    assert any("4 image(s) of val are also in train" in note for note in notes)
