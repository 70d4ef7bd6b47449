"""Pictures enlarged: what is kept of them, what is written and when, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from sklearn.datasets import load_sample_image

import zoo
from tests.training.super_resolution.helpers import small_pcsr
from zoo.errors import DataError
from zoo.models.super_resolution.fsrcnn import FSRCNN
from zoo.pictures import read_picture, write_picture

PHOTO = np.ascontiguousarray(load_sample_image("flower.jpg")[100:124, 200:230])


def picture(path: Path, mode: str = "RGB", **options: Any) -> Path:
    image = Image.fromarray(PHOTO)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image = image.convert(mode) if mode != "I;16" else Image.fromarray(PHOTO[..., 0].astype(np.uint16) * 257)
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
    assert made.facts["hard"] == pytest.approx(float(info.fractions[0, 1]))
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
        assert np.abs(error).max() < (0.02 * 65535 if wanted == "I;16" else 5)


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
    with pytest.raises(ValueError, match="policy: fsrcnn has one way to enlarge images"):
        zoo.upscale(net, PHOTO, policy="light")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"policy": "adn"}, "policy must be one of .*, got 'adn'"),
        ({"policy": "target"}, r"needs budget= \(--budget\)"),
        ({"budget": 0.7, "policy": "adm"}, r"budget=0\.7 decides classes by what they cost"),
        ({"budget": 0.001}, "target"),
        ({"out": "x.xyz"}, r"'x\.xyz' has no ending of a format that can be written"),
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
    with pytest.raises(DataError, match=r"got \(4, 4, 3\) of float32"):
        zoo.upscale(small_pcsr(), np.zeros((4, 4, 3), np.float32))
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "real.tif")
    with pytest.raises(DataError, match="real numbers without a range"):
        zoo.upscale(small_pcsr(), tmp_path / "real.tif")
    with pytest.raises(ValueError, match="JPEG holds no transparency"):
        zoo.upscale(small_pcsr(), picture(tmp_path / "alpha.png", "RGBA"), out=tmp_path / "out.jpg")
    with pytest.raises(ValueError, match="holds 8 bits, the image has 16"):
        zoo.upscale(small_pcsr(), picture(tmp_path / "deep.png", "I;16"), out=tmp_path / "out.webp")
    with pytest.raises(ValueError, match="enlarges no images"):
        zoo.upscale(torch.nn.Linear(2, 2), PHOTO)


def test_of_several_pictures_the_first_is_taken(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "in.tif", save_all=True, append_images=[Image.fromarray(PHOTO[::-1].copy())])
    made = zoo.upscale(small_pcsr(), tmp_path / "in.tif")
    assert "has 2 pictures; the first is taken" in made.notes[0]
    assert np.array_equal(np.asarray(made.image), np.asarray(zoo.upscale(small_pcsr(), PHOTO).image))
