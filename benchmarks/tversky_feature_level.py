"""Tversky's similarity feature by feature, min + substractmatch: against `verskyt`, and its kernel against others.

`python -m benchmarks.tversky_feature_level` prints Markdown tables. It needs `pip install verskyt`.
"""

from collections.abc import Callable
from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import Job, Workload, compare, table
from zoo.layers.tversky.feature_level import feature_similarity
from zoo.layers.tversky.min_sum import min_sum

ROWS, WIDTH, PROTOTYPES, FEATURES = 256, 512, 1000, 512
SIDES = ("auto", "compiled", "verskyt")
KERNELS = ("auto", "compiled", "cdist", "reference")


def similarity_call(side: str, training: bool) -> Workload:
    """The contrast model from the inputs on; `side` is a backend of ours or "verskyt"."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, WIDTH)
    prototypes, bank = torch.randn(PROTOTYPES, WIDTH) / 10, torch.randn(FEATURES, WIDTH) / 10
    theta, alpha, beta = (torch.tensor(value) for value in (1.0, 0.5, 0.5))
    inputs = [x, prototypes, bank, theta, alpha, beta]
    if side == "verskyt":
        try:
            theirs = import_module("verskyt.core.similarity").tversky_contrast_similarity
        except ImportError as error:
            raise ImportError("this benchmark compares with verskyt: pip install verskyt") from error

        def forward() -> Tensor:
            return theirs(
                x,
                prototypes,
                bank,
                alpha=alpha,
                beta=beta,
                theta=theta,
                intersection_reduction="min",
                difference_reduction="substractmatch",
            )
    else:

        def forward() -> Tensor:
            A, Q = F.linear(x, bank), F.linear(prototypes, bank)
            return feature_similarity(A, Q, theta, alpha, beta, "contrast", "min", "substractmatch", side)

    return _workload(forward, inputs, training)


def kernel_call(side: str, training: bool) -> Workload:
    """Sums of minima alone; `side` is a backend of ours ("reference" is the broadcast expression) or "cdist"."""
    torch.manual_seed(0)
    a, q = torch.randn(ROWS, FEATURES).relu_(), torch.randn(PROTOTYPES, FEATURES).relu_()

    def forward() -> Tensor:
        if side == "cdist":
            return (a.sum(-1).unsqueeze(1) + q.sum(-1) - torch.cdist(a, q, p=1.0)) / 2
        return min_sum(a, q, backend=side)

    return _workload(forward, [a, q], training)


def _workload(forward: Callable[[], Tensor], inputs: list[Tensor], training: bool) -> Workload:
    if not training:

        def inference() -> None:
            with torch.no_grad():
                forward()

        return Workload(inference)
    for tensor in inputs:
        tensor.requires_grad_()
    grad = torch.randn(ROWS, PROTOTYPES)

    def step() -> None:
        for tensor in inputs:
            tensor.grad = None
        forward().backward(grad)

    return Workload(step, forward, inputs)


def _measured(function: str, sides: tuple[str, ...], baseline: str) -> str:
    rows = []
    for training in (False, True):
        target = f"benchmarks.tversky_feature_level:{function}"
        found = compare({side: Job(target, {"side": side, "training": training}) for side in sides})
        slow = found[baseline]
        for side, one in found.items():
            rows.append(
                [
                    side,
                    "forward + backward" if training else "forward",
                    f"{one.reuse_ms:.1f}",
                    f"{one.default_ms:.1f}",
                    f"{slow.reuse_ms / one.reuse_ms:.1f}",
                    f"{slow.default_ms / one.default_ms:.1f}",
                    "" if one.saved_mb is None else f"{one.saved_mb:.1f}",
                    f"{one.peak_mb:.0f}",
                ]
            )
    head = [
        "side",
        "pass",
        "ms (reuse)",
        "ms (default)",
        "speed-up (reuse)",
        "speed-up (default)",
        "saved MB",
        "peak MB",
    ]
    return table(head, rows)


def main() -> None:
    print(f"B = {ROWS}, d = {WIDTH}, P = {PROTOTYPES}, F = {FEATURES}; contrast model, min + substractmatch.\n")
    print(_measured("similarity_call", SIDES, "verskyt"))
    print(f"\nSums of minima alone, {ROWS} x {PROTOTYPES} x {FEATURES}.\n")
    print(_measured("kernel_call", KERNELS, "reference"))
    print(
        "\n*auto* works on blocks and makes them again for the gradients, *compiled* has their loops fused by "
        "torch.compile, *cdist* takes the L1 distance of torch, *reference* is the broadcast expression. The peak of "
        "*compiled* includes the compiler."
    )


if __name__ == "__main__":
    main()
