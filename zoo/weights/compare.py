"""Two models, compared bit for bit: the proof that what was saved is what was trained."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import MismatchError
from zoo.layers.modes import evaluating
from zoo.models.data_config import data_config


def require_same(model: nn.Module, again: nn.Module) -> None:
    """Compare a model with the one loaded from what was saved of it: every tensor, and the output for a fixed image.

    Args:
        model: the original; its training flags are kept.
        again: the loaded one, on the CPU; moved to the original's device, type and memory format.

    Raises:
        MismatchError: says which tensor differs, or that the output does.
    """
    require_same_tensors(model, again)
    theirs, ours = again.state_dict(), model.state_dict()
    for name, value in ours.items():
        if theirs[name].shape != value.shape or not torch.equal(theirs[name].to(value.dtype), value.detach().to("cpu")):
            raise MismatchError(_not_rebuilt(f"tensor {name!r} differs"))
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    first = next(model.parameters(), None)
    if size is None or first is None:
        return
    _convert(again, model)
    if _is_channels_last(model):
        again.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # whether the statistics are real makes no difference here
        shape = data_config(model)["input_size"]
    image = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0)).to(first)
    expected, real = _output(model, image), _output(again, image)
    if not _equal(expected, real):
        # The original's memory may be laid out differently, which alone can change a last bit: ask a fresh copy.
        expected = _output(copy.deepcopy(model), image)
    if not _equal(expected, real):
        raise MismatchError(_not_rebuilt("its tensors are equal, but its output is not"))


def require_same_tensors(model: nn.Module, again: nn.Module) -> None:
    """Compare names and shapes of the tensors of a model with those of the one that its arguments build.

    Raises:
        MismatchError: names the tensors that only one of them has, or that have another shape.
    """
    ours = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in again.state_dict().items()}
    parts = []
    if extra := [name for name in ours if name not in theirs]:
        parts.append(f"its arguments build no {_some(extra)}")
    if lost := [name for name in theirs if name not in ours]:
        parts.append(f"its arguments build {_some(lost)} too")
    if other := [f"{n} as {theirs[n]}, not {ours[n]}" for n in ours if theirs.get(n, ours[n]) != ours[n]]:
        parts.append(f"its arguments build {_some(other)}")
    if parts:
        raise MismatchError(_not_rebuilt("; ".join(parts)))


def _convert(again: nn.Module, model: nn.Module) -> None:
    """Bring a loaded model, in float32 on the CPU, to the types and the device of the original.

    Tensors are paired by name: one that the original has under two names may be two in the loaded model.
    """
    originals = {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}
    with torch.no_grad():
        for name, loaded in (*again.named_parameters(), *again.named_buffers()):
            if (original := originals.get(name)) is not None:
                loaded.data = loaded.to(original)


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _not_rebuilt(what: str) -> str:
    return (
        f"the saved model, loaded again, is not the model: {what}. Something was changed after it was made that its "
        f"constructor's arguments do not tell (a module added or replaced, say); make the change part of a registered "
        f"model"
    )


def _is_channels_last(model: nn.Module) -> bool:
    return any(
        p.ndim == 4 and p.is_contiguous(memory_format=torch.channels_last) and not p.is_contiguous()
        for p in model.parameters()
    )


def _output(model: nn.Module, image: Tensor) -> Any:
    devices = [image.device] if image.device.type == "cuda" else []
    with evaluating(model), torch.no_grad(), torch.random.fork_rng(devices=devices), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # noise is not in the range of images
        torch.manual_seed(0)  # a model may draw, as a circuit that is measured does
        return model(image)


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    return True
