"""The Tversky projection against its authors' library: heads, a language model's head for one token, tiny layers.

`pip install tversky` (the authors' library), then `python -m benchmarks.tversky` prints three Markdown tables.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._measure import Job, Workload, compare, machine, table
from zoo.layers.tversky import TverskyProjection

# inputs, width, prototypes, features, difference; all of the contrast model with the product
HEADS = (
    (256, 2048, 1000, 512, "ignorematch"),
    (256, 2048, 1000, 512, "substractmatch"),
    (1024, 512, 1000, 4096, "ignorematch"),
    (1024, 512, 1000, 4096, "substractmatch"),
    (512, 768, 20000, 1024, "ignorematch"),
)
ONE_TOKEN = (1, 768, 50257, 1024, "ignorematch")
TINY = (500, 2, 2, 64, "ignorematch")
SIDES = ("ours", "theirs")
CALLS = 1000  # of a tiny layer, in one measurement


def layer(side: str, width: int, prototypes: int, features: int, difference: str) -> nn.Module:
    """A contrast layer with banks from N(0, 0.1^2): ours, or the authors'."""
    if side == "ours":
        made: Any = TverskyProjection(width, prototypes, features, difference=difference)
    else:
        made = _authors().TverskyProjection(
            embedding_dim=width,
            class_count=prototypes,
            fbank_size=features,
            similarity_model="contrast",
            normalize=False,
            difference_reduction=difference,
        )
    for bank in (made.feature_bank, made.prototypes):
        nn.init.normal_(bank.weight, std=0.1)
    return made


def _authors() -> Any:
    try:
        return importlib.import_module("tversky.nn")
    except ModuleNotFoundError as error:
        if error.name not in ("tversky", "tversky.nn"):
            raise
        raise ModuleNotFoundError("the comparison needs the authors' library: pip install tversky") from error


def calls(
    side: str, inputs: int, width: int, prototypes: int, features: int, difference: str, training: bool, count: int = 1
) -> Workload:
    """`count` forward passes in eval mode, or training steps with gradients of the input too."""
    torch.manual_seed(0)
    model = layer(side, width, prototypes, features, difference).train(training)
    x = torch.randn(inputs, width, requires_grad=training)
    upstream = torch.randn(inputs, prototypes) if training else None

    def forward() -> None:
        with torch.no_grad():
            for _ in range(count):
                model(x)

    def step() -> None:
        for _ in range(count):
            model.zero_grad()
            x.grad = None
            model(x).backward(upstream)

    if not training:
        return Workload(forward)

    def loss() -> Tensor:
        return model(x)

    return Workload(step, loss, [x, *model.parameters()])


def rows(cases: Any, training: bool, count: int = 1, repeats: int = 7) -> list[list[str]]:
    """One table row for each case."""
    found = []
    for inputs, width, prototypes, features, difference in cases:
        args = {"inputs": inputs, "width": width, "prototypes": prototypes, "features": features}
        args |= {"difference": difference, "training": training, "count": count}
        measured = compare(
            {side: Job("benchmarks.tversky:calls", {"side": side, **args}) for side in SIDES}, repeats=repeats
        )
        ours, theirs = measured["ours"], measured["theirs"]
        unit = count / 1000 if count > 1 else 1  # microseconds of one call, or milliseconds
        found.append(
            [
                f"{inputs}, {width}, {prototypes}, {features}",
                difference,
                "forward + backward" if training else "forward",
                f"{ours.reuse_ms / unit:.1f}",
                f"{theirs.reuse_ms / unit:.1f}",
                f"{theirs.reuse_ms / ours.reuse_ms:.2f}",
                f"{theirs.default_ms / ours.default_ms:.2f}",
                "" if ours.saved_mb is None else f"{ours.saved_mb:.1f}",
                "" if theirs.saved_mb is None else f"{theirs.saved_mb:.1f}",
                f"{ours.peak_mb:.0f}",
                f"{theirs.peak_mb:.0f}",
            ]
        )
    return found


def main() -> None:
    _authors()
    head = ["inputs, d, P, F", "difference", "pass", "ours {}", "authors' {}", "speed-up (reuse)", "speed-up (default)"]
    head += ["saved MB, ours", "authors'", "peak MB, ours", "authors'"]
    print(machine(), end="\n\n")
    print(table([cell.format("ms") for cell in head], rows(HEADS, False) + rows(HEADS, True)), end="\n\n")
    print("One token, eval mode; ours keeps what follows from the parameters after its first call:", end="\n\n")
    print(table([cell.format("ms") for cell in head], rows([ONE_TOKEN], False)), end="\n\n")
    print(f"Tiny, {CALLS} calls in one measurement:", end="\n\n")
    print(table([cell.format("µs") for cell in head], rows([TINY], False, CALLS) + rows([TINY], True, CALLS)))


if __name__ == "__main__":
    main()
