"""Checkpoints: a folder of safetensors and JSON that is either whole or not there. No pickle.

step-00000120/
    model.safetensors    the model's state dict
    ema.safetensors      the averaged model's, when there is one
    optim.safetensors    the tensors of the optimiser's state
    state.json           everything else: position, history, best, options, versions
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.errors import TrainingError
from zoo.files import atomic_folder
from zoo.training.disk import explained_disk, tensor_bytes

FORMAT = 1
_NAME = re.compile(r"step-(\d{8})")


def save_checkpoint(
    folder: Path,
    step: int,
    *,
    model: Mapping[str, Tensor],
    ema: Mapping[str, Tensor] | None,
    optimiser: Mapping[str, Any],
    state: Mapping[str, Any],
    keep_last: int = 2,
) -> Path:
    """Write `folder/step-…` atomically, then remove all but the `keep_last` newest.

    Raises:
        DiskFullError: no space; the earlier checkpoints are all there, and nothing of the new one.
    """
    tensors: dict[str, Tensor] = {}
    skeleton = _pack(optimiser, "", tensors)
    target = folder / f"step-{step:08d}"
    fewer = "lower keep_last, " if len(checkpoints(folder)) > 1 else ""
    remedy = f"Make room, {fewer}or take an out (--out) on another disk"
    with explained_disk(target, tensor_bytes(model, ema, tensors), remedy), atomic_folder(target) as temporary:
        save_tensors(temporary / "model.safetensors", model)
        if ema is not None:
            save_tensors(temporary / "ema.safetensors", ema)
        save_tensors(temporary / "optim.safetensors", tensors)
        whole = {"format": FORMAT, **state, "optimiser": skeleton}
        (temporary / "state.json").write_text(json.dumps(whole, indent=1) + "\n")
    prune(folder, keep_last)
    return target


def prune(folder: Path, keep_last: int) -> None:
    """Remove all but the `keep_last` newest checkpoints."""
    for old in checkpoints(folder)[:-keep_last]:
        shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in `folder`, oldest first."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _NAME.fullmatch(p.name) and (p / "state.json").is_file()]
    return sorted(found, key=lambda p: p.name)


def read_state(path: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        TrainingError: not readable, or written by a newer version.
    """
    try:
        state = json.loads((path / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"cannot read the checkpoint {path}: {error}; remove it to go back to the one before"
        ) from error
    if state.get("format", 0) > FORMAT:
        raise TrainingError(
            f"{path} has checkpoint format {state['format']}, this version reads up to {FORMAT}; upgrade"
        )
    return state


def read_tensors(path: Path) -> dict[str, Tensor]:
    """One of the checkpoint's tensor files.

    Raises:
        TrainingError: missing or damaged.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"cannot read {path}: {error}; remove {path.parent} to go back to the one before"
        ) from error


def read_optimiser(path: Path, skeleton: Any) -> dict[str, Any]:
    """The optimiser's state dict from the checkpoint folder `path`."""
    return _unpack(skeleton, read_tensors(path / "optim.safetensors"))


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors; those that share memory are written each on its own."""
    seen: set[int] = set()
    flat: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        flat[name] = tensor.clone() if storage in seen else tensor
        seen.add(storage)
    save_file(flat, path)


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Replace tensors by references and put them into `tensors`; what is left is JSON."""
    if isinstance(value, Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, Mapping):
        # Items as pairs: an optimiser's keys are whole numbers, which JSON would turn into text.
        return {"items": [[k, _pack(v, f"{name}.{k}" if name else str(k), tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        packed = [_pack(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]
        return {"tuple": packed} if isinstance(value, tuple) else packed
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TrainingError(
        f"the optimiser keeps a {type(value).__name__} at {name!r}, which cannot be stored; use another"
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, tensors) for v in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return tensors[value["tensor"]]
        if "tuple" in value:
            return tuple(_unpack(v, tensors) for v in value["tuple"])
        return {k: _unpack(v, tensors) for k, v in value["items"]}
    return value


def versions() -> dict[str, str]:
    """Versions that the numbers of a run depend on."""
    import accelerate
    import timm

    from zoo._version import __version__

    return {
        "zoo": __version__,
        "torch": str(torch.__version__),
        "timm": timm.__version__,
        "accelerate": accelerate.__version__,
    }
