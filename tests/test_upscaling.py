"""Pictures enlarged: what is kept of them, what is written and when, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngImageFile, PngInfo
from sklearn.datasets import load_sample_image

import zoo
from tests.training.super_resolution.helpers import small_network, small_pcsr
from zoo.errors import DataError
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.pictures import Picture, luma, read_picture, write_picture

PHOTO = np.ascontiguousarray(load_sample_image("flower.jpg")[100:124, 200:230])


def picture(path: Path, mode: str = "RGB", **options: Any) -> Path:
    image = Image.fromarray(PHOTO)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    if mode == "I;16":
        image = Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(PHOTO[..., 0].astype(np.float32) / 255)
    else:
        image = image.convert(mode)
    image.save(path, **options)
    return path


def test_an_array_becomes_what_the_model_gives() -> None:
    net = small_pcsr(scale=None).eval()
    made = zoo.upscale(net, PHOTO, 3)
    with torch.inference_mode():
        wanted, info = net(torch.from_numpy(PHOTO).permute(2, 0, 1)[None].float() / 255, 3, return_info=True)
    found = np.asarray(made.image).astype(int)
    assert np.abs(found - (wanted[0].permute(1, 2, 0).clamp(0, 1) * 255).round().numpy().astype(int)).max() <= 1
    assert made.class_map is not None
    assert np.array_equal(made.class_map, info.class_map[0].numpy())
    assert made.facts["hard"] == pytest.approx(float(info.fractions[0, 1])) == pytest.approx(made.facts["fraction_1"])
    assert made.facts["flops"] == pytest.approx(info.flops["paper"][0])


@pytest.mark.parametrize(
    ("mode", "suffix", "wanted"),
    [
        ("RGB", ".png", "RGB"),
        ("RGB", ".jpg", "RGB"),
        ("RGBA", ".png", "RGBA"),
        ("LA", ".png", "LA"),
        ("L", ".bmp", "L"),
        ("1", ".png", "L"),
        ("P", ".gif", "RGB"),
        ("CMYK", ".jpg", "RGB"),
        ("I;16", ".png", "I;16"),
        ("I;16", ".tif", "I;16"),
        ("RGBA", ".webp", "RGBA"),
        ("F", ".tif", "F"),
    ],
)
def test_every_kind_of_picture(tmp_path: Path, mode: str, suffix: str, wanted: str) -> None:
    """The network gives the bilinear image, so the mean of the picture stays."""
    net = small_pcsr()
    with torch.no_grad():
        for parameter in net.heavy_sampler.parameters():
            parameter.zero_()
    source = picture(tmp_path / f"in{suffix}", mode)
    out = tmp_path / ("out.png" if suffix == ".gif" else f"out{suffix}")
    made = zoo.upscale(net, source, out=out, policy="heavy")
    with Image.open(out) as written, Image.open(source) as given:
        written.load()
        assert (written.mode, written.size) == (wanted, (120, 96))
        assert made.image.mode == wanted
        like = given.convert(wanted) if wanted != "I;16" else given
        error = np.asarray(written).mean((0, 1)) - np.asarray(like).mean((0, 1))
        assert np.abs(error).max() < 0.02 * {"I;16": 65535, "F": 1}.get(wanted, 255)


@pytest.mark.parametrize(("channels", "suffix"), [(2, ".tif"), (3, ".png"), (4, ".png"), (4, ".tif")])
def test_16_bits_stay_16_bits(tmp_path: Path, channels: int, suffix: str) -> None:
    """Of colour, and with transparency, of which Pillow keeps 8."""
    net, grey = small_pcsr(), channels == 2
    deep = PHOTO.astype(np.uint16) * 257 + np.arange(30, dtype=np.uint16)[None, :, None]
    colour = np.repeat(deep[..., :1], 3, 2) if grey else deep
    kept: dict[str, Any] = {"icc_profile": b"a profile", "dpi": (300.0, 300.0), "exif": Image.Exif()}
    kept["exif"][0x010F] = "Camera"
    kept["exif"].get_ifd(0x8769)[0x829A] = 0.5  # the time of exposure
    write_picture(Picture(colour, None if channels == 3 else deep[..., 0], grey, kept), tmp_path / "in.png")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = zoo.upscale(net, tmp_path / "in.png", out=tmp_path / f"out{suffix}")
    said = [str(w.message) for w in caught if "notes of the camera are left out of" in str(w.message)]
    assert len(said) == len(made.notes) == (suffix == ".tif")  # tifffile writes no tables of them
    assert made.pixels.shape == (96, 120, channels)
    wanted = net.upscale(colour, out="uint16")
    assert np.array_equal(made.pixels[..., : 1 if grey else 3], luma(wanted)[..., None] if grey else wanted)
    again = read_picture(tmp_path / f"out{suffix}")
    assert np.array_equal(again.values(), made.pixels)
    if grey:  # Pillow does not know a TIFF of deep grey and transparency
        assert again.notes == [f"colour profile and notes of {tmp_path / 'out.tif'} are left out"]
    else:
        assert again.kept["icc_profile"] == b"a profile"
        assert again.kept["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert again.kept["exif"][0x010F] == "Camera"
        assert (0x829A in again.kept["exif"].get_ifd(0x8769)) == (suffix == ".png")
    assert np.abs(np.asarray(made.image).astype(int) - made.pixels / 257).max() < 1
    assert made.overlay().size == (120, 96)


def test_alpha_is_enlarged_by_bicubic_interpolation(tmp_path: Path) -> None:
    source = picture(tmp_path / "in.png", "RGBA")
    made = zoo.upscale(small_pcsr(), source)
    with Image.open(source) as given:
        wanted = given.getchannel("A").resize((120, 96), Image.Resampling.BICUBIC)
    assert np.array_equal(np.asarray(made.image.getchannel("A")), np.asarray(wanted))


def test_profile_notes_and_orientation(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    source = picture(tmp_path / "in.jpg", icc_profile=profile, exif=exif, dpi=(300, 300))
    zoo.upscale(small_pcsr(), source, out=tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        assert written.size == (96, 120)  # turned upright
        assert written.info["icc_profile"] == profile
        assert written.getexif().get(0x010F) == "Camera"
        assert 0x0112 not in written.getexif()
        assert written.info["dpi"][0] == pytest.approx(300, abs=0.1)


def test_texts_of_a_png(tmp_path: Path) -> None:
    """Of 8 and of 16 bits, and what other formats make of them; those about the small file itself are left out."""
    info = PngInfo()
    info.add_text("Title", "A flower")
    info.add_itxt("Author", "Zoë", "de", "Autor")
    info.add_text("Raw profile type exif", "of the small file")
    for name, pixels in (("8", PHOTO), ("16", PHOTO.astype(np.uint16) * 257)):
        write_picture(Picture(pixels, kept={"pnginfo": info}), tmp_path / f"{name}.png")
        zoo.upscale(small_pcsr(), tmp_path / f"{name}.png", out=tmp_path / f"{name}x4.png")
        with Image.open(tmp_path / f"{name}x4.png") as written:
            assert isinstance(written, PngImageFile)
            assert written.text == {"Title": "A flower", "Author": "Zoë"}
            assert getattr(written.text["Author"], "lang", None) == "de"
    with pytest.warns(UserWarning, match=r"texts of the image are left out of .*, as only PNG has them: Title, Author"):
        zoo.upscale(small_pcsr(), tmp_path / "8.png", out=tmp_path / "out.jpg")


def test_a_network_of_grey_images(tmp_path: Path) -> None:
    """Of coloured ones it enlarges the brightness: of the same picture the same, and colour by interpolation."""
    grey = PHOTO[..., 0]
    torch.manual_seed(0)
    for net in (small_pcsr(in_chans=1), FSRCNN(d=8, s=4, m=1, in_chans=1)):
        made = zoo.upscale(net, grey)
        assert made.pixels.shape == (96, 120, 1)
        with pytest.warns(
            UserWarning, match="the model is of grey images: it enlarged the brightness; colour is by bicub"
        ):
            coloured = zoo.upscale(net, np.dstack([grey, grey, grey, grey]))
        assert coloured.pixels.shape == (96, 120, 4)
        assert np.abs(coloured.pixels[..., :3].astype(int) - made.pixels).max() <= 1
    net = small_pcsr(in_chans=1)
    with pytest.warns(UserWarning, match="colour is by bicubic"):
        coloured = zoo.upscale(net, PHOTO).pixels
    bright = zoo.upscale(net, luma(PHOTO.astype(np.float32) / 255).clip(0, 1)).pixels[..., 0] * 255
    inside = ((coloured > 0) & (coloured < 255)).all(2)
    assert inside.mean() > 0.5
    assert np.abs(luma(coloured.astype(np.float32)) - bright)[inside].max() < 1
    with pytest.raises(ValueError, match="pictures are grey or of colour, and pcsr takes images of 4 channels"):
        zoo.upscale(small_pcsr(in_chans=4), PHOTO)


def test_a_network_without_a_scale_of_its_own(tmp_path: Path) -> None:
    picture(tmp_path / "in.png")
    with pytest.raises(ValueError, match=r"give scale= \(--scale\): pcsr was made for no scale of its own"):
        zoo.upscale(small_pcsr(scale=None), PHOTO)
    with pytest.raises(ValueError, match=r"give scale= \(--scale\)"):
        zoo.upscale_files(small_pcsr(scale=None), tmp_path, tmp_path / "out")
    rows = zoo.upscale_files(small_pcsr(), tmp_path, tmp_path / "out", 2)
    assert rows[0]["notes"] == ["the network learnt to enlarge by 4, not by 2 x 2: sizes of pixels are new to it"]
    with pytest.warns(UserWarning, match="learnt to enlarge by 4, not by 2 x 2"):
        zoo.upscale(small_pcsr(), PHOTO, 2)
    with pytest.raises(ValueError, match="gives features instead of an image"):
        zoo.upscale(FSRCNN(d=8, s=4, m=1, no_upsampling=True), PHOTO)


def test_whole_numbers_of_32_bits_are_taken_as_16(tmp_path: Path) -> None:
    bright = Image.fromarray(PHOTO[..., 0].astype(np.int32))
    with pytest.warns(UserWarning, match=r"none above \d+: if 255 is white, give image.convert\('L'\)"):
        made = zoo.upscale(small_pcsr(), bright)
    assert made.pixels.dtype == np.uint16
    zoo.upscale(small_pcsr(), bright.point(lambda value: value * 257))  # without a warning
    zoo.upscale(small_pcsr(), bright.convert("L"))


def test_a_budget_is_kept(tmp_path: Path) -> None:
    net = small_pcsr()
    light = zoo.upscale(net, PHOTO, policy="light").facts["flops_share"]
    target = (light + 1) / 2 + 0.05
    facts = zoo.upscale(net, PHOTO, budget=target).facts
    assert facts["flops_share"] <= target + 1e-9
    assert facts["flops_share"] == pytest.approx(target, abs=2 / (96 * 120))
    assert 0 < facts["hard"] < 1


def test_classes_over_the_picture(tmp_path: Path) -> None:
    net = small_pcsr()
    made = zoo.upscale(net, PHOTO, budget=0.85, class_map=tmp_path / "classes.png")
    with Image.open(tmp_path / "classes.png") as written:
        values = np.asarray(written).astype(int)
    assert made.class_map is not None
    redder = values[..., 0] > values[..., 1]
    assert np.array_equal(redder, made.class_map.astype(bool))


def test_nothing_is_overwritten_and_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.png"
    out.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is there already; pass overwrite=True"):
        zoo.upscale(small_pcsr(), PHOTO, out=out)
    assert out.read_bytes() == b"mine"
    made = read_picture(PHOTO)
    made.kept["exif"] = "no notes of a camera"
    with pytest.raises((AttributeError, TypeError, ValueError)):
        write_picture(made, out)
    assert out.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    zoo.upscale(small_pcsr(), PHOTO, out=out, overwrite=True)
    with Image.open(out) as written:
        assert written.size == (120, 96)


def test_an_original_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FSRCNN(d=8, s=4, m=1)
    made = zoo.upscale(net, PHOTO)
    assert made.image.size == (120, 96)
    assert made.class_map is None
    assert net.training  # as it was
    with pytest.raises(ValueError, match=r"enlarges by 4 alone, got scale=2"):
        zoo.upscale(net, PHOTO, 2)
    with pytest.raises(ValueError, match=r"^policy='light', refine=False: fsrcnn has one way to enlarge images"):
        zoo.upscale(net, PHOTO, policy="light", refine=False)
    with pytest.raises(ValueError, match=r"^budget=0\.7: fsrcnn has one way"):
        zoo.upscale(net, PHOTO, budget=0.7)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "adn"}, "policy must be one of .*, got 'adn'"),
        ({"policy": "target"}, r"needs budget= \(--budget\)"),
        ({"budget": 0.7, "policy": "adm"}, r"budget=0\.7 decides classes by what they cost"),
        ({"budget": 0.001}, r"a budget \(target\) must be from 0\.\d+, .* got 0\.001"),
        ({"out": "x.xyz"}, r"'x\.xyz' has no ending of a format that can be written"),
        (
            {"out": "x.ico"},
            r"x\.ico: ICO has sizes of its own, 24x14 for 40x24 say; write \.png, \.tif, \.webp, \.jpg or",
        ),
        ({"out": "x.gif"}, r"GIF holds 256 colours; write \.png"),
        ({"out": "x.webp", "scale": 600}, r"WEBP holds 16383 pixels a side, not 18000; write \.png or \.tif"),
        ({"out": "x.h5"}, r"HDF5 cannot be written \(.*\); write \.png"),
        ({"out": "x.png", "class_map": "./x.png"}, r"two pictures would be written to one file, x\.png"),
        ({"tile": True}, "tile must be a whole number of pixels of the small image from 1, or 'auto', got True"),
        ({"max_memory": "2 apples"}, "max_memory='2 apples' is no size"),
        ({"device": "tpu"}, "device"),
    ],
)
def test_what_cannot_be(tmp_path: Path, options: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        zoo.upscale(small_pcsr(), PHOTO, **options)
    assert not list(tmp_path.iterdir())


def test_pictures_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("none")
    with pytest.raises(DataError, match="it has no format that Pillow knows"):
        zoo.upscale(small_pcsr(), tmp_path / "text.png")
    with pytest.raises(DataError, match="there is no image"):
        zoo.upscale(small_pcsr(), tmp_path / "absent.png")
    broken = picture(tmp_path / "in.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(broken[: len(broken) // 2])
    with pytest.raises(DataError, match=r"cannot read the image .*cut\.png"):
        zoo.upscale(small_pcsr(), tmp_path / "cut.png")
    for wrong, words in (
        (
            np.zeros((4, 4, 5), np.uint8),
            r"of 1 \(grey\), 2 \(grey and transparency\), .* the array is \(4, 4, 5\) of u",
        ),
        (np.zeros((4, 4, 3), np.int64), r"the array is \(4, 4, 3\) of int64"),
        (np.full((4, 4), 2.0), "the array has real numbers from 2 to 2, where 0 to 1 are expected"),
        (np.full((4, 4), np.nan), "the array must be finite: NaN or infinity in 16 of 16 values"),
        (tmp_path, "is a folder: zoo.upscale_files enlarges all images of one"),
    ):
        with pytest.raises(DataError, match=words):
            zoo.upscale(small_pcsr(), wrong)
    for out in (tmp_path, tmp_path / "out"):
        (tmp_path / "out").mkdir(exist_ok=True)
        with pytest.raises(IsADirectoryError, match=r"is a folder: name a file, .*enlarged\.png say"):
            zoo.upscale(small_pcsr(), PHOTO, out=out, overwrite=True)
    for name in ("scale", "max_memory"):
        options: dict[str, Any] = {name: True}
        with pytest.raises(TypeError, match=f"{name} .* got True"):
            zoo.upscale(small_network(), PHOTO, **options)
    with pytest.raises(TypeError, match=r"got Tensor; model.upscale takes tensors \(channels, height, width\)"):
        zoo.upscale(small_pcsr(), torch.zeros(3, 4, 4))  # type: ignore[arg-type]
    Image.fromarray(np.full((4, 4), 200, np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(DataError, match=r"real.tif has real numbers from 200 to 200, where 0 to 1 are exp"):
        zoo.upscale(small_pcsr(), tmp_path / "real.tif")
    for photometric in ("rgb", "minisblack"):  # Pillow drops what is beyond the third, or reads none of it
        many = np.zeros((4, 6, 5), np.uint8)
        tifffile.imwrite(tmp_path / "many.tif", many, photometric=photometric, planarconfig="contig")
        with pytest.raises(DataError, match=r"many.tif has 5 channels; an image that can be enlarged has 1 \(grey"):
            zoo.upscale(small_pcsr(), tmp_path / "many.tif")
    with pytest.raises(ValueError, match="JPEG holds no transparency"):
        zoo.upscale(small_pcsr(), picture(tmp_path / "alpha.png", "RGBA"), out=tmp_path / "out.jpg")
    with pytest.raises(ValueError, match="holds 8 bits, the image has 16"):
        zoo.upscale(small_pcsr(), picture(tmp_path / "deep.png", "I;16"), out=tmp_path / "out.webp")
    with pytest.raises(ValueError, match=r"holds whole numbers, the image has real ones; write \.tif"):
        zoo.upscale(small_pcsr(), picture(tmp_path / "real.tif", "F"), out=tmp_path / "out.png")
    for other in (torch.nn.Linear(2, 2), "resnet18"):  # whose weights are not looked for
        with pytest.raises(ValueError, match="enlarges no images"):
            zoo.upscale(other, PHOTO)
    with pytest.raises(zoo.errors.UnknownModelError, match="pcsr_carn_x4"):
        zoo.upscale("pcsr_carn_x5", PHOTO)


def test_of_several_pictures_the_first_is_taken(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "in.tif", save_all=True, append_images=[Image.fromarray(PHOTO[::-1].copy())])
    with pytest.warns(UserWarning, match="has 2 pictures; the first is taken"):
        made = zoo.upscale(small_pcsr(), tmp_path / "in.tif")
    assert len(made.notes) == 1
    assert np.array_equal(np.asarray(made.image), np.asarray(zoo.upscale(small_pcsr(), PHOTO).image))


def folder_of(root: Path) -> Path:
    """Two pictures and, between them, one that is none."""
    (root / "deeper").mkdir(parents=True)
    picture(root / "a.png")
    (root / "b.png").write_text("none")
    picture(root / "deeper" / "c.jpg")
    return root


def test_a_folder_with_a_bad_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = folder_of(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(DataError, match=r"b.png: it has no format that Pillow knows; remove it, or pass on_bad='skip'"):
        zoo.upscale_files(small_pcsr(), source, out)
    told: list[dict[str, Any]] = []
    rows = zoo.upscale_files(small_pcsr(scale=None), source, out, 2, on_bad="skip", overwrite=True, tell=told.append)
    assert rows == told
    assert [Path(row["input"]).name for row in rows] == ["a.png", "b.png", "c.jpg"]
    assert [row.get("size") for row in rows] == [[60, 48], None, [60, 48]]
    assert "no format that Pillow knows" in rows[1]["error"]
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*.*")) == ["a.png", "deeper/c.jpg"]
    assert "zoo: enlarged 2 of 3 images; left out 1: " in capsys.readouterr().err
    with pytest.raises(DataError, match="none of the 1 image files can be read"):
        zoo.upscale_files(small_pcsr(), source / "b.png", tmp_path / "b.png", on_bad="skip", progress=False)
    with pytest.raises(ValueError, match="on_bad must be one of"):
        zoo.upscale_files(small_pcsr(), source, out, on_bad="ignore")
    with pytest.raises(DataError, match=r"there is no image .*; did you mean 'in'"):
        zoo.upscale_files(small_pcsr(), tmp_path / "int", out)


def test_every_format_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that Pillow reads; what is none is told; formats that do not hold the picture become others."""
    source, out = tmp_path / "in", tmp_path / "in" / "enlarged"
    source.mkdir()
    for ending in ("avif", "gif", "ico", "jp2", "TGA"):
        picture(source / f"{ending}.{ending}")
    Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257).save(source / "deep.pgm")
    Image.fromarray(PHOTO[..., 0].astype(np.float32) / 255).save(source / "real.pfm")
    (source / "film.mpg").write_bytes(b"\0\0\1\xb3")
    (source / "notes.txt").write_text("none")
    for again in (False, True):  # the second time there is more below the folder
        rows = zoo.upscale_files(small_pcsr(scale=None), source, out, 1.5, overwrite=again)
        names = [Path(row["output"]).name for row in rows]
        assert names == ["avif.avif", "deep.png", "gif.png", "ico.png", "jp2.jp2", "real.tif", "TGA.TGA"]
    assert rows[1]["notes"] == [f"{source / 'deep.pgm'} becomes deep.png, as its own format does not hold it"]
    assert "passed over 2 of 9 files of" in capsys.readouterr().err
    with Image.open(out / "real.tif") as written:
        assert (written.mode, written.size) == ("F", (45, 36))


def test_one_file_for_one_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("HR", "LR"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        picture(tmp_path / "in" / folder / "a.gif")
    rows = zoo.upscale_files(
        small_pcsr(), tmp_path / "in" / "LR" / "a.gif", f"{tmp_path}/one/", class_map=f"{tmp_path}/map/"
    )
    assert rows[0]["output"] == str(tmp_path / "one" / "a.png")
    assert (tmp_path / "map" / "a.png").exists()
    picture(tmp_path / "in" / "LR" / "a.png")
    with pytest.raises(ValueError, match=r"a\.gif and .*a\.png would be written to one file, .*: rename one"):
        zoo.upscale_files(small_pcsr(), tmp_path / "in", tmp_path / "out")
    assert "LR alone is a folder of its own" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"a\.gif and its classes would be written to one file"):
        zoo.upscale_files(small_pcsr(), tmp_path / "in" / "HR", tmp_path / "out", class_map=tmp_path / "out")
    assert not (tmp_path / "out").exists()
