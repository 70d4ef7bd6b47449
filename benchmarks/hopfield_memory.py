"""Retrieval from a large memory: read chunk by chunk, against the association matrices of the reference path.

`python -m benchmarks.hopfield_memory` prints two Markdown tables.
"""

import tempfile
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import Job, Workload, compare, table
from zoo.layers.hopfield.memory import mapped_patterns, retrieve
from zoo.layers.hopfield.reference import reference_association

# (states, patterns, width, updates)
CASES = ((128, 100_000, 64, 1), (128, 100_000, 64, 2), (128, 1_000_000, 64, 1), (128, 1_000_000, 64, 2))
LARGE = (1024, 1_000_000, 128)


def retrieval(
    side: str, states: int, patterns: int, width: int, updates: int, association: str = "softmax"
) -> Workload:
    """Retrieve with beta 1; `side` is "ours", "matrices" for the reference path, or "mapped" for ours from a file."""
    torch.manual_seed(0)
    stored = F.normalize(torch.randn(patterns, width), dim=-1).mul_(width**0.5)
    state = stored[:states] + 0.5 * torch.randn(states, width)
    if side == "mapped":
        stored = _mapped(stored)

    def run() -> Tensor:
        with torch.no_grad():
            if side == "matrices":
                q, k, one = state[None, None], stored[None, None], torch.ones(1)
                return reference_association(q, k, k, one, num_updates=[updates], association=association).result
            return retrieve(state, stored, num_updates=updates, association=association)

    return Workload(run)


def _mapped(stored: Tensor) -> Tensor:
    import numpy

    path = Path(tempfile.mkdtemp()) / "patterns.npy"
    numpy.save(path, stored.numpy())
    return mapped_patterns(path)


def job(side: str, states: int, patterns: int, width: int, updates: int = 1, association: str = "softmax") -> Job:
    """The job of one cell."""
    sizes = {"states": states, "patterns": patterns, "width": width, "updates": updates}
    return Job("benchmarks.hopfield_memory:retrieval", {"side": side, **sizes, "association": association})


def main() -> None:
    rows = []
    for case in CASES:
        found = compare({side: job(side, *case) for side in ("ours", "matrices")})
        ours, theirs = found["ours"], found["matrices"]
        states, patterns, width, updates = case
        rows.append(
            [
                f"{states} × {patterns:,} × {width}",
                updates,
                f"{ours.reuse_ms:.0f}",
                f"{theirs.reuse_ms:.0f}",
                f"{theirs.reuse_ms / ours.reuse_ms:.2f}",
                f"{theirs.default_ms / ours.default_ms:.2f}",
                f"{ours.peak_mb:.1f}",
                f"{theirs.peak_mb:,.0f}",
            ]
        )
    head = ["states × patterns × width", "updates", "ours ms", "matrices ms", "speed-up (reuse)", "speed-up (default)"]
    print(table([*head, "peak MB, ours", "matrices"], rows))
    rows = []
    for association in ("softmax", "sparsemax", "entmax"):
        found = compare({"ours": job("ours", *LARGE, association=association)}, repeats=2, warm_ups=1)["ours"]
        rows.append([association, "tensor", f"{found.reuse_ms:.0f}", f"{found.peak_mb:.0f}"])
    states, patterns, width = LARGE
    print(f"\n{states:,} states, {patterns:,} patterns of {width} numbers ({patterns * width * 4 / 1e6:.0f} MB):\n")
    print(table(["association", "store", "ms", "peak MB"], rows))


if __name__ == "__main__":
    main()
