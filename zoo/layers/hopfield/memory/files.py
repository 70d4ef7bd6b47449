"""Stored patterns that stay in their file."""

from pathlib import Path

import torch
from torch import Tensor

from zoo.naming import did_you_mean


def mapped_patterns(path: str | Path, key: str | None = None) -> Tensor:
    """A matrix of patterns mapped from a file: pages are read when they are used, and none is ever written back.

    Args:
        path: a ".npy" file of a matrix, or a ".safetensors" file.
        key: name of the tensor in a ".safetensors" file; not needed if it holds one alone.

    Returns:
        (N, dim) in the dtype of the file, on the CPU.

    Raises:
        ValueError: another kind of file, no such key, not a matrix, a dtype or byte order that torch does not have.
        FileNotFoundError: no such file.
    """
    path = Path(path)
    if path.suffix == ".npy":
        import numpy

        # "c": changes would stay in memory. Torch warns of arrays that cannot be written.
        array = numpy.load(path, mmap_mode="c", allow_pickle=False)
        try:
            patterns = torch.from_numpy(array)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{path.name} holds {array.dtype!r}, which torch cannot map: save it in the byte order of this machine "
                "and a dtype such as float32"
            ) from error
    elif path.suffix == ".safetensors":
        patterns = _tensor_of(path, key)
    else:
        raise ValueError(f"patterns can be mapped from .npy and .safetensors files, got {path.name!r}")
    if patterns.dim() != 2:
        raise ValueError(f"{path.name} must hold a matrix (patterns, dim), got {tuple(patterns.shape)}")
    return patterns


def _tensor_of(path: Path, key: str | None) -> Tensor:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        names = list(file.keys())
        if key is None and len(names) == 1:
            key = names[0]
        if key not in names:
            hint = did_you_mean(key or "", names)
            raise ValueError(f"key must name a tensor of {path.name} ({', '.join(names)}), got {key!r}{hint}")
        return file.get_tensor(key)
