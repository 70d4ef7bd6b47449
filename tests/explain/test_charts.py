"""Charts hold the numbers of the explanation and of the asymmetry."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from zoo import explain
from zoo.errors import MissingExtraError
from zoo.layers.tversky import TverskyProjection
from zoo.layers.tversky.interpretation import asymmetry
from zoo.layers.tversky.interpretation import explain as explain_row


def _layer(**options: Any) -> tuple[TverskyProjection, torch.Tensor]:
    torch.manual_seed(0)
    layer = TverskyProjection(6, 4, 9, **options)
    with torch.no_grad():
        layer.alpha.fill_(0.8)
    return layer, torch.randn(3, 6)


def _bars(axes: Any) -> dict[str, list[float]]:
    return {group.get_label(): [bar.get_width() for bar in group] for group in axes.containers}


@pytest.mark.parametrize("similarity", ["contrast", "ratio"])
def test_bars_are_the_terms(similarity: str) -> None:
    layer, x = _layer(similarity=similarity, difference="substractmatch")
    explanation = explain_row(layer, x[0])
    (axes,) = explain.decision_chart(explanation, top=4).axes
    top, bars = explanation.top(4), _bars(axes)
    assert list(bars) == ["common", "input only", "prototype only", "other features"]
    for label, values in (("common", top.common), ("input only", top.ours), ("prototype only", top.theirs)):
        np.testing.assert_allclose(bars[label], values)
    assert bars["other features"] == [pytest.approx(float(top.rest))]
    drawn = sum(map(sum, bars.values())) if similarity == "contrast" else sum(bars["common"]) + float(top.rest)
    assert drawn == pytest.approx(layer(x[0]).max().item(), abs=1e-5)
    labels = [text.get_text() for text in axes.get_yticklabels()]
    assert labels == [*(f"feature {k}" for k in top.features.tolist()), "5 others"]
    assert axes.get_title(loc="left") == f"output {int(explanation.target)}: {explanation.score:.4g}"


def test_bars_of_a_feature_stand_beside_each_other() -> None:
    layer, x = _layer(difference="substractmatch", per_feature=True)
    (axes,) = explain.decision_chart(explain_row(layer, x[0])).axes
    for place in range(9):
        spans = [sorted((b.get_x(), b.get_x() + b.get_width())) for g in axes.containers for b in [g[place]]]
        spans = sorted(span for span in spans if span[0] != span[1])
        assert all(a[1] <= b[0] + 1e-6 for a, b in itertools.pairwise(spans))


def test_names_and_title() -> None:
    layer, x = _layer()
    explanation = explain_row(layer, x[0], 2)
    names = [f"trait {k}" for k in range(9)]
    (axes,) = explain.decision_chart(explanation, top=2, feature_names=names, class_names=["a", "b", "cat", "d"]).axes
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown == [*(names[k] for k in explanation.top(2).features.tolist()), "7 others"]
    assert axes.get_title(loc="left").startswith("cat: ")
    (axes,) = explain.decision_chart(explanation, title="why").axes
    assert axes.get_title(loc="left") == "why"
    assert "other features" not in _bars(axes)


def test_a_chart_is_of_one_row() -> None:
    layer, x = _layer()
    with pytest.raises(ValueError, match=r"the explanation is of \(3,\); give explanation\[i\]"):
        explain.decision_chart(explain_row(layer, x))
    with pytest.raises(ValueError, match="feature_names must be 9 names, got 2"):
        explain.decision_chart(explain_row(layer, x[0]), feature_names=["a", "b"])
    with pytest.raises(ValueError, match="output 3 too; got 3"):
        explain.decision_chart(explain_row(layer, x[0], 3), class_names=["a", "b", "c"])


def test_asymmetry_matrix_holds_the_differences() -> None:
    layer, _ = _layer()
    axes = explain.asymmetry_matrix(nn.Sequential(nn.ReLU(), layer), ["cat", "dog", "eel", "fox"]).axes[0]
    wanted = asymmetry(layer).numpy()
    assert abs(wanted).max() > 0.01
    image = axes.images[0]
    np.testing.assert_array_equal(image.get_array(), wanted)
    assert image.get_clim() == (pytest.approx(-abs(wanted).max()), pytest.approx(abs(wanted).max()))
    cells = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts}
    assert cells[1, 2] == f"{wanted[1, 2]:.2g}"
    assert (1, 1) not in cells
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "dog", "eel", "fox"]
    with pytest.raises(ValueError, match="class_names must be 4 names, got 1"):
        explain.asymmetry_matrix(layer, ["cat"])


def test_many_classes_stay_readable() -> None:
    axes = explain.asymmetry_matrix(TverskyProjection(6, 50)).axes[0]
    assert not axes.texts


def test_a_symmetric_layer_is_white() -> None:
    image = explain.asymmetry_matrix(TverskyProjection(6, 3)).axes[0].images[0]
    assert abs(image.get_array()).max() < 0.5 * image.get_clim()[1]


def test_pictures_are_written_whole(tmp_path: Path) -> None:
    layer, x = _layer()
    path = tmp_path / "why.png"
    explain.decision_chart(explain_row(layer, x[0]), path=path)
    with Image.open(path) as image:
        assert image.format == "PNG"
    assert [p.name for p in tmp_path.iterdir()] == ["why.png"]
    with pytest.raises(ValueError, match=r"must end in \.png; got 'why\.pdf'"):
        explain.asymmetry_matrix(layer, path="why.pdf")


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"zoo-layers\[train\]"):
        explain.asymmetry_matrix(_layer()[0])
