"""Weights as one file or, above a size, as several with an index, in the layout that transformers reads and writes."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.files import write_json
from zoo.sizes import byte_count
from zoo.weights.save import check_tensors, save_safetensors, split_aliases
from zoo.weights.source import INDEX_NAME, SAFE_NAME

MAX_SHARD_SIZE = "5GB"
_SHARD = re.compile(r"model-\d{5,}-of-\d{5,}\.safetensors")


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
    limit = byte_count(max_shard_size, "max_shard_size")
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
