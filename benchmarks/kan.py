"""The switch-basis KAN block [C, 2C, C]: tiles against the composed formula, and the floor set by its two products.

`python -m benchmarks.kan` prints a Markdown table.
"""

import torch
from torch import Tensor, nn

from benchmarks._measure import Job, Workload, compare, table
from zoo.layers.kan import KANBlock

# (tokens, width): the KANs of MedViTV2 tiny for one image and for a batch, in stages 4, 4, 2 and 3.
CASES = ((49, 384), (392, 384), (784, 128), (196, 192))
SIDES = {"ours": "auto", "composed": "reference"}


def block_call(side: str, tokens: int, width: int, training: bool) -> Workload:
    """The block on `tokens` rows; `side` is a backend of the block, or "products" for its matrix products alone."""
    torch.manual_seed(0)
    x = torch.randn(tokens, width, requires_grad=training)
    if side == "products":
        return _products(tokens, width, training)
    block = KANBlock(width, backend=side)

    def inference() -> None:
        with torch.no_grad():
            block(x)

    def step() -> None:
        block.zero_grad()
        x.grad = None
        block(x).sum().backward()

    return Workload(step, lambda: block(x), [x, *block.parameters()]) if training else Workload(inference)


def _products(tokens: int, width: int, training: bool) -> Workload:
    layers = [nn.Linear(8 * width, 2 * width, bias=False), nn.Linear(16 * width, width, bias=False)]
    bases: list[Tensor] = [torch.rand(tokens, layer.in_features) for layer in layers]
    grads = [torch.rand(tokens, layer.out_features) for layer in layers]

    def run() -> None:
        with torch.no_grad():
            for layer, basis, grad in zip(layers, bases, grads, strict=True):
                layer(basis)
                if training:
                    _ = grad @ layer.weight, grad.t() @ basis

    return Workload(run)


def main() -> None:
    rows = []
    for training in (False, True):
        for tokens, width in CASES:
            jobs = {
                name: Job(
                    "benchmarks.kan:block_call",
                    {"side": side, "tokens": tokens, "width": width, "training": training},
                )
                for name, side in {**SIDES, "products": "products"}.items()
            }
            found = compare(jobs)
            ours, composed, floor = found["ours"], found["composed"], found["products"]
            rows.append(
                [
                    f"{tokens} × {width}",
                    "forward + backward" if training else "forward",
                    f"{ours.reuse_ms:.1f}",
                    f"{composed.reuse_ms:.1f}",
                    f"{floor.reuse_ms:.1f}",
                    f"{composed.reuse_ms / ours.reuse_ms:.2f}",
                    f"{composed.default_ms / ours.default_ms:.2f}",
                    "" if ours.saved_mb is None else f"{ours.saved_mb:.2f}",
                    "" if composed.saved_mb is None else f"{composed.saved_mb:.2f}",
                    f"{ours.peak_mb:.0f}",
                    f"{composed.peak_mb:.0f}",
                ]
            )
    head = ["tokens × C", "pass", "ours ms", "composed ms", "products ms", "speed-up (reuse)", "speed-up (default)"]
    head += ["saved MB, ours", "composed", "peak MB, ours", "composed"]
    print(table(head, rows))
    print(
        "\n*Ours* makes the basis tile by tile and keeps the input; *composed* is the formula in torch operations "
        "(eight tanh per input, as faster-kan computes it) under autograd; *products* are the block's matrix products "
        "alone, on a ready basis: the floor."
    )


if __name__ == "__main__":
    main()
