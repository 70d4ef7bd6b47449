"""Image files of every kind: what is stored arrives, in depth, channels and orientation; what is damaged is named."""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import zoo
from tests.training.helpers import tiny_net
from zoo.errors import DataError
from zoo.training.data import open_splits
from zoo.training.data.decode import decode_image, read_image
from zoo.training.data.image import to_channels
from zoo.training.data.loader import Pipeline
from zoo.training.data.png import deep_png
from zoo.training.data.transform import eval_transform, train_transform
from zoo.training.randomness import seed_host

RANDOM = np.random.RandomState(0)
GREY8 = RANDOM.randint(0, 256, (9, 7), dtype=np.uint8)
RGB8 = RANDOM.randint(0, 256, (9, 7, 3), dtype=np.uint8)
DEEP = RANDOM.randint(0, 65536, (9, 7, 5), dtype=np.uint16)


def png(pixels: np.ndarray, height: int | None = None) -> bytes:
    """A 16-bit PNG of 1 to 4 channels; Pillow cannot write those of more than one."""
    h, w, c = pixels.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[c]

    return png_of((w, height or h, 16, kind, 0, 0, 0), zlib.compress(lines))


def png_of(header: tuple[int, ...], packed: bytes) -> bytes:
    """A PNG of this header and data, with right checksums."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", *header)), (b"tEXt", b"note\0x"), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def tiff(pixels: np.ndarray, **options: Any) -> bytes:
    stream = BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def npy(pixels: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


# ------------------------------------------------------------------------------------------------------ 8 bits, modes


def rgb_of(content: bytes) -> np.ndarray:
    return np.asarray(to_channels(decode_image(content, "x"), 3))


def grey_of(content: bytes) -> np.ndarray:
    return np.asarray(to_channels(decode_image(content, "x"), 1))


@pytest.mark.parametrize("form", ["png", "bmp", "tiff", "ppm"])
def test_grey_and_colour_of_8_bits(form: str) -> None:
    assert np.array_equal(rgb_of(saved(Image.fromarray(RGB8), form)), RGB8)
    assert np.array_equal(grey_of(saved(Image.fromarray(GREY8), form)), GREY8)
    assert np.array_equal(rgb_of(saved(Image.fromarray(GREY8), form)), np.stack([GREY8] * 3, 2))


def test_modes_with_transparency_palettes_and_single_bits() -> None:
    alpha = np.full((9, 7, 1), 128, np.uint8)
    for form in ("png", "tiff"):
        assert np.array_equal(rgb_of(saved(Image.fromarray(np.concatenate([RGB8, alpha], 2)), form)), RGB8)
        la = Image.merge("LA", [Image.fromarray(GREY8), Image.fromarray(alpha[:, :, 0])])
        assert np.array_equal(grey_of(saved(la, form)), GREY8)
    few = Image.fromarray(RGB8 // 128 * 128)
    paletted = few.quantize(16)
    assert np.array_equal(rgb_of(saved(paletted, "png")), np.asarray(paletted.convert("RGB")))
    assert np.array_equal(rgb_of(saved(paletted, "png", transparency=3)), np.asarray(paletted.convert("RGB")))
    bits = Image.fromarray(GREY8 > 127)
    assert bits.mode == "1"
    for form in ("png", "tiff", "bmp"):
        assert np.array_equal(grey_of(saved(bits, form)), (GREY8 > 127) * np.uint8(255))


def test_cmyk() -> None:
    inks = Image.new("CMYK", (8, 8), (255, 0, 0, 0))  # full cyan, nothing else
    assert np.abs(rgb_of(saved(inks, "jpeg", quality=100)).astype(int) - (0, 255, 255)).max() <= 3
    assert (rgb_of(saved(inks, "tiff")) == (0, 255, 255)).all()


def test_four_channels_are_kept_for_a_model_that_takes_them() -> None:
    rgba = np.concatenate([RGB8, GREY8[:, :, None]], 2)
    tensor = to_channels(decode_image(saved(Image.fromarray(rgba), "png"), "x"), 4)
    assert isinstance(tensor, torch.Tensor)
    assert torch.allclose(tensor, torch.from_numpy(rgba.transpose(2, 0, 1)).float() / 255)


def test_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(Image.fromarray(RGB8), "png"))
    image = read_image(path)
    assert np.array_equal(np.asarray(image), RGB8)


# -------------------------------------------------------------------------------------------------------- orientation


TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: a[::-1, ::-1],
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}


@pytest.mark.parametrize("form", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_honoured(form: str, orientation: int) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16] = 255  # white in the upper left corner
    exif = Image.Exif()
    exif[0x0112] = orientation
    if form == "tiff":
        content = saved(Image.fromarray(pixels), form, tiffinfo={0x0112: orientation})
    else:
        content = saved(Image.fromarray(pixels), form, exif=exif, **({} if form == "png" else {"quality": 100}))
    assert np.array_equal(rgb_of(content) > 127, TURNS[orientation](pixels) > 127)


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_of_deep_colour(orientation: int) -> None:
    pixels, exif = DEEP[:, :, :3], Image.Exif()
    exif[0x0112] = orientation
    notes = exif.tobytes().removeprefix(b"Exif\0\0")
    lies = [(0x0112, "H", 1, orientation, True)]
    for content in (deep_png(pixels, exif=notes), tiff(pixels, photometric="rgb", extratags=lies, metadata=None)):
        assert np.array_equal(decode_image(content, "x"), TURNS[orientation](pixels))


def test_orientation_of_a_picture_in_memory_is_honoured_once() -> None:
    pixels = np.zeros((8, 16), np.uint8)
    pixels[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(BytesIO(saved(Image.fromarray(pixels), "png", exif=exif))) as image:
        once = to_channels(image, 1)
        assert np.array_equal(np.asarray(once), np.rot90(pixels, -1))
        assert np.array_equal(np.asarray(to_channels(once, 1)), np.rot90(pixels, -1))
        assert image.size == (16, 8)  # the caller's is left as it was


# -------------------------------------------------------------------------------------------------------------- depth


def unit(content: bytes, channels: int) -> np.ndarray:
    tensor = to_channels(decode_image(content, "x"), channels)
    assert isinstance(tensor, torch.Tensor)
    return tensor.numpy().transpose(1, 2, 0)


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP[:, :, :1]),
        png(DEEP[:, :, :2]),
        saved(Image.fromarray(DEEP[:, :, 0]), "tiff"),
        tiff(DEEP[:, :, 0], byteorder=">"),
        tiff(DEEP[:, :, 0], photometric="minisblack", compression="zlib"),
        saved(Image.fromarray(DEEP[:, :, 0]), "ppm"),
        npy(DEEP[:, :, 0]),
    ],
    ids=["png", "png with alpha", "tiff", "tiff, big-endian", "tiff, compressed", "pgm", "npy"],
)
def test_grey_of_16_bits(content: bytes) -> None:
    assert np.allclose(unit(content, 1)[:, :, 0], DEEP[:, :, 0] / 65535, atol=1e-7)
    assert np.array_equal(unit(content, 3), np.repeat(unit(content, 1), 3, 2))


@pytest.mark.parametrize(
    "content",
    [
        png(DEEP[:, :, :3]),
        png(DEEP[:, :, :4]),
        tiff(DEEP[:, :, :3], photometric="rgb"),
        tiff(DEEP[:, :, :4], photometric="rgb", extrasamples=["unassalpha"]),
        npy(DEEP[:, :, :3]),
    ],
    ids=["png", "png with alpha", "tiff", "tiff with alpha", "npy"],
)
def test_colour_of_16_bits(content: bytes) -> None:
    assert np.allclose(unit(content, 3), DEEP[:, :, :3] / 65535, atol=1e-7)


def test_interlaced_colour_of_16_bits() -> None:
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for shape in ((9, 7), (3, 2), (1, 1)):
        pixels = DEEP[: shape[0], : shape[1], :3]
        parts = [pixels[y::dy, x::dx] for x, y, dx, dy in starts]
        lines = b"".join(b"\0" + row.astype(">u2").tobytes() for part in parts if part.size for row in part)
        content = png_of((shape[1], shape[0], 16, 2, 0, 0, 1), zlib.compress(lines))
        assert np.allclose(unit(content, 3), pixels / 65535, atol=1e-7)


@pytest.mark.parametrize(
    "content",
    [
        tiff(DEEP, photometric="minisblack", planarconfig="contig"),
        tiff(DEEP.transpose(2, 0, 1), photometric="minisblack", planarconfig="separate"),
        npy(DEEP),
    ],
    ids=["tiff", "tiff by planes", "npy"],
)
def test_many_channels(content: bytes) -> None:
    assert np.allclose(unit(content, 5), DEEP / 65535, atol=1e-7)
    with pytest.raises(DataError, match=r"x has 5 channels but the model takes 3; create the model with in_chans=5"):
        to_channels(decode_image(content, "x"), 3, where="x")


def test_four_bands_are_not_taken_for_colour_and_transparency() -> None:
    bands = RANDOM.randint(0, 256, (9, 7, 4), dtype=np.uint8)
    for content in (tiff(bands, photometric="rgb", extrasamples=["unspecified"]), npy(bands)):
        assert np.allclose(unit(content, 4), bands / 255, atol=1e-7)
        with pytest.raises(DataError, match="has 4 channels but the model takes 3"):
            to_channels(decode_image(content, "x"), 3)


def test_floats() -> None:
    real = RANDOM.rand(9, 7).astype(np.float32)
    for content in (saved(Image.fromarray(real), "tiff"), tiff(real), npy(real), npy(real.astype(np.float64))):
        assert np.allclose(unit(content, 1)[:, :, 0], real, atol=1e-7)
    with pytest.raises(
        DataError, match=r"values from \d+.* to 4\d{3}.* \(float32\); expected 0 to 1.*perhaps scale=65535"
    ):
        to_channels(decode_image(tiff(real * 5000 + 0.1), "x"), 1)


def test_other_numbers_need_a_white() -> None:
    twelve = RANDOM.randint(0, 4096, (9, 7)).astype(np.int32)
    twelve[0, :2] = 0, 4095
    with pytest.raises(DataError, match=r"values from 0 to 4095 \(int32\).*perhaps scale=4095"):
        to_channels(decode_image(npy(twelve), "x"), 1)
    scaled = to_channels(decode_image(npy(twelve), "x"), 1, scale=4095)
    assert np.allclose(np.asarray(scaled)[0], twelve / 4095, atol=1e-6)
    with pytest.raises(DataError, match="values of type complex64; expected whole or real"):
        to_channels(twelve.astype(np.complex64), 1)
    with pytest.raises(DataError, match="values of type <U3"):
        to_channels(np.array([["abc"]]), 1)


@pytest.mark.parametrize("aug", ["none", "light", "timm"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "box", "hamming", "nearest", "random"])
def test_16_bits_come_through_every_transform(aug: str, interpolation: str) -> None:
    ramp = np.arange(96 * 96, dtype=np.uint16).reshape(96, 96)  # 36 steps of 8 bits
    config: dict[str, Any] = {
        "input_size": (1, 48, 48), "mean": (0.0,), "std": (1.0,), "crop_pct": 0.9, "crop_mode": "center",
        "interpolation": interpolation,
    }  # fmt: skip
    image = decode_image(png(ramp[:, :, None]), "x")
    for transform in (train_transform(config, aug, hflip=0.5), eval_transform(config)):
        for seed in range(3):
            seed_host(seed)
            out = Pipeline(1, transform)(image, "x")
            assert out.shape == (1, 48, 48)
            assert len(torch.unique((out * 65535).round())) > 256
            if aug != "timm":  # which erases some by noise
                assert len(torch.unique((out * 255).round())) < 60


def test_deep_colour_is_normalised_as_8_bits_are() -> None:
    config: dict[str, Any] = {
        "input_size": (3, 9, 9), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4), "crop_pct": 1.0,
        "crop_mode": "center", "interpolation": "bilinear",
    }  # fmt: skip
    flat = np.tile(np.array([51, 102, 204], np.uint16) * 257, (12, 12, 1))
    shallow, deep = (
        Pipeline(3, eval_transform(config))(image, "x")
        for image in (Image.fromarray((flat // 257).astype(np.uint8)), decode_image(png(flat), "x"))
    )
    assert torch.allclose(shallow, deep, atol=1e-6)


# -------------------------------------------------------------------------------------------------- stacks and damage


def test_a_stack_is_refused_a_thumbnail_is_not() -> None:
    with pytest.raises(DataError, match=r"scan\.tif is a stack of 5 pages of one size"):
        decode_image(tiff(DEEP.transpose(2, 0, 1), photometric="minisblack"), "scan.tif")
    with pytest.raises(DataError, match="is a stack of 2 pages of one size"):
        decode_image(tiff(np.stack([DEEP[:, :, :3]] * 2), photometric="rgb"), "scan.tif")
    stream = BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(GREY8, photometric="minisblack")
        writer.write(GREY8[::2, ::2].copy(), photometric="minisblack")
    assert np.array_equal(grey_of(stream.getvalue()), GREY8)


def bomb() -> bytes:
    """A PNG that says it has 40,000 x 40,000 pixels."""
    content = bytearray(saved(Image.fromarray(GREY8), "png"))
    content[16:24] = struct.pack(">II", 40_000, 40_000)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def tall_tiff() -> bytes:
    """A TIFF of five channels that says it is 200 million pixels high."""
    content = bytearray(tiff(DEEP, photometric="minisblack", planarconfig="contig"))
    with tifffile.TiffFile(BytesIO(content)) as file:
        tag: Any = file.pages[0].tags[257]  # type: ignore[attr-defined]
        content[tag.offset : tag.offset + 12] = struct.pack("<HHII", 257, 4, 1, 200_000_000)
    return bytes(content)


whole_png, whole_jpeg = saved(Image.fromarray(RGB8), "png"), saved(Image.fromarray(RGB8), "jpeg")
DAMAGED = {
    "empty": (b"", r"it is empty, 0 bytes"),
    "text": (b"not an image at all", r"no image format: begins with b'not an image'"),
    "png, cut off": (whole_png[: len(whole_png) // 2], "cannot read"),
    "png, only its first bytes": (whole_png[:20], "cannot read"),
    "jpeg, cut off": (whole_jpeg[: len(whole_jpeg) * 2 // 3], "cannot read"),
    "16-bit png, cut off": (png(DEEP[:, :, :3])[:90], "cannot read"),
    "tiff, cut off": (tiff(np.zeros((64, 64), np.uint8))[:-2000], "cannot read"),
    "16-bit tiff, cut off": (tiff(DEEP[:, :, :3], photometric="rgb")[:-100], "cannot read"),
    "npy, cut off": (npy(DEEP)[:-9], "cannot read"),
    "npy of objects": (npy(DEEP).replace(b"<u2", b"|O "), "cannot read"),
    "npy of a terabyte": (npy(DEEP).replace(b"(9, 7, 5)", b"(999999, 999999)"), "cannot read"),
    "too many pixels": (bomb(), "exceeds limit"),
    "too many pixels in a tiff": (tall_tiff(), r"7 x 200000000 pixels; more than \d+ are not read"),
    "16-bit ppm": (b"P6 1 1 65535\n" + b"\0" * 6, "16-bit colour in this format would be cut to 8 bits"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files_are_named(name: str, tmp_path: Path) -> None:
    content, message = DAMAGED[name]
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read the image .*bad\.png .*pass on_bad='skip'") as error:
        read_image(path)
    assert error.match(message)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 500


def lines_of(filtering: int, count: int = 9) -> bytes:
    return b"".join(bytes([filtering]) + row.astype(">u2").tobytes() for row in DEEP[:count, :, :3])


@pytest.mark.parametrize(
    ("header", "packed", "message"),
    [
        ((7, 9, 16, 2, 0, 0, 0), zlib.compress(lines_of(0))[:-3], "bytes of pixels, expected 387"),
        ((7, 9, 16, 2, 0, 0, 0), zlib.compress(lines_of(0, 8)), "344 bytes of pixels, expected 387"),
        ((7, 8, 16, 2, 0, 0, 0), zlib.compress(lines_of(0)), "345 bytes of pixels, expected 344"),
        ((7, 9, 16, 2, 0, 0, 0), zlib.compress(lines_of(5)), "a line has an unknown filter"),
        ((7, 9, 16, 2, 0, 0, 0), zlib.compress(lines_of(0))[:-1] + b"x", "incorrect data check"),
        ((7, 9, 16, 2, 0, 0, 2), zlib.compress(lines_of(0)), "its header makes no sense"),
        ((0, 9, 16, 2, 0, 0, 0), zlib.compress(lines_of(0)), "its header makes no sense"),
        ((90_000, 90_000, 16, 2, 0, 0, 0), zlib.compress(lines_of(0)), "90000 x 90000 pixels; more than"),
    ],
)
def test_deep_pngs_that_would_end_the_process(header: tuple[int, ...], packed: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_image(png_of(header, packed), "x")


@pytest.mark.parametrize("content", [png(DEEP[:, :, :3]), whole_jpeg, tiff(DEEP[:, :, 0], compression="zlib")])
def test_any_damage_is_an_error_of_ours_or_none(content: bytes) -> None:
    random = np.random.RandomState(0)
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(random.randint(1, 6)):
            damaged[random.randint(len(damaged))] = random.randint(256)
        if random.rand() < 0.3:
            damaged = damaged[: random.randint(len(damaged))]
        with contextlib.suppress(DataError):
            to_channels(decode_image(bytes(damaged), "x"), 3)


def test_files_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such image: .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"cannot read the image .*\(Is a directory\)"):
        read_image(tmp_path)


def test_damaged_files_are_left_out_and_counted(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.fromarray(GREY8 + np.uint8(i + 10 * (name == "b"))).save(tmp_path / name / f"{i}.png")
    for i, (content, _) in enumerate(DAMAGED.values()):
        (tmp_path / "a" / f"bad{i}.png").write_bytes(content)
    splits = open_splits(tmp_path, val=False, on_bad="skip")
    assert len(splits.present()["train"]) == 8
    assert len(splits.notes) == 1
    assert splits.notes[0].startswith(f"left out {len(DAMAGED)} unreadable image(s) of train: ")
    assert splits.notes[0].endswith(f"and {len(DAMAGED) - 5} more")
    for file in (tmp_path / "b").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match="no image of the class 'b' can be read"):
        open_splits(tmp_path, on_bad="skip")


def test_deep_and_many_channelled_files_train_and_are_predicted(tmp_path: Path) -> None:
    for k in range(2):
        (tmp_path / "images" / str(k)).mkdir(parents=True)
        for i in range(8):
            pixels = RANDOM.randint(20000 * k, 20000 * k + 30000, (8, 8, 5), dtype=np.uint16)
            np.save(tmp_path / "images" / str(k) / f"{i}.npy", pixels)
    model = tiny_net(num_classes=2, in_chans=5)
    zoo.finetune(
        model, tmp_path / "images", out=tmp_path / "run", epochs=6, batch_size=4, lr=0.01, val=0.25, progress=False,
        amp="no", workers=0,
    )  # fmt: skip
    answers = zoo.predict(model, tmp_path / "images")
    assert [a["label"] for a in answers] == ["0"] * 8 + ["1"] * 8
