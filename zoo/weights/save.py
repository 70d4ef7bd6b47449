"""Writing safetensors: whole files only, tensors as they are, aliases by the rule of `safetensors.torch.save_model`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.errors import WeightsError
from zoo.files import atomic_folder, atomic_path
from zoo.weights.safetensors_file import ALIGNMENT, DTYPES
from zoo.weights.verify import first_non_finite, non_finite

_TYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """`zoo.files.atomic_folder`, with an error that names the folder asked for when it cannot be made."""
    with ExitStack() as stack:
        try:
            temporary = stack.enter_context(atomic_folder(path))
        except OSError as error:
            raise type(error)(
                f"{os.fspath(path)} cannot be written ({error.strerror or error}): choose another folder"
            ) from error
        yield temporary


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
        key = area and (*area, tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.is_conj(), tensor.is_neg())
        if key is None or key not in seen:
            seen[key] = name
        else:
            aliases[name] = seen[key]
    return {name: tensor for name, tensor in tensors.items() if name not in aliases}, aliases


def check_tensors(tensors: Mapping[str, Tensor], *, check_finite: bool = True) -> None:
    """Refuse what no file can hold; errors as in `save_safetensors`."""
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise WeightsError(
                f"tensor {name!r} has no values (meta device) and cannot be saved: load the weights first "
                "(zoo.load_weights); of a stitched network whose other paths offload_unused() let go, net.export() can "
                "be saved as well"
            )
        if tensor.layout != torch.strided or tensor.dtype not in _TYPE_NAMES:
            raise WeightsError(f"tensor {name!r} is {tensor.layout} {tensor.dtype} and cannot be saved")
    kept = {name: tensor.detach().resolve_conj() for name, tensor in split_aliases(tensors)[0].items()}
    if check_finite and (bad := first_non_finite(kept)):
        raise non_finite(bad, "the model to be saved")


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
    Equal tensors give equal bytes. Tensors on other devices pass through host memory one at a time.

    Args:
        tensors: name -> tensor, on any device.
        path: target; its folder is created. Either the whole new file is there afterwards, or the old one.
        metadata: texts for the header, beside `{"format": "pt"}`.
        check_finite: refuse NaN and infinity.

    Returns:
        SHA-256 of the file, in hex.

    Raises:
        NonFiniteWeightsError: a tensor holds NaN or infinity.
        WeightsError: a tensor has no values (meta device), is not dense, or has a type that the format does not know.
    """
    check_tensors(tensors, check_finite=check_finite)
    kept, aliases = split_aliases(tensors)
    texts = {"format": "pt", **(metadata or {})}
    if clash := sorted(aliases.keys() & texts.keys()):
        raise WeightsError(f"{clash[0]!r} names both a shared tensor and a metadata entry; rename the entry")
    order = sorted(kept, key=lambda name: _place(name, kept[name]))
    header = _header(kept, order, {**aliases, **texts})
    hasher = hashlib.sha256(header)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(header)
        for name in order:
            values = kept[name].detach().to("cpu").resolve_conj().resolve_neg().contiguous()
            raw = values.reshape(-1).view(torch.uint8).numpy().data
            hasher.update(raw)
            file.write(raw)
    return hasher.hexdigest()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _place(name: str, tensor: Tensor) -> tuple[bool, int, str]:
    """Order in the file: whole multiples of the alignment first, so that all of them are aligned; then by item size."""
    ragged = _bytes(tensor) % ALIGNMENT != 0
    return ragged, -tensor.element_size() if ragged else 0, name


def _header(tensors: Mapping[str, Tensor], order: list[str], texts: Mapping[str, str]) -> bytes:
    content: dict[str, Any] = {"__metadata__": dict(sorted(texts.items()))}
    start = 0
    for name in order:
        tensor = tensors[name]
        stop = start + _bytes(tensor)
        content[name] = {
            "dtype": _TYPE_NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
