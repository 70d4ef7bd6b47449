"""Experiment trackers: the numbers of each epoch, sent through Accelerate's own trackers."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import MissingExtraError, TrainingError
from zoo.naming import did_you_mean
from zoo.training.progress import Progress

if TYPE_CHECKING:
    from accelerate import Accelerator

TRACKERS = ("tensorboard", "trackio", "wandb")
#: Where trackers with projects put the runs.
_PROJECT = "zoo"


def check_trackers(tracker: Any) -> list[Any]:
    """The trackers that were asked for: names of `TRACKERS`, and Accelerate's GeneralTracker objects.

    Args:
        tracker: None, one of them, or several.

    Raises:
        ValueError: another name.
        TypeError: another object.
        MissingExtraError: a tracker whose package is not installed.
    """
    if tracker is None:
        return []
    from accelerate.tracking import GeneralTracker

    single = isinstance(tracker, str | GeneralTracker) or not isinstance(tracker, Iterable)
    chosen: list[Any] = [tracker] if single else list(tracker)  # type: ignore[arg-type] - what is no list is single
    for one in chosen:
        if isinstance(one, GeneralTracker):
            continue
        if not isinstance(one, str):
            raise TypeError(
                f"tracker must be None, {', '.join(map(repr, TRACKERS))}, a GeneralTracker of Accelerate, or a list of "
                f"these; got a {type(one).__name__}"
            )
        if one not in TRACKERS:
            raise ValueError(
                f"tracker must be None or one of {', '.join(TRACKERS)} (or several), got {one!r}"
                f"{did_you_mean(one, TRACKERS)}"
            )
        if importlib.util.find_spec(one) is None:
            raise MissingExtraError(f"tracker={one!r}", one, "track")
    return list(dict.fromkeys(chosen))


class Tracking:
    """The trackers of one run.

    Nothing leaves the machine unless the user has said so to the tracker itself: TensorBoard writes into the run
    folder, trackio into its own folder on this machine, and wandb runs offline as long as WANDB_MODE is not set.

    Args:
        chosen: of `check_trackers`.
        accelerator: of the run.
        folder: of the run.
        identity: the same for all parts of a run that was cut off.
        settings: stored with the run.
        progress: told of a tracker that fails.

    Raises:
        TrainingError: a tracker that cannot begin.
    """

    def __init__(
        self,
        chosen: list[Any],
        accelerator: Accelerator,
        folder: Path,
        identity: str,
        settings: Mapping[str, Any],
        progress: Progress,
    ):
        self.progress, self.trackers = progress, []
        if not chosen:
            return
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, GeneralTracker

        options = {name: _options(name, folder, identity, progress) for name in chosen if isinstance(name, str)}
        made = []
        for one in chosen:
            if isinstance(one, GeneralTracker):
                made.append(one)
            elif one == "tensorboard":
                made.append(LOGGER_TYPE_TO_CLASS[one]("tensorboard", str(folder)))
            else:
                made.append(LOGGER_TYPE_TO_CLASS[one](options[one].pop("project"), **options[one]))
        accelerator.log_with = made
        try:
            with redirect_stdout(sys.stderr):  # stdout is for results
                accelerator.init_trackers(_PROJECT, config=_plain(settings))
        except Exception as error:  # whatever a tracker raises
            names = ", ".join(_name(one) for one in made)
            raise TrainingError(f"a tracker ({names}) could not begin: {_short(error)}") from error
        self.trackers = list(accelerator.trackers)

    def log(self, row: Mapping[str, Any]) -> None:
        """Send the numbers of an epoch; a tracker that fails is left out from then on."""
        numbers = {
            name: value
            for name, value in row.items()
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "epoch"
        }
        for tracker in list(self.trackers):
            try:
                tracker.log(numbers, step=row["epoch"])
            except Exception as error:  # training is worth more than its record
                self.trackers.remove(tracker)
                self.progress.note(
                    f"the tracker {_name(tracker)} failed ({_short(error)}); the run goes on without it, and "
                    "history.csv has all numbers"
                )

    def finish(self) -> None:
        """Close the trackers."""
        # Not Accelerator.end_training, which would also end the process group.
        for tracker in self.trackers:
            try:
                with redirect_stdout(sys.stderr):
                    _finish(tracker)
            except Exception as error:
                self.progress.note(f"the tracker {_name(tracker)} could not be closed ({_short(error)})")
        self.trackers = []


def _options(name: str, folder: Path, identity: str, progress: Progress) -> dict[str, Any]:
    """What a tracker begins with."""
    if name == "wandb":
        import wandb

        mode = os.environ.get("WANDB_MODE") or "offline"
        if mode == "offline":
            progress.note(f"wandb keeps the run in {folder / 'wandb'}; with WANDB_MODE=online it would send it")
        folder.mkdir(parents=True, exist_ok=True)
        return {
            "project": os.environ.get("WANDB_PROJECT") or _PROJECT,
            "mode": mode,
            "dir": str(folder),
            "id": identity,
            "name": folder.name,
            "resume": "allow",
            "settings": wandb.Settings(console="off", silent=not progress.enabled),
        }
    if name == "trackio":
        import trackio

        wanted = {"name": f"{folder.name}-{identity}", "resume": "allow", "embed": False}
        wanted |= {"auto_log_cpu": False, "auto_log_gpu": False}
        taken = inspect.signature(trackio.init).parameters
        return {"project": _PROJECT, **{key: value for key, value in wanted.items() if key in taken}}
    return {}


def _finish(tracker: Any) -> None:
    if _name(tracker) == "trackio" and hasattr(tracker, "run"):
        import trackio

        trackio.finish()  # unlike the run's own method, it is not called once more when the process ends
    else:
        tracker.finish()


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as every tracker takes them: numbers and text."""
    return {
        name: value if isinstance(value, str | int | float) else json.dumps(value, default=str)
        for name, value in settings.items()
        if value is not None
    }


def _name(tracker: Any) -> str:
    return str(getattr(tracker, "name", type(tracker).__name__))


def _short(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
