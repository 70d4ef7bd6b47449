"""What `zoo.finetune` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from zoo.training import plots


@dataclass
class Result:
    """What a run gave.

    Attributes:
        model: with the weights of the best epoch, in evaluation mode, on the CPU or where it was trained.
        metrics: of these weights on the test split if there is one, else on the validation split; `split` and `samples`
            say which and how many. Ready for `zoo.push_to_hub(metrics=…)`.
        history: one dictionary an epoch, as in history.csv.
        folder: of the run.
        monitor: the metric by which the best epoch was chosen.
        best_epoch: counted from 1.
        val_metrics, test_metrics: of the best weights, where there is such a split; with `confusion`.
        classes: class names.
    """

    model: nn.Module
    metrics: dict[str, Any]
    history: list[dict[str, Any]]
    folder: Path
    monitor: str
    best_epoch: int
    val_metrics: dict[str, Any] | None = None
    test_metrics: dict[str, Any] | None = None
    classes: list[str] = field(default_factory=list)

    def plot(self) -> list[Path]:
        """Draw curves.png and, for single-label data, confusion.png into the run folder; returns their paths.

        Raises:
            MissingExtraError: without matplotlib.
        """
        title = self.folder.name
        drawn = [plots.save(plots.curves(self.history, self.monitor, title=title), self.folder / "curves.png")]
        measured = self.test_metrics or self.val_metrics
        if measured and "confusion" in measured:
            split = "test" if self.test_metrics else "validation"
            text = f"{title}: {split} split, accuracy {measured['accuracy']:.4f}"
            figure = plots.confusion(measured["confusion"], self.classes, title=text)
            drawn.append(plots.save(figure, self.folder / "confusion.png"))
        return drawn
