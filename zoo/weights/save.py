"""Writing safetensors: whole files only, tensors as they are, aliases by the rule of `safetensors.torch.save_model`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import atomic_path, sha256_file
from zoo.weights.verify import first_non_finite, non_finite


def _area(tensor: Tensor) -> tuple[Any, int, int] | None:
    """Device, first byte and one past the last byte of a tensor's memory; None when it owns none."""
    if tensor.numel() == 0 or tensor.device.type == "meta":
        return None
    start = tensor.data_ptr()
    reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.device, start, start + (reach + 1) * tensor.element_size()


def split_aliases(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Separate names that show the same tensor.

    Tensors with the same memory, shape and strides are one tensor under several names: the first name in sorted
    order keeps it (the rule of `safetensors.torch.save_model`), the others become aliases. Tensors that merely
    overlap are written in full, each under its own name.

    Returns:
        The tensors to write, and alias -> name kept.
    """
    seen: dict[Any, str] = {}
    aliases: dict[str, str] = {}
    for name in sorted(tensors):
        tensor = tensors[name]
        area = _area(tensor)
        key = area and (*area, tensor.dtype, tuple(tensor.shape), tensor.stride())
        if key is None or key not in seen:
            seen[key] = name
        else:
            aliases[name] = seen[key]
    return {name: tensor for name, tensor in tensors.items() if name not in aliases}, aliases


def save_safetensors(
    tensors: Mapping[str, Tensor],
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, str] | None = None,
    check_finite: bool = True,
) -> str:
    """Write tensors to a safetensors file, atomically.

    Non-contiguous tensors are written contiguous (the file knows no memory format). Names that share a tensor are
    written once; each alias is recorded in the file's metadata as `alias: name kept`, which `load_weights` restores.

    Args:
        tensors: name -> tensor, on any device.
        path: target; its folder is created. Either the whole new file is there afterwards, or the old one.
        metadata: texts for the header, beside `{"format": "pt"}`.
        check_finite: refuse NaN and infinity.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        NonFiniteWeightsError: a tensor holds NaN or infinity.
        WeightsError: a tensor has no values (meta device) or is not dense.
    """
    from safetensors.torch import save_file

    for name, tensor in tensors.items():
        if tensor.device.type == "meta" or tensor.layout != torch.strided:
            what = "has no values (meta device)" if tensor.device.type == "meta" else f"is {tensor.layout}, not dense"
            raise WeightsError(f"tensor {name!r} {what} and cannot be written to {os.fspath(path)}")
    kept, aliases = split_aliases(tensors)
    if check_finite and (bad := first_non_finite(kept)):
        raise non_finite(bad, "the model to be saved")
    clash = sorted({*aliases, *(metadata or {})} & {"format"}) + sorted(aliases.keys() & (metadata or {}).keys())
    if clash:
        raise WeightsError(f"{clash[0]!r} is the name of a shared tensor and of a metadata entry; rename the entry")
    header = {"format": "pt", **aliases, **(metadata or {})}
    dense = {name: _own_memory(tensor) for name, tensor in kept.items()}
    path = Path(path)
    with atomic_path(path) as temporary:
        save_file(dense, str(temporary), metadata=header)
    return sha256_file(path)


def _own_memory(tensor: Tensor) -> Tensor:
    """The tensor as safetensors takes it: contiguous, and alone in its storage when it overlaps another."""
    tensor = tensor.detach().to("cpu").contiguous()
    alone = tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
    return tensor if alone else tensor.clone()
