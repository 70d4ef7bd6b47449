"""A karyogram stands in its order, at its true size, the short arm up, and hides no deviation."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo import explain
from zoo.karyotype import Karyotype, Template, dispatch, dispatch_cases

NORMAL = [*np.repeat(np.arange(22), 2).tolist(), 22, 23]


def _karyotype(types: list[int], sure: float = 20.0, count: int = 24, **options: Any) -> Karyotype:
    table = np.zeros((len(types), count))
    table[np.arange(len(types)), types] = sure
    return dispatch(table - np.log(np.exp(table).sum(1, keepdims=True)), **options)


def _height(kind: int) -> int:
    return 44 - kind


def _rod(kind: int, shift: int = 0, down: bool = False) -> torch.Tensor:
    """White rods on black, 8 wide, as long as their type says, half as bright in the short arm (the upper third)."""
    image, high = torch.zeros(1, 64, 64), _height(kind)
    rod = torch.ones(high, 8)
    rod[: high // 3] = 0.5
    image[0, 4 + shift : 4 + shift + high, 20 : 20 + 8] = rod.flip(0, 1) if down else rod
    return image


def _shown(figure: Any) -> list[tuple[float, float, float, float, np.ndarray]]:
    """Left, right, bottom, top and pixels of every chromosome."""
    return [(*image.get_extent(), np.asarray(image.get_array())) for image in figure.axes[0].images]


def _by_kind(figure: Any, types: list[int]) -> dict[int, list[Any]]:
    """By length, which is another one for every type."""
    found: dict[int, list[Any]] = {}
    for one in _shown(figure):
        found.setdefault(44 - one[4].shape[0], []).append(one)
    assert {kind: len(here) for kind, here in found.items()} == {kind: types.count(kind) for kind in set(types)}
    return found


def _names(figure: Any) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.get_position() for text in figure.axes[0].texts}


def test_types_stand_in_their_rows_and_order() -> None:
    order = np.random.default_rng(0).permutation(46)
    types = [NORMAL[i] for i in order]
    figure = explain.plot_karyogram([_rod(kind) for kind in types], _karyotype(types))
    found, names = _by_kind(figure, types), _names(figure)
    rows = [range(5), range(5, 12), range(12, 18), range(18, 24)]
    floors = []
    for row in rows:
        here = [one for kind in row for one in found[kind]]
        assert len({one[2] for one in here}) == 1  # on one line
        floors.append(here[0][2])
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(here))  # from left to right, beside each other
    assert floors == sorted(floors)  # y grows downwards
    for upper, lower in itertools.pairwise(rows):
        assert max(found[kind][0][2] for kind in upper) < min(one[3] for kind in lower for one in found[kind])
    assert list(names) == [*map(str, range(1, 23)), "X", "Y"]
    for kind, (x, y) in enumerate(names.values()):
        middles = [(one[0] + one[1]) / 2 for one in found[kind]]
        assert x == pytest.approx(sum(middles) / len(middles))
        assert found[kind][0][2] < y < found[kind][0][2] + 20
    # Groups are further apart than the types of one.
    x = [position[0] for position in names.values()]
    assert x[3] - x[2] > 1.5 * (x[1] - x[0])
    assert x[15] - x[14] > 1.5 * (x[13] - x[12])
    assert figure.get_suptitle() == "46,XY"
    assert figure.get_supxlabel() == "not a medical device"


def test_a_pixel_is_as_long_in_every_image() -> None:
    figure = explain.plot_karyogram([_rod(kind, shift=kind // 2) for kind in NORMAL], _karyotype(NORMAL))
    for left, right, bottom, top, pixels in _shown(figure):
        assert (right - left, bottom - top) == pytest.approx((8, len(pixels)))
    assert figure.axes[0].get_aspect() == 1
    limits = (figure.axes[0].get_xlim(), figure.axes[0].get_ylim())
    for left, right, bottom, top, _ in _shown(figure):
        assert limits[0][0] < left < right < limits[0][1]
        assert limits[1][1] < top < bottom < limits[1][0]


@pytest.mark.parametrize("as_tensor", [True, False])
def test_the_short_arm_is_up(as_tensor: bool) -> None:
    polarity = [index % 2 for index in range(46)]
    images = [_rod(kind, down=bool(side)) for kind, side in zip(NORMAL, polarity, strict=True)]
    images[0][0, 4, 20] = 0.25  # a corner: turned, not mirrored
    images[1][0, 4 + _height(0) - 1, 27] = 0.25
    figure = explain.plot_karyogram(
        torch.stack(images).requires_grad_() if as_tensor else images,
        _karyotype(NORMAL),
        polarity=torch.tensor(polarity),
    )
    for *_, pixels in _shown(figure):
        high = len(pixels)
        np.testing.assert_array_equal(pixels[2 : high // 3], 0.5)
        np.testing.assert_array_equal(pixels[high // 3 :], 1)
    assert [pixels[0, 0] for *_, pixels in _shown(figure)[:2]] == [0.25, 0.25]
    left = explain.plot_karyogram(images, _karyotype(NORMAL), polarity=[-1] * 46)
    assert _shown(left)[1][4][-3, 0] == 0.5  # not known, not turned


def test_dark_on_white_is_dark_on_white() -> None:
    pictures = [Image.fromarray((255 - _rod(kind)[0].numpy() * 255).astype("uint8")) for kind in NORMAL]
    shown = _shown(explain.plot_karyogram(pictures, _karyotype(NORMAL)))
    for *_, pixels in shown:
        assert pixels.min() == pytest.approx(128 / 255)
        assert pixels.max() == 1
    image = explain.plot_karyogram(pictures, _karyotype(NORMAL)).axes[0].images[0]
    assert image.get_cmap().name == "gray_r"
    assert image.get_clim() == (0, 1)


def test_noise_of_the_background_is_cut_off() -> None:
    torch.manual_seed(0)
    images = [(_rod(kind) + 0.05 * torch.randn(1, 64, 64)).clamp(0, 1) for kind in NORMAL]
    shown = _shown(explain.plot_karyogram(images, _karyotype(NORMAL)))
    for (*_, pixels), kind in zip(shown, NORMAL, strict=True):
        assert _height(kind) <= len(pixels) <= _height(kind) + 4
        assert 8 <= pixels.shape[1] <= 12


def test_gains_and_losses_are_seen() -> None:
    types = [kind for kind in NORMAL if kind != 22] + [20]  # 46,Y,+21
    karyotype = _karyotype(types, sure=30.0)
    figure = explain.plot_karyogram([_rod(kind) for kind in types], karyotype)
    assert figure.get_suptitle() == karyotype.karyotype == "46,Y,+21"
    found, names = _by_kind(figure, types), _names(figure)
    assert len(found[20]) == 3
    assert "21 (+1)" in names
    assert "X (-1)" in names
    assert {t.get_text(): t.get_weight() for t in figure.axes[0].texts}["21 (+1)"] == "bold"
    (frame,) = figure.axes[0].patches
    assert frame.get_linestyle() == "--"
    assert frame.get_x() + frame.get_width() / 2 == pytest.approx(names["X (-1)"][0])
    assert frame.get_y() + frame.get_height() == pytest.approx(found[20][0][2])
    monosomy = [kind for kind in NORMAL if kind != 23]
    figure = explain.plot_karyogram([_rod(kind) for kind in monosomy], _karyotype(monosomy, sure=30.0))
    assert figure.get_suptitle() == "45,X"
    assert len(figure.axes[0].patches) == 1


def test_overruled_chromosomes_are_framed() -> None:
    table = np.zeros((46, 24))
    table[np.arange(46), NORMAL] = 20.0
    table[6, 0], table[6, 3] = 5.0, 4.0  # a third 1 by itself, the second 4 within the case
    karyotype = dispatch(table - np.log(np.exp(table).sum(1, keepdims=True)))
    (one,) = karyotype.overruled
    assert (one.index, one.likeliest, one.given) == (6, "1", "4")
    figure = explain.plot_karyogram([_rod(kind) for kind in NORMAL], karyotype)
    (frame,) = figure.axes[0].patches
    left, right, bottom, top, _ = _by_kind(figure, NORMAL)[3][0]
    assert (frame.get_x(), frame.get_y()) == (left, top)
    assert (frame.get_width(), frame.get_height()) == (right - left, bottom - top)
    x, y = _names(figure)["6: 1?"]
    assert (x, y) == ((left + right) / 2, top)
    assert figure.get_suptitle() == "46,XY (1 overruled)"


def test_a_forced_template_is_named() -> None:
    types = [kind for kind in NORMAL if kind != 22] + [20]
    figure = explain.plot_karyogram([_rod(kind) for kind in types], _karyotype(types, strict=True))
    assert figure.get_suptitle() == "46,XY (template forced, 1 overruled)"
    assert (
        explain.plot_karyogram(
            [_rod(kind) for kind in types], _karyotype(types, strict=True), title="case 7"
        ).get_suptitle()
        == "case 7"
    )


def test_another_species() -> None:
    mouse = Template.diploid(19)
    types = [*np.repeat(np.arange(19), 2).tolist(), 19, 20]
    karyotype = _karyotype(types, count=21, template=mouse)
    figure = explain.plot_karyogram([_rod(kind) for kind in types], karyotype)
    found = _by_kind(figure, types)
    floors = [found[kind][0][2] for kind in range(21)]
    assert [len(list(here)) for _, here in itertools.groupby(floors)] == [7, 7, 7]
    assert figure.get_suptitle() == "40,XY"


def test_one_of_several_cases_and_a_file(tmp_path: Path) -> None:
    ids = np.arange(92) % 2
    types = [NORMAL[i // 2] for i in range(92)]
    table = np.zeros((92, 24))
    table[np.arange(92), types] = 20.0
    second = dispatch_cases(table - np.log(np.exp(table).sum(1, keepdims=True)), case_ids=ids)[1]
    images = torch.stack([_rod(kind) for kind in types])
    with pytest.raises(ValueError, match=r"one for each of 46 chromosomes, got 92; .* karyotype\.rows"):
        explain.plot_karyogram(images, second)
    figure = explain.plot_karyogram(images[second.rows], second, path=tmp_path / "case.png")
    assert len(figure.axes[0].images) == 46
    with Image.open(tmp_path / "case.png") as image:
        assert image.format == "PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["case.png"]


def test_what_does_not_fit_is_refused() -> None:
    images, karyotype = [_rod(kind) for kind in NORMAL], _karyotype(NORMAL)
    with pytest.raises(TypeError, match=r"what zoo\.karyotype\.dispatch gives, of one case; got list"):
        explain.plot_karyogram(images, [karyotype])  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="polarity must be a number for each of 46 chromosomes"):
        explain.plot_karyogram(images, karyotype, polarity=[0, 1])
    with pytest.raises(ValueError, match=r"polarity must be 0 .*, got 2"):
        explain.plot_karyogram(images, karyotype, polarity=[2] * 46)
    with pytest.raises(ValueError, match="threshold must be at least 0 and below 1, got 1"):
        explain.plot_karyogram(images, karyotype, threshold=1)
    with pytest.raises(ValueError, match="background must be one of auto, white, black, got 'grey'"):
        explain.plot_karyogram(images, karyotype, background="grey")
    with pytest.raises(ValueError, match=r"\(height, width\) or have channels besides, got \(64,\)"):
        explain.plot_karyogram([image[0, 0] for image in images], karyotype)
    with pytest.raises(ValueError, match=r"must end in \.png"):
        explain.plot_karyogram(images, karyotype, path="case.pdf")


def test_an_empty_image_is_left_as_it_is() -> None:
    images = [_rod(kind) for kind in NORMAL]
    images[5] = torch.zeros(1, 30, 20)
    shown = _shown(explain.plot_karyogram(images, _karyotype(NORMAL)))
    assert (30, 30) in [pixels.shape for *_, pixels in shown]
