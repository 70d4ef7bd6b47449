"""What is shown while a run goes on: a bar on a terminal, one line an epoch elsewhere; always on stderr."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """Writes notes, bars and epoch lines of one run.

    Args:
        enabled: False keeps silent.
        epochs: of the run, for the headings.
    """

    #: What is counted, as a bar has it.
    unit = "img"

    def __init__(self, enabled: bool, epochs: int):
        self.enabled, self.epochs = enabled, epochs
        self.terminal = enabled and sys.stderr.isatty()
        self._bar: Any = None
        self._last = ""

    def note(self, text: str) -> None:
        """One line that the user should read."""
        if self.enabled:
            tqdm.write(f"zoo: {text}", file=sys.stderr)

    def start(self, epoch: int, images: int, done: int, what: str = "epoch") -> None:
        """Open the bar of an epoch (counted from 0), with `done` of its images, or bags, behind it."""
        if self.terminal:
            self._bar = tqdm(
                total=images,
                initial=done,
                desc=f"{what} {epoch + 1}/{self.epochs}" if what == "epoch" else what,
                unit=self.unit,
                file=sys.stderr,
                dynamic_ncols=True,
                leave=False,
            )

    def step(self, images: int, loss: float | None, lr: float) -> None:
        """After an update; one that was left out has no loss."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"loss {_number(loss)}, lr {lr:.2g}{self._last}", refresh=False)
            self._bar.update(images)

    def tick(self, images: int) -> None:
        """After a batch of an evaluation."""
        if self._bar is not None:
            self._bar.update(images)

    def epoch(self, row: dict[str, Any], monitor: str, *, best: bool) -> None:
        """After the evaluation of an epoch."""
        self.close()
        value = row.get(f"val_{monitor}")
        shown = f", val {monitor} {value:.4f}" if value is not None else ""
        self._last = shown.replace("val ", "last ")
        if self.enabled:
            speed = next(value for column, value in row.items() if column.endswith("_per_second"))
            part = next((f"{key} {row[key]}" for key in ("phase", "stage") if key in row), "")
            left = row["seconds"] * (self.epochs - row["epoch"])
            text = (
                f"epoch {row['epoch']}/{self.epochs}{part and f', {part}'}: loss {_number(row['train_loss'])}"
                + (f", val loss {row['val_loss']:.4f}" if "val_loss" in row else "")
                + shown
                + (f", ema {row[f'ema_{monitor}']:.4f}" if f"ema_{monitor}" in row else "")
                + f", lr {row['lr']:.2g}, {speed:.0f} {self.unit}/s, {_duration(left)} left"
                + (f", {row['skipped']} updates left out" if row.get("skipped") else "")
                + (f" (best{part and f' of {part}'})" if best else "")
            )
            tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self.started = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self.started


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _duration(seconds: float) -> str:
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
