"""Plots show what they should, and are written whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.training import plots

HISTORY: list[dict[str, Any]] = [
    {"epoch": e, "train_loss": 2 / e, "val_loss": 2.2 / e, "val_f1": 0.5 + e / 20, "lr": 1e-3 / e} for e in range(1, 6)
]


def lines(axes: Any) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in axes.lines if not line.get_label().startswith("_")}


def test_curves_hold_the_history() -> None:
    history = [dict(row) for row in HISTORY]
    history[3]["best"] = "val"
    for row in history[2:]:
        row["ema_f1"] = row["val_f1"] - 0.1
    figure = plots.curves(history, "f1", title="a run")
    loss, metric, rate = figure.axes
    assert lines(loss) == {
        "training": [r["train_loss"] for r in history],
        "validation": [r["val_loss"] for r in history],
    }
    drawn = lines(metric)
    assert drawn["validation"] == [r["val_f1"] for r in history]
    assert drawn["validation, EMA"] == [r["ema_f1"] for r in history[2:]]
    assert drawn["best, 0.7000"] == [0.7]
    assert lines(rate)["learning rate"] == [r["lr"] for r in history]
    assert [a.get_title() for a in figure.axes] == ["loss", "f1", "learning rate"]
    assert all(a.get_xlabel() == "epoch" for a in figure.axes)


def test_curves_of_one_epoch_without_validation() -> None:
    figure = plots.curves([{"epoch": 1, "train_loss": 1.0, "lr": 0.1}], "accuracy")
    assert figure.axes[1].get_title() == "no validation split"
    assert figure.axes[0].get_xlim() == (0, 2)


def test_confusion_shows_counts_and_shares() -> None:
    counts = [[8, 2, 0], [0, 0, 0], [1, 0, 3]]
    figure = plots.confusion(counts, ["cat", "a name that is far too long to print", "dog"], title="test")
    axes = figure.axes[0]
    shown = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in axes.texts}
    assert shown == {(0, 0): "8", (0, 1): "2", (2, 0): "1", (2, 2): "3"}
    assert np.allclose(axes.images[0].get_array(), [[0.8, 0.2, 0], [0, 0, 0], [0.25, 0, 0.75]])
    assert [t.get_text() for t in axes.get_yticklabels()] == ["cat", "a name that is far too …", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("answered", "true")


@pytest.mark.parametrize("classes", [2, 30, 100])
def test_many_classes_stay_readable(classes: int, tmp_path: Path) -> None:
    figure = plots.confusion(np.eye(classes, dtype=int) * 5, [str(k) for k in range(classes)])
    axes = figure.axes[0]
    assert bool(axes.texts) == (classes <= 20)
    path = plots.save(figure, tmp_path / "confusion.png")
    with Image.open(path) as image:
        assert max(image.size) <= 150 * 15


def test_names_that_the_font_lacks_do_not_warn(tmp_path: Path) -> None:
    figure = plots.confusion([[1, 0], [0, 1]], ["正常", "異常"], title="検査")
    assert plots.save(figure, tmp_path / "confusion.png").is_file()


def test_a_run_leaves_its_pictures(tmp_path: Path) -> None:
    result = zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK)
    for path in (tmp_path / "curves.png", tmp_path / "confusion.png"):
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20
    assert result.plot() == [tmp_path / "curves.png", tmp_path / "confusion.png"]
    assert not list(tmp_path.glob("*.tmp-*"))
