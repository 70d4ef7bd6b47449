"""How long every path of a stitched network takes: each piece is timed once on the device, and paths add up theirs."""

import dataclasses
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zoo.device import check_device
from zoo.models.placed import example_of, placed_copy
from zoo.models.stitching import path as paths
from zoo.models.stitching.anchors import Anchor, Piece, anchor_of
from zoo.models.stitching.checks import no_stitched_network
from zoo.models.stitching.costs import asked_size, sizes_of
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.path import Join, PathStep

_WARM_UP = 3


@dataclasses.dataclass(frozen=True)
class StitchProfile:
    """Times of the pieces of a stitched network.

    Attributes:
        device: name of what they were measured on.
        dtype: of the weights and images, such as "float32".
        batch_size: images in a forward pass.
        img_size: (height, width) of theirs.
        threads: of the processor.
        repeats: forward passes; times are their medians.
        milliseconds: of every piece and stitching layer, by the names of `piece_key`.
        params: parameters of each.
    """

    device: str
    dtype: str
    batch_size: int
    img_size: tuple[int, int]
    threads: int
    repeats: int
    milliseconds: Mapping[str, float]
    params: Mapping[str, int]

    def latency(self, net: Any) -> dict[int, float]:
        """Milliseconds of a forward pass along every path of a network, by number of path.

        Raises:
            TypeError: no stitched network.
            ValueError: a network of other pieces.
        """
        if not isinstance(net, StitchNet):
            raise no_stitched_network(net)
        self._check(net)
        return {
            config.id: sum(self._time_of(step) for step in paths.plan(config, net._anchors, net.stitch_norm))
            for config in net._configs
        }

    def use_for(self, net: Any) -> None:
        """Let a network choose by these times: `net.stitches` and `net.set_budget(latency_ms=...)`.

        Raises:
            TypeError: no stitched network.
            ValueError: a network of other pieces, or for images of another size.
        """
        net.latency = self.latency(net)

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(
            {**dataclasses.asdict(self), "milliseconds": dict(self.milliseconds), "params": dict(self.params)}, indent=1
        )

    @classmethod
    def from_json(cls, text: str) -> "StitchProfile":
        """A profile from `to_json`.

        Raises:
            ValueError: no JSON, or not of a profile.
        """
        try:
            row = json.loads(text)
        except (ValueError, TypeError):
            row = text
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(row, dict) or set(row) != fields:
            raise ValueError(f"a profile is a JSON object of {', '.join(sorted(fields))}; got {str(row)[:80]!r}")
        return cls(**{**row, "img_size": tuple(row["img_size"])})

    def _time_of(self, step: PathStep) -> float:
        return self.milliseconds[piece_key(step.anchor, step.piece) if step.piece is not None else layer_key(step.join)]

    def _check(self, net: StitchNet) -> None:
        """Refuse a network of other pieces."""
        of = "this profile is of another network"
        own = _sizes_of(net)
        if missing := next((key for key in own if key not in self.milliseconds), None):
            raise ValueError(f"{of}: it has no time of {missing}")
        for key, count in own.items():
            if self.params.get(key) != count:
                raise ValueError(f"{of}: {key} has {self.params.get(key)} parameters in it, {count} here")
        if other := next((key for key in self.milliseconds if key not in own), None):
            raise ValueError(f"{of}: it has a time of {other}, which is not here")
        sizes = [anchor.img_size for anchor in net._anchors if anchor.img_size]
        if sizes and sizes[0] != self.img_size:
            raise ValueError(f"this profile is for images of {self.img_size}, the network takes those of {sizes[0]}")


def piece_key(anchor: int, piece: Piece) -> str:
    """Name of a piece in a profile, such as "0 block 2.1"; the anchor, what it is, stage and number."""
    return f"{anchor} {piece.kind} {piece.stage}.{piece.index}"


def _sizes_of(net: StitchNet) -> dict[str, int]:
    """Parameters of everything that is timed, by its name."""
    found: dict[str, int] = {}
    for a, anchor in enumerate(net._anchors):
        for piece in anchor.walk():
            found[piece_key(a, piece)] = sum(sizes_of(anchor, piece).values())
    for join in {join for config in net._configs for join in config.joins}:
        found[layer_key(join)] = sum(p.numel() for p in net.stitch_layer(join).parameters())
    return found


def layer_key(join: Join | None) -> str:
    """Name of a stitching layer in a profile, such as "0>1 layer 2.1"; the anchors, stage and number."""
    stage, front, end, layer = join or (None, 0, 0, 0)
    return f"{front}>{end} layer {stage or 0}.{layer}"


@torch.no_grad()
def profile_stitches(
    net: Any,
    device: torch.device | str | None = None,
    batch_size: int = 1,
    dtype: Any = None,
    *,
    repeats: int = 20,
    img_size: Any = None,
) -> StitchProfile:
    """Time every piece of a stitched network, and let it choose by that: `net.set_budget(latency_ms=...)`.

    All anchors run from their images to their classes, in turn and in evaluation mode; the network stays as it is.

    Args:
        net: the network.
        device: to measure on; where the network is by default.
        batch_size: images in a forward pass, which latencies are of.
        dtype: of weights and images, such as torch.bfloat16; that of the network by default.
        repeats: forward passes of every anchor; times are their medians.
        img_size: of the images, one number or (height, width); that of the network by default.

    Raises:
        TypeError: no stitched network, or no floating type.
        ValueError: numbers below 1, a size of images that is not known or that the network does not take, no such
            device, or a network without values.
    """
    if not isinstance(net, StitchNet):
        raise no_stitched_network(net)
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating type such as torch.bfloat16, got {dtype!r}")
    check_device(device)
    for name, number in (("batch_size", batch_size), ("repeats", repeats)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            raise ValueError(f"{name} must be 1 or more, got {number!r}")
    size = net.img_size if img_size is None else asked_size(net._anchors, img_size)
    if size is None:
        raise ValueError("the anchors say no size of images to measure with: give img_size=(height, width)")
    parts = [placed_copy(part, device, dtype) for part in (*net.anchors, net.stitch_layers)]
    example = example_of(parts[0], (batch_size, net.in_chans, size[0], size[1]))
    if example.is_meta or any(p.is_meta for part in parts for p in part.parameters()):
        raise ValueError('a network on the device "meta" has no values to be run: load weights (zoo.load_weights)')
    layers = _layers_behind(net, parts[-1])
    steps = [list(_steps(a, anchor_of(part), layers)) for a, part in enumerate(parts[:-1])]
    times: dict[str, list[float]] = {}
    for turn in range(_WARM_UP + repeats):
        for own in steps:
            for key, spent in _timed(own, example).items():
                if turn >= _WARM_UP:
                    times.setdefault(key, []).append(spent)
    found = StitchProfile(
        device=_name_of(example.device),
        dtype=str(example.dtype).removeprefix("torch."),
        batch_size=batch_size,
        img_size=(size[0], size[1]),
        threads=torch.get_num_threads(),
        repeats=repeats,
        milliseconds={key: statistics.median(spent) for key, spent in times.items()},
        params=_sizes_of(net),
    )
    found.use_for(net)
    return found


#: What is timed: its name, what runs, and whether what comes next takes its result.
_Step = tuple[str, Callable[[Tensor], Tensor], bool]


def _layers_behind(net: StitchNet, copied: nn.Module) -> dict[tuple[int, Piece], dict[str, Any]]:
    """For the blocks that stitching layers follow, these; a layer behind several blocks follows the first alone."""
    place = {id(module): copy for module, copy in zip(net.stitch_layers.modules(), copied.modules(), strict=True)}
    found: dict[tuple[int, Piece], dict[str, Any]] = {}
    seen: set[Join] = set()
    for config in net._configs:
        for join, (front, _) in zip(config.joins, config.cuts, strict=True):
            if join not in seen:
                seen.add(join)
                block = join[1], Piece("block", join[0] or 0, front)
                found.setdefault(block, {})[layer_key(join)] = place[id(net.stitch_layer(join))]
    return found


def _steps(number: int, anchor: Anchor, layers: Mapping[tuple[int, Piece], Mapping[str, Any]]) -> Iterator[_Step]:
    for piece in anchor.walk():
        yield piece_key(number, piece), anchor.piece(piece), True
        for key, layer in layers.get((number, piece), {}).items():
            yield key, layer, False


def _timed(steps: Sequence[_Step], x: Tensor) -> dict[str, float]:
    """Milliseconds of every step of one forward pass."""
    marks = [_mark(x.device)]
    for _, run, leads_on in steps:
        y = run(x)
        marks.append(_mark(x.device))
        x = y if leads_on else x
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
    return {key: _between(*marks[i : i + 2]) for i, (key, _, _) in enumerate(steps)}


def _mark(device: torch.device) -> Any:
    """This moment: on a GPU when it gets here, not when it is asked to."""
    if device.type == "cuda":
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event
    if device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _between(begin: Any, end: Any) -> float:
    return begin.elapsed_time(end) if isinstance(begin, torch.cuda.Event) else 1e3 * (end - begin)


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
