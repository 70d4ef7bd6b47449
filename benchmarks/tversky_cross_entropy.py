"""The Tversky head of a language model with its cross-entropy: fused, with the logits kept, and the authors' library.

`pip install tversky` (the authors' library), then `python -m benchmarks.tversky_cross_entropy` prints a Markdown table.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._measure import Job, Workload, compare, table
from benchmarks.tversky import layer

WIDTH, VOCABULARY = 768, 50257
# tokens, features, difference; all of the contrast model with the product
CASES = ((2048, 64, "ignorematch"), (512, 256, "ignorematch"), (512, 256, "substractmatch"))
SIDES = ("fused", "logits", "theirs")
REPEATS, WARM_UPS = 3, 1  # a step of the authors' library takes many seconds


def training_step(side: str, tokens: int, features: int, difference: str) -> Workload:
    """Mean cross-entropy of a head with prototypes from N(0, 0.02^2), and all gradients, of the input too."""
    torch.manual_seed(0)
    model = layer("theirs" if side == "theirs" else "ours", WIDTH, VOCABULARY, features, difference)
    nn.init.normal_(model.prototypes.weight, std=0.02)  # pyright: ignore
    x = torch.randn(tokens, WIDTH, requires_grad=True)
    target = torch.randint(0, VOCABULARY, (tokens,))

    def loss() -> Tensor:
        return model.cross_entropy(x, target) if side == "fused" else F.cross_entropy(model(x), target)  # pyright: ignore

    def step() -> None:
        model.zero_grad()
        x.grad = None
        loss().backward()

    return Workload(step, loss, [x, *model.parameters()])


def main() -> None:
    rows = []
    for tokens, features, difference in CASES:
        args = {"tokens": tokens, "features": features, "difference": difference}
        jobs = {side: Job("benchmarks.tversky_cross_entropy:training_step", {"side": side, **args}) for side in SIDES}
        found = compare(jobs, repeats=REPEATS, warm_ups=WARM_UPS)
        theirs = found["theirs"]
        for side in SIDES:
            one = found[side]
            rows.append(
                [
                    f"{tokens}, {features}",
                    difference,
                    side,
                    f"{one.reuse_ms / 1e3:.2f}",
                    f"{one.default_ms / 1e3:.2f}",
                    f"{theirs.reuse_ms / one.reuse_ms:.2f}",
                    f"{theirs.default_ms / one.default_ms:.2f}",
                    "" if one.saved_mb is None else f"{one.saved_mb:.0f}",
                    f"{one.peak_mb:.0f}",
                    f"{theirs.peak_mb / one.peak_mb:.1f}",
                ]
            )
    head = ["tokens, F", "difference", "side", "s (reuse)", "s (default)", "speed-up (reuse)", "speed-up (default)"]
    head += ["saved MB", "peak MB", "less memory"]
    print(table(head, rows))
    print(
        f"\nOne training step with mean cross-entropy, d = {WIDTH}, {VOCABULARY:,} prototypes; the best of {REPEATS} "
        f"calls after {WARM_UPS} warm-up. *Fused* is `layer.cross_entropy`, *logits* our layer and then "
        f"`F.cross_entropy`, *theirs* the authors' layer and then `F.cross_entropy`. Speed-up and memory are against "
        f"the latter."
    )


if __name__ == "__main__":
    main()
