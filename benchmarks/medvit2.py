"""MedViTV2 as a whole: our paths against the same model with gathered windows and a composed KAN.

`python -m benchmarks.medvit2` prints a Markdown table (a few minutes).
"""

import torch

import zoo
from benchmarks._measure import Job, Workload, compare, table

# (model, batch, training)
CASES = (
    ("medvit2_kan_tiny", 1, False),
    ("medvit2_kan_tiny", 8, False),
    ("medvit2_kan_tiny", 8, True),
    ("medvit2_kan_small", 1, False),
    ("medvit2_dina_tiny", 8, False),
    ("medvit2_dina_tiny", 8, True),
    ("medvit2_kan_nano", 64, False),
    ("medvit2_kan_nano", 64, True),
)
SIDES = ("ours", "by hand")


def model_call(side: str, name: str, batch: int, training: bool) -> Workload:
    """A batch through the model with 9 classes and initial weights; "fused" folds its batch norms first."""
    torch.manual_seed(0)
    slow = {"attn_backend": "reference", "kan_backend": "reference"} if side == "by hand" else {}
    model = zoo.create_model(name, num_classes=9, **slow).train(training)
    if side == "fused":
        model.fuse()
    x = torch.randn(batch, *model.pretrained_cfg["input_size"])

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
    for name, batch, training in CASES:
        sides = SIDES if training else (*SIDES, "fused")
        jobs = {
            side: Job(
                "benchmarks.medvit2:model_call", {"side": side, "name": name, "batch": batch, "training": training}
            )
            for side in sides
        }
        found = compare(jobs)
        ours, hand = found["ours"], found["by hand"]
        rows.append(
            [
                name,
                batch,
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
    head = ["model", "batch", "pass", "ours ms", "fused ms", "by hand ms", "speed-up (reuse)", "speed-up (default)"]
    head += ["saved MB, ours", "by hand", "peak MB, ours", "by hand"]
    print(table(head, rows))
    print(
        "\n*By hand* is the same model with windows gathered by indices and the KAN composed of torch operations, "
        "which is what one writes without a library; *fused* is ours after `fuse()`. The official code with NATTEN "
        "0.17.3 cannot be installed from a package index for this version of PyTorch, so it is not a column."
    )


if __name__ == "__main__":
    main()
