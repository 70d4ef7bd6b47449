"""Weights as one file or, above a size, as several with an index, in the layout that transformers reads and writes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.files import write_json
from zoo.weights.save import check_tensors, save_safetensors, split_aliases
from zoo.weights.source import INDEX_NAME, SAFE_NAME

MAX_SHARD_SIZE = "5GB"
_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")


def byte_count(size: int | str) -> int:
    """A size in bytes: a number, also as text, or `"500MB"`, `"5GB"` (powers of 1000) or `"4GiB"` (powers of 1024).

    Raises:
        ValueError: no size, or not above 0.
        TypeError: neither a whole number nor a text.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(f"max_shard_size is a number of bytes or a text such as '5GB', got {size!r}")
    count = size
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(?:(-?\d+)|(-?\d+(?:\.\d+)?)\s*([KMGT]?I?B))\s*", size.upper())
        if match is None or (match[3] and match[3] not in _UNITS):
            raise ValueError(
                f"max_shard_size={size!r} is no size: write '500MB', '5GB' or '4GiB', or a number of bytes"
            )
        count = int(match[1]) if match[1] else int(float(match[2]) * _UNITS[match[3]])
    if int(count) <= 0:
        raise ValueError(f"max_shard_size must be above 0, got {size!r}")
    return int(count)


def is_weights_name(name: str) -> bool:
    """Whether a file at the top of a folder is one that `save_sharded` writes: the weights, a shard or the index."""
    return name in (SAFE_NAME, INDEX_NAME) or _SHARD.fullmatch(name) is not None


def plan_shards(tensors: Mapping[str, Tensor], limit: int) -> dict[str, list[str]]:
    """Which tensor goes where: file name -> names of tensors.

    Tensors are taken in the order of their names, and a new file is begun when the next one would take the tensors of
    the present one above `limit` bytes. A tensor that is larger by itself gets a file of its own.
    """
    shards: list[list[str]] = []
    size = 0
    for name in sorted(tensors):
        count = tensors[name].numel() * tensors[name].element_size()
        if not shards or (size + count > limit and size > 0):
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count
    if len(shards) <= 1:
        return {SAFE_NAME: sorted(tensors)}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}


def save_sharded(
    tensors: Mapping[str, Tensor],
    folder: str | os.PathLike[str],
    *,
    max_shard_size: int | str = MAX_SHARD_SIZE,
    check_finite: bool = True,
) -> dict[str, dict[str, Any]]:
    """Write tensors to a folder: `model.safetensors`, or shards and `model.safetensors.index.json`.

    Each file is written as by `save_safetensors`, the index last. A name that shares the tensor of another is recorded
    in the header of the shard that holds the tensor, and not in the index.

    Args:
        tensors: name -> tensor, on any device.
        folder: where to; other files in it stay.
        max_shard_size: bytes of tensors that a file may hold, as a number or as `"5GB"`; a larger tensor gets a file
            of its own.
        check_finite: refuse NaN and infinity, before anything is written.

    Returns:
        file name -> {"sha256", "size"} of the weights files.

    Raises:
        ValueError, TypeError: as `byte_count`.
        WeightsError: as `save_safetensors`.
    """
    folder = Path(folder)
    limit = byte_count(max_shard_size)
    check_tensors(tensors, check_finite=check_finite)
    kept, aliases = split_aliases(tensors)
    plan = plan_shards(kept, limit)
    files: dict[str, dict[str, Any]] = {}
    for file, names in plan.items():
        part = {name: kept[name] for name in names}
        part |= {alias: tensors[alias] for alias, name in aliases.items() if name in part}
        digest = save_safetensors(part, folder / file, check_finite=False)
        files[file] = {"sha256": digest, "size": (folder / file).stat().st_size}
    if len(plan) > 1:
        total = sum(tensor.numel() * tensor.element_size() for tensor in kept.values())
        homes = {name: file for file, names in plan.items() for name in names}
        write_json(folder / INDEX_NAME, {"metadata": {"total_size": total}, "weight_map": homes})
    return files
