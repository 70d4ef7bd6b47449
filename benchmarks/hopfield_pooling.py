"""Hopfield pooling of large and of ragged bags, without projections of the rows: against all matrices in memory.

`python -m benchmarks.hopfield_pooling` prints a Markdown table.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks._hopfield_matrices import by_matrices
from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.layers.hopfield import HopfieldPooling


class Case(NamedTuple):
    """Bags of rows of some width, and the heads, of 32, that pool them."""

    bags: str
    width: int
    heads: int


CASES = {
    "300,000 × 32, 8 heads": Case("one of 300000", 32, 8),
    "300,000 × 128, 8 heads": Case("one of 300000", 128, 8),
    "64 bags of 10 to 8,000, log-normal, × 64, 8 heads": Case("log-normal", 64, 8),
    "512 bags of about 10 × 500, 1 head": Case("small", 500, 1),
    "1,000,000 × 128, 8 heads": Case("one of 1000000", 128, 8),
}
#: Case, updates, and the sides: the matrices of a million rows would need several gigabytes.
ROWS = [
    ("300,000 × 32, 8 heads", 1, ("ours", "matrices")),
    ("300,000 × 32, 8 heads", 4, ("ours", "matrices")),
    ("300,000 × 128, 8 heads", 1, ("ours", "matrices")),
    ("64 bags of 10 to 8,000, log-normal, × 64, 8 heads", 1, ("ours", "matrices")),
    ("512 bags of about 10 × 500, 1 head", 1, ("ours", "matrices")),
    ("1,000,000 × 128, 8 heads", 1, ("ours",)),
]


def sizes_of(bags: str) -> list[int]:
    """Rows of each bag."""
    if bags.startswith("one of "):
        return [int(bags.removeprefix("one of "))]
    if bags == "small":
        return [max(1, round(size)) for size in (10 + 2 * torch.randn(512)).tolist()]
    return [round(size) for size in torch.randn(64).add(6).exp().clamp(10, 8000).tolist()]


def pooling_call(side: str, case: str, updates: int, training: bool) -> Workload:
    """Pool all bags; `side` is "ours", or "matrices": padded bags, projections and associations all in memory."""
    torch.manual_seed(0)
    bags, width, heads = CASES[case]
    sizes = sizes_of(bags)
    x = torch.randn(sum(sizes), width)
    # A tol that no update falls below: all of them are made.
    pooling = HopfieldPooling(width, num_heads=heads, head_dim=32, num_updates=updates, tol=1e-30)
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    if side == "matrices":
        x, mask = _padded(x, sizes)

        def padded() -> Tensor:
            states = pooling.state_patterns.expand(len(x), -1, -1)
            return by_matrices(pooling.hopfield, x, states, x, mask).mean(1)

        return _workload(padded, x, pooling, training)
    if len(sizes) == 1:
        x = x.unsqueeze(0)
        return _workload(lambda: pooling(x), x, pooling, training)
    offsets = torch.tensor([0, *sizes]).cumsum(0)
    return _workload(lambda: pooling(x, offsets=offsets), x, pooling, training)


def _padded(rows: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor | None]:
    if len(sizes) == 1:
        return rows.unsqueeze(0), None
    x = torch.nn.utils.rnn.pad_sequence(list(rows.split(sizes)), batch_first=True)
    return x, torch.arange(x.shape[1]) >= torch.tensor(sizes).unsqueeze(1)


def _workload(forward: Callable[[], Tensor], x: Tensor, pooling: HopfieldPooling, training: bool) -> Workload:
    if not training:

        def inference() -> None:
            with torch.no_grad():
                forward()

        return Workload(inference)
    x.requires_grad_()
    leaves = [x, *pooling.parameters()]

    def step() -> None:
        torch.autograd.grad(forward().sum(), leaves)

    return Workload(step, forward, leaves)


def _row(case: str, updates: int, training: bool, found: dict[str, Measurement]) -> list[str]:
    ours, matrices = found["ours"], found.get("matrices")
    cells = [case, str(updates), "forward + backward" if training else "forward", f"{ours.reuse_ms:.0f}"]
    if matrices is None:
        return [*cells, "", "", "", f"{ours.peak_mb:.0f}", "", ""]
    cells += [f"{matrices.reuse_ms:.0f}", f"{matrices.reuse_ms / ours.reuse_ms:.1f}"]
    cells += [f"{matrices.default_ms / ours.default_ms:.1f}", f"{ours.peak_mb:.0f}", f"{matrices.peak_mb:.0f}"]
    return [*cells, f"{matrices.peak_mb / max(ours.peak_mb, 1):.0f}"]


def main() -> None:
    rows = []
    for case, updates, sides in ROWS:
        for training in (False, True):
            jobs = {
                side: Job(
                    "benchmarks.hopfield_pooling:pooling_call",
                    {"side": side, "case": case, "updates": updates, "training": training},
                )
                for side in sides
            }
            rows.append(_row(case, updates, training, compare(jobs)))
    head = ["bags", "updates", "pass", "ours ms", "matrices ms", "speed-up (reuse)", "speed-up (default)"]
    print(table([*head, "peak MB, ours", "matrices", "ratio"], rows))
    print(
        "\n*Matrices* is the layer as its equations and the authors' code have it: every input normed, projections "
        "and associations in memory, the test for convergence after every further update, ragged bags padded and "
        "masked. *Ours* makes no projection of a row and goes through the rows in blocks; backward, the gradient of "
        "the rows is most of its memory. Both make all updates."
    )


if __name__ == "__main__":
    main()
