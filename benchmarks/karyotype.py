"""Dispatch of a case, and KaryoNet's modules, against the plain algorithms that they are exact forms of.

`python -m benchmarks.karyotype` prints a Markdown table, `python -m benchmarks.karyotype MFIM` its rows that begin so.
The other sides are `zoo.karyotype.reference`, the assignment as specified, and `zoo.layers.karyonet.reference`, the
official algorithm in torch's own layers. All weights are drawn.
"""

import math
import sys
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks._measure import Job, Workload, compare, table

#: Cases a call of dispatch, so that one is long enough to be timed.
CASES = 50
CHROMOSOMES, CLASSES, DIM = 46, 24, 256


def dispatch_cases(side: str) -> Workload:
    """Cases of 46 chromosomes whose sex is not known: rows of N(0, 1.5²), 5 more in the true class of a man's cell."""
    import numpy as np

    from zoo.karyotype import HUMAN, dispatch
    from zoo.karyotype.reference import plain_assignment

    draw = np.random.default_rng(0)
    true = np.repeat(np.arange(CLASSES), HUMAN.of("XY"))
    scores = draw.normal(0, 1.5, (CASES, CHROMOSOMES, CLASSES))
    scores[:, np.arange(CHROMOSOMES), true] += 5
    cases = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    price = math.log(1000)

    def ours() -> None:
        for case in cases:
            dispatch(case)

    def plain() -> None:
        for case in cases:
            min((plain_assignment(case, HUMAN.of(sex), price, price, 2) for sex in ("XX", "XY")), key=lambda x: x[1])

    return Workload(ours if side == "ours" else plain)


def assignment(side: str, hidden: int, training: bool) -> Workload:
    """The DAM on one case."""
    from zoo.layers import KaryotypeAssignment
    from zoo.layers.karyonet.reference import plain_assignment

    torch.manual_seed(0)
    module = KaryotypeAssignment(hidden)
    logits = 3 * torch.randn(CHROMOSOMES, CLASSES)
    return _workload(
        module, logits, (lambda x: module(x)) if side == "ours" else lambda x: plain_assignment(module, x), training
    )


def interaction(side: str, training: bool) -> Workload:
    """The MFIM on one case; in evaluation its batch norms are as if trained."""
    from zoo.layers import CaseInteraction
    from zoo.layers.karyonet.reference import plain_interaction

    torch.manual_seed(0)
    module = CaseInteraction(DIM).train(training)
    features = torch.rand(CHROMOSOMES, DIM)
    run: Callable[[Tensor], Tensor] = (
        (lambda x: module(x).features) if side == "ours" else lambda x: plain_interaction(module, x)[0]
    )
    return _workload(module, features, run, training)


def _workload(module: torch.nn.Module, x: Tensor, run: Callable[[Tensor], Tensor], training: bool) -> Workload:
    if not training:

        def forward() -> None:
            with torch.no_grad():
                run(x)

        return Workload(forward)
    x.requires_grad_()

    def loss() -> Tensor:
        return run(x).square().mean()

    def step() -> None:
        module.zero_grad()
        loss().backward()

    return Workload(step, loss, [x, *module.parameters(), *module.buffers()])


#: What is measured: words, workload, its arguments, calls, warm-ups, what a time is divided by.
WORK = (
    ("dispatch, a case", "dispatch_cases", {}, 7, 2, CASES),
    ("DAM, width 64, forward", "assignment", {"hidden": 64, "training": False}, 7, 2, 1),
    ("DAM, width 64, forward and backward", "assignment", {"hidden": 64, "training": True}, 5, 1, 1),
    ("DAM, width 256, forward", "assignment", {"hidden": 256, "training": False}, 5, 1, 1),
    ("DAM, width 256, forward and backward", "assignment", {"hidden": 256, "training": True}, 3, 1, 1),
    ("MFIM, forward", "interaction", {"training": False}, 15, 3, 1),
    ("MFIM, forward and backward", "interaction", {"training": True}, 9, 2, 1),
)


def main() -> None:
    rows = []
    for words, target, args, repeats, warm_ups, parts in WORK:
        if not words.startswith(tuple(sys.argv[1:]) or ""):
            continue
        jobs = {side: Job(f"benchmarks.karyotype:{target}", {"side": side, **args}) for side in ("ours", "plain")}
        found = compare(jobs, repeats, warm_ups)
        ours, plain = found["ours"], found["plain"]
        rows.append(
            [
                words,
                f"{ours.reuse_ms / parts:.3g}",
                f"{plain.reuse_ms / parts:.3g}",
                f"{plain.reuse_ms / ours.reuse_ms:.2f}",
                f"{plain.default_ms / ours.default_ms:.2f}",
                f"{ours.peak_mb:.0f}",
                f"{plain.peak_mb:.0f}",
                *("" if side.saved_mb is None else f"{side.saved_mb:.1f}" for side in (ours, plain)),
            ]
        )
    print(
        f"One case of {CHROMOSOMES} chromosomes and {CLASSES} classes, float32. *plain* is the assignment as it is "
        "specified, K x K for either sex, and the official algorithm of KaryoNet in torch's own layers. MFIM: "
        f"features of width {DIM}, 3 layers of 8 heads and width 2048; *forward* in evaluation, *backward* in "
        "training.\n"
    )
    head = [
        "",
        "ours ms",
        "plain ms",
        "speed-up (reuse)",
        "(default)",
        "peak MB, ours",
        "plain",
        "saved MB, ours",
        "plain",
    ]
    print(table(head, rows))


if __name__ == "__main__":
    main()
