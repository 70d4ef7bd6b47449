"""What `zoo.compare` returns, and the files that it writes."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo._version import __version__
from zoo.files import write_json, write_text
from zoo.training import plots
from zoo.training.metrics import higher_is_better
from zoo.training.peak_memory import CUDA

FILES = ("comparison.csv", "comparison.json", "comparison.png")
FORMAT = "zoo comparison 1"
_MEMORY = {"process": "process memory", "cuda": "GPU memory"}


@dataclass
class Run:
    """One variant with one seed.

    Attributes:
        seed: of the run.
        folder: of the run; `zoo.evaluate` and `zoo.create_model("local-dir:FOLDER/best")` take it.
        value: the metric of the best epoch's weights on the held-out split.
        metrics: all metrics there.
        epochs, best_epoch: as many were trained, and the best of them.
        seconds_per_epoch: of training, without evaluation; the median.
        peak_memory: bytes.
        memory_of: "cuda": torch's tensors on the GPU. "process": high-water mark of the process's resident memory over
            what it held after imports.
        error: why there is no value.
    """

    seed: int
    folder: Path
    value: float | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    best_epoch: int | None = None
    seconds_per_epoch: float | None = None
    peak_memory: int | None = None
    memory_of: str | None = None
    error: str | None = None

    def take(self, record: Mapping[str, Any]) -> None:
        """Take over what the run's record says."""
        self.error = record.get("error")
        if self.error is None:
            for name in ("value", "metrics", "epochs", "best_epoch", "seconds_per_epoch", "peak_memory", "memory_of"):
                setattr(self, name, record[name])
            if self.value is None:
                self.error = f"{record['metric']} has no value on the {record['split']} split"


@dataclass
class Row:
    """One variant.

    Attributes:
        variant: what it is called: the choices in which variants differ.
        parts: slot -> what is in its place, "none" for what the model had.
        params, trainable: parameters, and those that are ever trained.
        runs: one a seed.
    """

    variant: str
    parts: Mapping[str, Any]
    params: int
    trainable: int
    runs: list[Run]

    @property
    def values(self) -> list[float]:
        """The metric of every run that has one."""
        return [run.value for run in self.runs if run.value is not None]

    @property
    def mean(self) -> float | None:
        """Of the values."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the values (of a sample); `None` for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def seconds_per_epoch(self) -> float | None:
        """Of training; the median over the runs."""
        seconds = [run.seconds_per_epoch for run in self.runs if run.seconds_per_epoch is not None]
        return statistics.median(seconds) if seconds else None

    @property
    def peak_memory(self) -> int | None:
        """Bytes; the largest over the runs."""
        return max((run.peak_memory for run in self.runs if run.peak_memory is not None), default=None)

    @property
    def memory_of(self) -> str | None:
        """What `peak_memory` is of: "cuda" or "process"."""
        return next((run.memory_of for run in self.runs if run.memory_of), None)

    @property
    def epochs(self) -> int | None:
        """The most that a run was trained for."""
        return max((run.epochs for run in self.runs if run.epochs is not None), default=None)

    @property
    def error(self) -> str | None:
        """Why runs failed; `None` if none did."""
        errors = [run.error for run in self.runs if run.error]
        if len(errors) in (0, len(self.runs)):
            return errors[0] if errors else None
        return f"{len(errors)} of {len(self.runs)} runs: {errors[0]}"


@dataclass
class Comparison:
    """Variants of a model, side by side. Printed, a table.

    Attributes:
        base, data: what was trained on what.
        metric, split: what `mean` is, and of which split.
        rows: one a variant, in the order in which they were given.
        folder: with comparison.csv, comparison.json, comparison.png and the runs.
        settings: the recipe, the same for all.
    """

    base: str
    data: str
    metric: str
    split: str
    rows: list[Row]
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __str__(self) -> str:
        columns, rows, right = self.table()
        widths = [max(len(row[i]) for row in [columns, *rows]) for i in range(len(columns))]

        def line(cells: list[str]) -> str:
            padded = (
                c.rjust(w) if name in right else c.ljust(w) for c, w, name in zip(cells, widths, columns, strict=True)
            )
            return "  ".join(padded).rstrip()

        return "\n".join([f"{self.base} on {self.data}", "", *map(line, [columns, *rows])])

    def table(self) -> tuple[list[str], list[list[str]], tuple[str, ...]]:
        """Headings, cells and the headings of the columns that hold numbers."""
        memory = _MEMORY.get(next((row.memory_of for row in self.rows if row.memory_of), "process"), "")
        columns = ["variant", f"{self.metric} ({self.split})", "parameters", "trained", "s/epoch", memory, "epochs"]
        rows = [
            [
                row.variant,
                _spread(row),
                f"{row.params:,}",
                f"{row.trainable:,}",
                _number(row.seconds_per_epoch, ".3g"),
                "–" if row.peak_memory is None else f"{row.peak_memory / 2**20:,.0f} MiB",
                _number(row.epochs, "d"),
            ]
            for row in self.rows
        ]
        if any(row.error for row in self.rows):
            columns.append("error")
            for cells, row in zip(rows, self.rows, strict=True):
                cells.append((row.error or "").partition("\n")[0])
        return columns, rows, tuple(columns[1:7])

    def to_dict(self) -> dict[str, Any]:
        """The content of comparison.json."""
        return {
            "format": FORMAT,
            "zoo": __version__,
            "base": self.base,
            "data": self.data,
            "metric": self.metric,
            "split": self.split,
            "rows": [self._row(row) for row in self.rows],
            "settings": dict(self.settings),
        }

    def _row(self, row: Row) -> dict[str, Any]:
        runs = [
            {**{k: v for k, v in vars(run).items() if k != "folder"}, "folder": self._relative(run.folder)}
            for run in row.runs
        ]
        return {**self._flat(row), "parts": dict(row.parts), "runs": runs}

    def _flat(self, row: Row) -> dict[str, Any]:
        return {
            "variant": row.variant,
            "metric": self.metric,
            "split": self.split,
            "mean": row.mean,
            "std": row.std,
            "runs_finished": len(row.values),
            "params": row.params,
            "trainable": row.trainable,
            "seconds_per_epoch": row.seconds_per_epoch,
            "peak_memory": row.peak_memory,
            "memory_of": row.memory_of,
            "epochs": row.epochs,
            "folder": self._relative(self.best_run(row).folder),
            "error": row.error,
        }

    def _relative(self, folder: Path) -> str:
        return folder.relative_to(self.folder).as_posix()

    def best_run(self, row: Row) -> Run:
        """A row's run with the best value; its first, when there is none."""
        done = [run for run in row.runs if run.value is not None]
        sign = 1 if higher_is_better(self.metric) else -1
        return max(done, key=lambda run: sign * (run.value or 0.0)) if done else row.runs[0]

    def save(self) -> None:
        """Write comparison.csv and comparison.json, each whole or not at all."""
        text = io.StringIO()
        flat = [self._flat(row) for row in self.rows]
        writer = csv.DictWriter(text, list(flat[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / "comparison.json", self.to_dict())
        write_text(self.folder / "comparison.csv", text.getvalue())

    def plot(self) -> Path:
        """Draw comparison.png; returns its path.

        Raises:
            MissingExtraError: without matplotlib.
        """
        figure = plots.comparison(
            [
                {
                    "variant": row.variant,
                    "values": row.values,
                    "mean": row.mean,
                    "std": row.std,
                    "params": row.params,
                    "seconds_per_epoch": row.seconds_per_epoch,
                    "peak_memory": row.peak_memory,
                }
                for row in self.rows
            ],
            f"{self.metric} ({self.split})",
            memory="GPU" if any(row.memory_of == CUDA for row in self.rows) else "process",
            title=f"{self.base} on {self.data}",
        )
        return plots.save(figure, self.folder / "comparison.png")


def _spread(row: Row) -> str:
    if row.mean is None:
        return "failed" if row.error else "–"
    return f"{row.mean:.4f}" + (f" ± {row.std:.4f}" if row.std is not None else "")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
