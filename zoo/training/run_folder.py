"""What a run leaves on disk.

runs/mine/
    args.json        settings, data, versions
    history.csv      one row an epoch; history.json the same
    metrics.json     the final measurement
    curves.png       loss, metric, learning rate; confusion.png
    best/            the best model: zoo.create_model("local-dir:runs/mine/best")
    checkpoints/     for resuming
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

from torch import nn

from zoo.errors import ConfigError, MismatchError
from zoo.files import atomic_folder, write_json, write_text
from zoo.training.checkpoint import checkpoints, read_state, save_tensors
from zoo.training.disk import explained_disk, tensor_bytes
from zoo.training.options import Options
from zoo.training.out_folder import is_free, is_run


def choose_folder(out: str | os.PathLike[str] | None, model: str, data: str, options: Options) -> Path:
    """The folder of a run.

    Without `out`: `runs/MODEL-DATA`, or with -2, -3, … appended when that holds another run, a finished one or other
    files.
    """
    if out is not None:
        return Path(out).expanduser()
    number = 1
    while True:
        folder = Path("runs") / f"{safe_name(model)}-{safe_name(data)}{'' if number == 1 else f'-{number}'}"
        if is_free(folder):
            return folder
        saved = checkpoints(folder / "checkpoints") if is_run(folder) else []
        if saved:
            state = read_state(saved[-1])
            if not state["position"]["finished"] and not options.same_run(state["options"]):
                return folder
        number += 1


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """history.csv and history.json."""
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    with explained_disk(folder / "history.csv", len(text.getvalue())):
        write_text(folder / "history.csv", text.getvalue())
        write_json(folder / "history.json", history)


def save_best(
    model: nn.Module,
    folder: Path,
    *,
    metrics: dict[str, Any] | None,
    train_data: dict[str, Any],
    training: dict[str, Any],
    verify: bool = False,
) -> str | None:
    """Replace best/ by this model, whole or not at all.

    A model that came from a name is written with its config.json; any other as its weights alone.

    Args:
        metrics, train_data, training: for the config.json, as in `zoo.save_pretrained`.
        verify: load the result again and compare.

    Returns:
        Why best/ holds the weights alone, or None.

    Raises:
        DiskFullError: no space; best/ is what it was.
    """
    from zoo.publish import save_pretrained

    facts: dict[str, Any] = {"metrics": metrics, "train_data": train_data, "training": training}
    reason = "the model was not made by a registered name"
    if describable(model):
        # Hours of training are not lost to a model that cannot be described.
        try:
            with explained_disk(folder / "best", tensor_bytes(model.state_dict())):
                save_pretrained(model, folder / "best", verify=verify, **facts)
            return None
        except (ConfigError, MismatchError) as error:
            reason = str(error)
    state = model.state_dict()
    with explained_disk(folder / "best", tensor_bytes(state)), atomic_folder(folder / "best") as temporary:
        save_tensors(temporary / "model.safetensors", state)
    return f"{folder / 'best'} holds the weights alone, for zoo.load_weights: {reason}"


def load_best(model: nn.Module, folder: Path) -> None:
    """Load the weights of best/ into `model`."""
    from zoo.weights import load_weights

    load_weights(model, folder / "best")


def describable(model: nn.Module) -> bool:
    """Whether a config.json can rebuild the model: it was made by a registered name."""
    cfg = getattr(model, "pretrained_cfg", None)
    return isinstance(cfg, dict) and bool(getattr(model, "zoo_name", None) or cfg.get("architecture"))


def safe_name(name: str) -> str:
    """A name as a part of a folder's."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in name).strip("-.") or "model"
