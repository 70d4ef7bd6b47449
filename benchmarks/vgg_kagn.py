"""VGG-KAGN: our one convolution a layer against the expression of the released code.

`python -m benchmarks.vgg_kagn` prints a Markdown table (a few minutes).
"""

import torch

import zoo
from benchmarks._measure import Job, Workload, compare, table

# (model, pixels, training)
CASES = (
    ("vgg_kagn11_v2", 96, False),
    ("vgg_kagn11_v2", 96, True),
    ("vgg_kagn_bn11_v4", 96, False),
    ("vgg_kagn_bn11_v4", 96, True),
)
SIDES = ("ours", "by hand")


def model_call(side: str, name: str, pixels: int, training: bool) -> Workload:
    """One image through the model with initial weights.

    "by hand" expands all polynomials, degree 0 too, and adds two convolutions, with the norms of PyTorch; "fused"
    folds batch norms first.
    """
    torch.manual_seed(0)
    model = zoo.create_model(name, backend="reference" if side == "by hand" else "auto").train(training)
    if side == "by hand":
        for block in model.features:  # pyright: ignore[reportGeneralTypeIssues]
            if isinstance(getattr(block, "norm", None), torch.nn.InstanceNorm2d):
                block.norm = torch.nn.InstanceNorm2d(block.out_channels, affine=True)
    if side == "fused":
        model.fuse()  # pyright: ignore[reportCallIssue]
    x = torch.randn(1, 3, pixels, pixels)

    def inference() -> None:
        with torch.no_grad():
            model(x)

    def step() -> None:
        model.zero_grad()
        model(x).sum().backward()

    own = [x, *model.parameters(), *model.buffers()]
    return Workload(step, lambda: model(x), own) if training else Workload(inference)


def main() -> None:
    rows = []
    for name, pixels, training in CASES:
        sides = SIDES if training or "bn" not in name else (*SIDES, "fused")
        args = {"name": name, "pixels": pixels, "training": training}
        found = compare({side: Job("benchmarks.vgg_kagn:model_call", {"side": side, **args}) for side in sides})
        ours, hand = found["ours"], found["by hand"]
        rows.append(
            [
                name,
                "forward + backward" if training else "forward",
                f"{ours.reuse_ms:.0f}",
                f"{found['fused'].reuse_ms:.0f}" if "fused" in found else "",
                f"{hand.reuse_ms:.0f}",
                f"{hand.reuse_ms / ours.reuse_ms:.2f}",
                f"{hand.default_ms / ours.default_ms:.2f}",
                "" if ours.saved_mb is None else f"{ours.saved_mb:.0f}",
                "" if hand.saved_mb is None else f"{hand.saved_mb:.0f}",
                f"{ours.peak_mb:.0f}",
                f"{hand.peak_mb:.0f}",
            ]
        )
    head = ["model", "pass", "ours ms", "fused ms", "by hand ms", "speed-up (reuse)", "speed-up (default)"]
    head += ["saved MB, ours", "by hand", "peak MB, ours", "by hand"]
    print(table(head, rows))
    print(
        "\nOne image of 96×96 pixels, evaluation mode for the forward pass. *By hand* is the expression of the "
        "released code composed of torch operations: all polynomials expanded, two convolutions added, PyTorch's "
        "instance norm, no cache. Ours expands all but the constant one, in one convolution with the base branch, and "
        "expands again in the backward pass: less memory in about the same time."
    )


if __name__ == "__main__":
    main()
