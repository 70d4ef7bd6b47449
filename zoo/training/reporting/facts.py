"""What a run folder says about its run."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.composition import SLOTS
from zoo.errors import TrainingError
from zoo.training.data.source import BUILT_IN
from zoo.training.out_folder import is_run


@dataclass(frozen=True)
class RunFacts:
    """A run as its folder describes it.

    Attributes:
        folder: of the run.
        args: args.json.
        history: one row an epoch.
        metrics: metrics.json; empty while the run is not finished.
        config: config.json of best/; empty when best/ holds the weights alone.
    """

    folder: Path
    args: dict[str, Any]
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    config: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def options(self) -> dict[str, Any]:
        """The settings."""
        return self.args["options"]

    @property
    def given(self) -> dict[str, Any]:
        """What `zoo.finetune` was given that the settings do not hold, or hold only as it was resolved: model, data,
        val, pretrained, on_bad, lr, …; and `weights`, whether it started from some.
        """
        return self.args.get("given") or {}

    @property
    def classes(self) -> list[str]:
        """Class names."""
        return self.args["data"]["classes"]

    @property
    def noun(self) -> str:
        """What is classified: an image, or a bag."""
        return self.args["data"].get("noun", "image")

    @property
    def monitor(self) -> str:
        """The metric that chose the best epoch."""
        return self.options["monitor"]

    @property
    def split(self) -> str | None:
        """The split on which the final metrics were measured: test, else val, else train; `None` before the end."""
        return next((name for name in ("test", "val", "train") if isinstance(self.metrics.get(name), dict)), None)

    @property
    def measured(self) -> dict[str, Any]:
        """The metrics of that split."""
        return self.metrics[self.split] if self.split else {}

    @property
    def confusion(self) -> list[list[int]] | None:
        """[true][answered] counts of that split, where images carry one label."""
        return self.measured.get("confusion")

    @property
    def multi_label(self) -> bool:
        """Whether an image may carry several labels."""
        if task := self.training.get("task"):
            return task == "multi-label"
        return bool(self.measured) and self.confusion is None

    @property
    def training(self) -> dict[str, Any]:
        """How the model in best/ was trained, by its own config."""
        return (self.config.get("zoo") or {}).get("training") or {}

    @property
    def params(self) -> int | None:
        """Parameters of the model."""
        return (self.config.get("zoo") or {}).get("params")

    @property
    def parts(self) -> dict[str, Any]:
        """slot -> what was put there, in a composition."""
        described = (self.config.get("zoo") or {}).get("spec") or {}
        described = described or self.options.get("model_args") or {}
        return {slot: described[slot] for slot in SLOTS if described.get(slot) is not None}

    @property
    def seconds(self) -> float | None:
        """Of training, without evaluation."""
        known = [row["seconds"] for row in self.history if row.get("seconds") is not None]
        return sum(known) if known else None

    @property
    def best_epoch(self) -> int | None:
        """Counted from 1."""
        if "best_epoch" in self.metrics:
            return self.metrics["best_epoch"]
        return next((row["epoch"] for row in reversed(self.history) if row.get("best")), None)

    @property
    def source(self) -> str | None:
        """Where the data was, if the run says so or it is built in."""
        source = self.given.get("data")
        if isinstance(source, str):
            return source
        name = self.args["data"]["name"]
        return name if name in BUILT_IN else None


def read_run(folder: str | os.PathLike[str]) -> RunFacts:
    """Read a run folder.

    Raises:
        TrainingError: no run is there, or it has not finished an epoch.
    """
    path = Path(folder).expanduser()
    if not is_run(path):
        what = "there is no folder" if not path.exists() else "no run of zoo.finetune is in"
        raise TrainingError(f"{what} {str(folder)!r}; zoo.report takes a run's folder or a comparison's")
    history = _read(path / "history.json")
    if not history:
        raise TrainingError(f"the run {str(folder)!r} has not finished an epoch yet: there is nothing to report")
    return RunFacts(
        folder=path,
        args=_read(path / "args.json"),
        history=history,
        metrics=_read(path / "metrics.json") or {},
        config=_read(path / "best" / "config.json") or {},
    )


def _read(path: Path) -> Any:
    """The content of a JSON file; `None` without it.

    Raises:
        TrainingError: the file is damaged.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise TrainingError(f"{path} is damaged ({error}); run zoo.finetune again to write it anew") from error
