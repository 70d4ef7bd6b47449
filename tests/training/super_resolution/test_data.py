"""Photographs: where they are found, what is made of them, and what is refused."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.training.super_resolution.helpers import write_photos
from zoo.errors import DataError
from zoo.layers.bicubic import bicubic_downscale
from zoo.training.data.loader import batches
from zoo.training.super_resolution.patches import Patches
from zoo.training.super_resolution.photos import Photos
from zoo.training.super_resolution.source import open_photos, open_photos_of


def paired(root: Path, scale: int = 2, suffix: str = "") -> Path:
    """HR/ and LR/, the small images made by Pillow, which differ from ours."""
    write_photos(root / "HR", 3)
    (root / "LR").mkdir()
    for file in sorted((root / "HR").iterdir()):
        with Image.open(file) as image:
            small = image.resize((image.width // scale, image.height // scale), Image.Resampling.BICUBIC)
        small.save(root / "LR" / f"{file.stem}{suffix}.png")
    return root


def test_small_images_are_the_reduced_photographs_in_whole_steps(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos", 1, side=(50, 61))
    photos = open_photos(folder, scale=4, val=False).train
    assert isinstance(photos, Photos)
    small, large = photos.image(0)
    assert (small.shape, large.shape) == ((3, 12, 15), (3, 48, 60))
    truth = torch.from_numpy(np.array(Image.open(folder / "0.png"))).permute(2, 0, 1)[:, :48, :60]
    assert torch.equal(large, truth)
    wanted = (bicubic_downscale(truth.float() / 255, (12, 15)).clamp(0, 1) * 255).round()
    assert torch.equal(small.float(), wanted)


@pytest.mark.parametrize("suffix", ["", "x2"])
def test_paired_folders_are_taken_as_they_are(tmp_path: Path, suffix: str) -> None:
    root = paired(tmp_path, suffix=suffix)
    photos = open_photos(root, scale=2, val="no").train
    assert isinstance(photos, Photos)
    assert len(photos) == 3
    for index in range(3):
        stored = np.array(Image.open(root / "LR" / f"{index}{suffix}.png"))
        assert torch.equal(photos.image(index).small, torch.from_numpy(stored).permute(2, 0, 1))


def test_a_pair_of_other_sizes_is_named(tmp_path: Path) -> None:
    root, words = paired(tmp_path), r"0\.png is 80 x 72 .*LR/0\.png 40 x 36: with scale=4 it should be 160 x 144"
    with pytest.raises(DataError, match=words):  # before anything is learnt
        open_photos(root, scale=4, val="no")
    with Image.open(root / "LR" / "2.png") as image:
        exif = image.getexif()
        exif[0x0112] = 6  # to be turned
        image.transpose(Image.Transpose.ROTATE_90).save(root / "LR" / "2.png", exif=exif)
    assert len(open_photos(root, scale=2, val="no").train or ()) == 3


def test_what_has_no_partner_is_named(tmp_path: Path) -> None:
    root = paired(tmp_path)
    (root / "LR" / "1.png").unlink()
    words = r"1 image\(s\) of .* no partner of the same name .*x2 at its end.*: '.*HR/1\.png'"
    with pytest.raises(DataError, match=words):
        open_photos(root, scale=2)
    (root / "LR").rename(root / "other")
    with pytest.raises(DataError, match="has a folder HR/ but no LR/"):
        open_photos(root, scale=2)
    (root / "HR").rename(root / "div_train_HR")
    (root / "other").rename(root / "div_train_LR_bicubic")
    with pytest.raises(DataError, match="holds div_train_HR and div_train_LR_bicubic, whose images would all be taken"):
        open_photos(root, scale=2)


def test_splits(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "all", 5)
    splits = open_photos(folder, scale=4, seed=1)
    assert {name: len(part) for name, part in splits.present().items()} == {"train": 4, "val": 1}
    assert "1 images are held out, by seed 1" in splits.notes[0]
    assert splits.fingerprint() == open_photos(folder, scale=4, seed=1).fingerprint()
    other = open_photos(folder, scale=4, seed=4).fingerprint()
    assert len({splits.fingerprint(), other, open_photos(folder, scale=4, val=0.4).fingerprint()}) == 3
    write_photos(tmp_path / "split" / "train", 2)
    write_photos(tmp_path / "split" / "test", 1)
    assert open_photos_of(tmp_path / "split", "test", scale=4)[1:2] == ("test",)
    assert open_photos_of(folder, "test", scale=4)[1] == "all"
    with pytest.raises(DataError, match="has no split 'val'; splits there: train, test"):
        open_photos_of(tmp_path / "split", "val", scale=4)
    listed = open_photos({"train": [folder / "0.png", folder / "1.png"], "val": folder / "2.png"}, scale=4)
    assert {name: len(part) for name, part in listed.present().items()} == {"train": 2, "val": 1}
    matched = open_photos(str(folder / "[0-2].png"), scale=4, val="no")
    assert (matched.name, len(matched.train or ())) == ("all", 3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("absent", "there is no folder 'absent'; expected photographs in a folder"),
        ([Path("absent.png")], r"no such image: 'absent\.png'"),
        ({"training": "x"}, "has the keys train, val and test, got 'training'"),
        (3, "cannot take photographs from int"),
    ],
)
def test_what_is_no_source(data: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_photos(data, scale=4)


def test_patches_are_the_same_place_of_both_images(tmp_path: Path) -> None:
    """Of a photograph whose small image is its pixels, each repeated."""
    values = (5 * np.arange(20)[:, None] + np.arange(24)).astype(np.uint8)[..., None].repeat(3, 2)
    (tmp_path / "LR").mkdir()
    (tmp_path / "HR").mkdir()
    Image.fromarray(values).save(tmp_path / "LR" / "a.png")
    Image.fromarray(values.repeat(3, 0).repeat(3, 1)).save(tmp_path / "HR" / "a.png")
    photos = open_photos(tmp_path, scale=3, val="no").train
    assert isinstance(photos, Photos)
    patches, seen = Patches(photos, 5, 99), set()
    random.seed(0)
    for index in range(99):
        small, large = patches.image(index)
        assert torch.equal(small.repeat_interleave(3, 1).repeat_interleave(3, 2), large)
        first = (small * 255).round()
        along, down = (int(first[0, 0, 1] - first[0, 0, 0]), int(first[0, 1, 0] - first[0, 0, 0]))
        seen.add((along, down))
    assert seen == {(a * i, b * j) for a, b in ((1, 5), (5, 1)) for i in (1, -1) for j in (1, -1)}


def test_photographs_give_patches_by_their_area(tmp_path: Path) -> None:
    write_photos(tmp_path, 1, side=(64, 64))
    Image.fromarray(np.zeros((64, 192, 3), np.uint8)).save(tmp_path / "wide.png")
    photos = open_photos(tmp_path, scale=4, val="no").train
    assert isinstance(photos, Photos)
    assert np.bincount(Patches(photos, 8, 40).of).tolist() == [10, 30]
    assert len(Patches(photos, 8)) == 16
    with pytest.raises(DataError, match=r"patch_size=17 \(--patch-size\) at scale=4 needs 68 x 68 pixels"):
        Patches(photos, 17)


def test_batches_depend_on_seed_epoch_and_place(tmp_path: Path) -> None:
    photos = open_photos(write_photos(tmp_path), scale=4, val="no").train
    assert isinstance(photos, Photos)
    patches = Patches(photos, 8, 8)

    def draw(chosen: list[list[int]], epoch: int) -> list[torch.Tensor]:
        return [b.images for b in batches(patches, lambda x, where: x, chosen, seed=3, epoch=epoch)]  # pyright: ignore

    first, second = draw([[0, 1], [2, 3]], 0)
    assert torch.equal(second, draw([[2, 3]], 0)[0])
    assert not torch.equal(first, draw([[0, 1]], 1)[0])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder = write_photos(tmp_path / "photos")
    (folder / "bad.png").write_bytes(b"none")
    assert len(open_photos(folder, scale=4, val="no", on_bad="skip").train or ()) == 4
    (folder.parent / "val").mkdir()
    shutil.copy(folder / "bad.png", folder.parent / "val" / "bad.png")
    shutil.copy(folder / "0.png", folder.parent / "val" / "good.png")
    splits = open_photos(folder, scale=4, val=folder.parent / "val", on_bad="skip")
    assert {name: len(part) for name, part in splits.present().items()} == {"train": 4, "val": 1}
    assert [note.partition(":")[0] for note in splits.notes] == [
        f"left out 1 unreadable image(s) of {name}" for name in ("train", "val")
    ]
    for seed in range(5):  # what is held out can be read, whichever it is
        assert len(open_photos(folder, scale=4, seed=seed, on_bad="skip").val or ()) == 1
    photos = open_photos(folder, scale=4, val="no").train
    with pytest.raises(DataError, match=r"bad\.png"):
        Patches(photos, 8)  # pyright: ignore[reportArgumentType]
