"""Hopfield associations and lookups on attention kernels, and sparse maps by Newton's method.

`python -m benchmarks.hopfield` prints two Markdown tables.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from benchmarks._hopfield_matrices import by_matrices
from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.layers.hopfield import Hopfield, HopfieldLayer, associate

#: Small enough that all updates are made, though every one is tested; None for no test.
_TOL = 1e-30
LAYERS = ("association", "lookup")
UPDATES = (1, 4)
#: Rows, scores of each, and their standard deviation.
SCORES = ((4096, 1024, 1.0), (4096, 1024, 0.02), (128, 100_000, 1.0))
MAPS = {"sparsemax": {}, "entmax": {"alpha": 1.5}}


def layer_call(side: str, layer: str, updates: int, training: bool) -> Workload:
    """32 samples of 64 states; `side` is "ours", or "matrices", the authors' algorithm."""
    torch.manual_seed(0)
    if layer == "association":
        module = Hopfield(256, num_heads=8, num_updates=updates, tol=_TOL)
        stored, state = torch.randn(32, 1024, 256), torch.randn(32, 64, 256)
        ours = side == "ours"
        forward = (lambda: module(stored, state)) if ours else (lambda: by_matrices(module, stored, state, stored))
        return _workload(forward, module, [stored, state], training)
    lookup = HopfieldLayer(128, quantity=1024, num_heads=4, num_updates=updates, tol=_TOL).eval()
    x = torch.randn(32, 64, 128)

    def repeated() -> Tensor:
        patterns = lookup.stored_patterns.repeat(32, 1, 1)
        return by_matrices(lookup.hopfield, patterns, x, patterns)

    return _workload((lambda: lookup(x)) if side == "ours" else repeated, lookup, [x], training)


def _workload(forward: Callable[[], Tensor], module: nn.Module, inputs: Sequence[Tensor], training: bool) -> Workload:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    if not training:

        def inference() -> None:
            with torch.no_grad():
                forward()

        return Workload(inference)
    leaves = [*(x.requires_grad_() for x in inputs), *module.parameters()]

    def step() -> None:
        torch.autograd.grad(forward().sum(), leaves)

    return Workload(step, forward, leaves)


def map_call(side: str, name: str, rows: int, count: int, spread: float) -> Workload:
    """A map of given scores; `side` is "ours", "static", which must not look at numbers, or "softmax"."""
    torch.manual_seed(0)
    scores = spread * torch.randn(rows, count)
    if side == "softmax":
        return Workload(lambda: torch.softmax(scores, -1))
    if side == "static":
        return Workload(lambda: torch.func.vmap(lambda row: associate(row, name, **MAPS[name]))(scores))
    return Workload(lambda: associate(scores, name, **MAPS[name]))


def _layer_row(layer: str, updates: int, training: bool, found: dict[str, Measurement]) -> list[str]:
    ours, matrices = found["ours"], found["matrices"]
    saved = ["" if x.saved_mb is None else f"{x.saved_mb:.0f}" for x in (ours, matrices)]
    return [
        layer,
        str(updates),
        "forward + backward" if training else "forward",
        f"{ours.reuse_ms:.0f}",
        f"{matrices.reuse_ms:.0f}",
        f"{matrices.reuse_ms / ours.reuse_ms:.1f}",
        f"{matrices.default_ms / ours.default_ms:.1f}",
        *saved,
        f"{ours.peak_mb:.0f}",
        f"{matrices.peak_mb:.0f}",
    ]


def main() -> None:
    rows = []
    for layer in LAYERS:
        for updates in UPDATES:
            for training in (False, True):
                args = {"layer": layer, "updates": updates, "training": training}
                sides = ("ours", "matrices")
                jobs = {side: Job("benchmarks.hopfield:layer_call", {"side": side, **args}) for side in sides}
                rows.append(_layer_row(layer, updates, training, compare(jobs)))
    head = ["layer", "updates", "pass", "ours ms", "matrices ms", "speed-up (reuse)", "speed-up (default)"]
    print(table([*head, "saved MB, ours", "matrices", "peak MB, ours", "matrices"], rows))
    print(
        "\n*Association*: 32 samples, 64 states of 256 and 1,024 stored patterns, 8 heads. *Lookup*: 32 samples of 64 "
        "states of 128, 1,024 learned patterns, 4 heads. *Matrices* is the authors' algorithm, written as plainly and "
        "with as few passes as its equations allow: every input normed and projected by itself, learned patterns "
        "repeated for each sample, all association matrices in memory, a test after every update. Both sides make all "
        "updates. The authors' package is not on the package index and was not timed. A single association is mostly "
        "the projection of the stored patterns, which both sides make; each further one is two products that both "
        "make, and the passes over matrices in memory that only one makes.\n"
    )
    rows = []
    for name in MAPS:
        for count, size, spread in SCORES:
            args = {"name": name, "rows": count, "count": size, "spread": spread}
            sides = ("ours", "static", "softmax")
            jobs = {side: Job("benchmarks.hopfield:map_call", {"side": side, **args}) for side in sides}
            times = {side: each.reuse_ms for side, each in compare(jobs).items()}
            cells = [f"{times[side]:.0f}" for side in sides]
            rows.append(
                [name, f"{count:,} × {size:,} of ±{spread:g}", *cells, f"{times['static'] / times['ours']:.0f}"]
            )
    print(table(["map", "scores", "ours ms", "static ms", "softmax ms", "speed-up"], rows))
    print(
        "\nForward, scores given. *Static* is what compilers and exporters get: sparsemax by sorting, entmax-1.5 by 60 "
        "halvings."
    )


if __name__ == "__main__":
    main()
