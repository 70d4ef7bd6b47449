"""What `zoo.finetune` returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from zoo.training import plots


@dataclass
class Result:
    """What a run gave; or, to a callback, what it has given so far.

    Attributes:
        model: with the weights of the best epoch, in evaluation mode, on the CPU or where it was trained.
        metrics: of these weights on the test split if there is one, else on the validation split; of a photograph that
            there is alone, on itself. `split` and `samples` say which and how many. Ready for
            `zoo.push_to_hub(metrics=…)`.
        history: one dictionary an epoch, as in history.csv.
        folder: of the run.
        monitor: the metric by which the best epoch was chosen.
        best_epoch: counted from 1; of a run in phases or stages, the best of the last one.
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

    def push(self, repo_id: str, **options: Any) -> Any:
        """Publish the best model on the Hub, with what it reached and how it was made.

        Args:
            repo_id: `"user/repo"`, or `"repo"` for the owner of the token.
            **options: of `zoo.push_to_hub`: `license`, `private`, `tag`, `train_data`, `dry_run`, ….

        Returns:
            A `PushResult` with commit and URL.

        Raises:
            ConfigError: best/ holds the weights alone, because no name can rebuild the model.
            ValueError, HubError: as `zoo.push_to_hub`.
        """
        from zoo.publish import push_source

        return push_source(str(self.folder), repo_id, **options)

    def report(self, out: str | os.PathLike[str] | None = None, **options: Any) -> Path:
        """Write the run as one HTML page, as `zoo.report` does; returns its path.

        Args:
            out: file; default: `report.html` in the run folder.
            **options: of `zoo.report`: `data`, `worst`, ….
        """
        from zoo.training.reporting import report

        if not (self.folder / "best" / "config.json").is_file():
            options.setdefault("model", self.model)  # only the weights are there
        return report(self.folder, out, **options)


#: Called in the first process after every epoch, when best/ and the checkpoint are written, with what there is so far:
#: the model in training, the metrics of the epoch on the validation split, the history. What it returns is ignored; an
#: error that it raises ends the run, which can be resumed.
Callback = Callable[[Result], object]


def check_callbacks(callbacks: Any) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: naming it.
    """
    wrong = callbacks if callable(callbacks) else next((c for c in callbacks if not callable(c)), None)
    if wrong is not None:
        raise TypeError(
            "callbacks must be a list of functions of one argument (the Result so far), got "
            + (
                f"{wrong!r} itself: callbacks=[{getattr(wrong, '__name__', '…')}]"
                if wrong is callbacks
                else repr(wrong)
            )
        )
