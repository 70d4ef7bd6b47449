"""The weights of one path, out of those of a whole stitched network: nothing else of the file is read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.errors import MismatchError
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.stitched import Stitched
from zoo.weights.meta import build_with_weights
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.source import INDEX_NAME, Checkpoint, find_weights, open_checkpoint, read_index
from zoo.weights.state import unwrap
from zoo.weights.verify import first_non_finite, non_finite


def load_path(
    build: Callable[[], nn.Module], source: Any, *, device: Any = None, adapt: tuple[str, ...] = (), **options: Any
) -> Stitched:
    """The current path of a stitched network as a network of its own, with its weights.

    Of a safetensors file, or of shards, the tensors of the path alone are read, and no sum over the whole is compared;
    other files are read whole. Low-rank products are merged.

    Args:
        build: makes the stitched network, on its path, on torch's current default device.
        source: as of `open_checkpoint`.
        device: where the path shall be.
        adapt: as of `load_weights`.
        **options: of `open_checkpoint`.

    Raises:
        TypeError: another model.
        MismatchError: the weights lack a tensor of the path, or are of another shape.
        WeightsError: as `open_checkpoint`.
    """

    def alone() -> tuple[StitchNet, Stitched]:
        net = build()
        if not isinstance(net, StitchNet):
            raise TypeError(f"standalone=True takes one path out of a stitched network, a {type(net).__name__} is none")
        return net, net.export(merge=False)

    with torch.device("meta"):
        names = _names_of(*alone())
    whole = _open(source, set(names.values()), options)
    tensors = {}
    for here, there in names.items():
        kept = whole.metadata.get(there, there)  # of names that share a tensor one has it
        if kept not in whole.tensors:
            raise MismatchError(
                f"{whole.origin} has no {there}, which the path runs as {here}; of the authors' own files, "
                "convert it first (zoo convert)"
            )
        tensors[here] = whole.tensors[kept]
    if bad := first_non_finite(tensors):
        raise non_finite(bad, whole.origin)
    part = Checkpoint(tensors, whole.origin, config=whole.config, source=whole.source)
    made, _ = build_with_weights(lambda: alone()[1], part, device=device, adapt=adapt)
    assert isinstance(made, Stitched)
    if whole.source is not None:
        made.zoo_source = whole.source  # type: ignore[assignment]
    if made.lora_rank:
        made.merge()
    return made


def _names_of(net: StitchNet, made: Stitched) -> dict[str, str]:
    """Names of the path's tensors -> names that they have in the whole network."""
    config = net.config_of(net.stitch)
    places = {id(module): name for name, module in net.named_modules()}
    parts = [
        (here, f"anchors.{a}.{there}")
        for a, renamed in zip(config.anchors, made._renamed, strict=True)
        for there, here in renamed.items()
    ]
    parts += [(f"stitch.{i}", places[id(net.stitch_layer(join))]) for i, join in enumerate(config.joins)]
    found = {}
    for name in made.state_dict():
        here, there = next(part for part in parts if name == part[0] or name.startswith(f"{part[0]}."))
        found[name] = there + name.removeprefix(here)
    return found


def _open(source: Any, wanted: set[str], options: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint of which no tensor has been looked at yet, where its format allows it."""
    if not isinstance(source, str | os.PathLike):
        return open_checkpoint(source, **options)
    path = Path(os.fspath(source).removeprefix("local-dir:"))
    if path.is_dir():
        (path,) = find_weights(path, str(path), allow_pickle=options.get("allow_pickle", False))
    if path.name == INDEX_NAME:
        homes = read_index(path, str(path.parent))
        files = sorted({home for name, home in homes.items() if name in wanted})
        shards = [SafetensorsFile(path.parent / name) for name in files]
    elif path.is_file() and path.suffix == ".safetensors":
        shards = [SafetensorsFile(path)]
    else:
        return open_checkpoint(source, **options)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        tensors |= unwrap(shard.load(), str(shard.path), use_ema=False)
        metadata |= shard.metadata
    return Checkpoint(tensors, str(path), metadata=metadata)
