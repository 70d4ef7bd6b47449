"""Stitched networks: a path against the same path as a network of its own, least squares, all paths at once.

`python -m benchmarks.stitching` prints Markdown tables. Weights are random: what is measured does not depend on them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import zoo
from benchmarks._measure import Job, Workload, compare, table
from zoo.layers.least_squares import NormalEquations
from zoo.models.stitching.network import StitchNet

MODEL = "snnet_deit_ti_s_b"
IDS = (4, 24, 56)
#: Rows of 100 images of 197 tokens.
ROWS = 19_700
#: Widths of the front, of the end, and ends that share a front.
MAPS = ((192, 384, 1), (384, 768, 1), (384, 768, 3))
SWITCHES = 1_000


def _net() -> StitchNet:
    torch.manual_seed(0)
    net = zoo.create_model(MODEL).eval()
    assert isinstance(net, StitchNet)
    for layer in net.stitch_layers.parameters():
        nn.init.normal_(layer, std=0.02)
    return net


def forward_call(side: str, stitch: int) -> Workload:
    """Scores of 8 images by a path; `side` is "stitched" or "exported"."""
    net = _net()
    x = torch.randn(8, 3, 224, 224)
    if side == "exported":
        model: Any = net.export(stitch).eval()
        del net
    else:
        net.set_stitch(stitch)
        model = net

    def run() -> None:
        with torch.inference_mode():
            model(x)

    return Workload(run)


def fit_call(side: str, front: int, end: int, targets: int) -> Workload:
    """Linear maps from front features to `targets` sets of end features; `side` is "ours" or "official"."""
    torch.manual_seed(0)
    x = torch.randn(ROWS, front)
    ys = [torch.randn(ROWS, end) for _ in range(targets)]

    def official() -> list[Tensor]:
        # One system after the other, as the released code solves them.
        return [torch.linalg.pinv(torch.cat([x, torch.ones(ROWS, 1)], 1)) @ y for y in ys]

    def ours() -> Tensor:
        equations = NormalEquations(constant=True, mixed=True)
        equations.add(x, *ys)
        return equations.solve(cutoff=equations.float32_cutoff)

    return Workload(ours if side == "ours" else official)


def evaluate_call(side: str) -> Workload:
    """Accuracies of all 71 paths on 2 images; `side` is "shared" or "one by one"."""
    net = _net()
    images, labels = torch.randn(2, 3, 224, 224), torch.zeros(2, dtype=torch.long)
    loader = DataLoader(TensorDataset(images, labels), batch_size=2)

    def shared() -> None:
        zoo.evaluate_stitches(net, loader, progress=False)

    def one_by_one() -> None:
        for config in net.stitches:
            zoo.evaluate_stitches(net, loader, ids=[config.id], progress=False)

    return Workload(shared if side == "shared" else one_by_one)


def switch_call() -> Workload:
    """`set_stitch`, a thousand times between two paths."""
    net = _net()

    def run() -> None:
        for _ in range(SWITCHES // 2):
            net.set_stitch(24)
            net.set_stitch(56)

    return Workload(run)


def main() -> None:
    rows = []
    for stitch in IDS:
        jobs = {
            side: Job("benchmarks.stitching:forward_call", {"side": side, "stitch": stitch})
            for side in ("stitched", "exported")
        }
        found = compare(jobs)
        stitched, exported = found["stitched"], found["exported"]
        rows.append(
            [
                stitch,
                f"{stitched.reuse_ms:.0f}",
                f"{exported.reuse_ms:.0f}",
                f"{stitched.reuse_ms / exported.reuse_ms:.3f}",
                f"{stitched.default_ms / exported.default_ms:.3f}",
            ]
        )
    head = ["stitch", "in the network, ms", "exported, ms", "ratio (reuse)", "ratio (default)"]
    print(f"`{MODEL}`, 8 images of 224 pixels, forward:\n")
    print(table(head, rows))

    switch = compare({"switch": Job("benchmarks.stitching:switch_call", {})})["switch"]
    print(f"\n`set_stitch` takes {1e3 * switch.reuse_ms / SWITCHES:.1f} µs.")

    rows = []
    for front, end, targets in MAPS:
        case = {"front": front, "end": end, "targets": targets}
        jobs = {side: Job("benchmarks.stitching:fit_call", {"side": side, **case}) for side in ("ours", "official")}
        found = compare(jobs)
        ours, official = found["ours"], found["official"]
        rows.append(
            [
                f"{front} → {end}",
                targets,
                f"{ours.reuse_ms:.0f}",
                f"{official.reuse_ms:.0f}",
                f"{official.reuse_ms / ours.reuse_ms:.1f}",
                f"{official.default_ms / ours.default_ms:.1f}",
                f"{ours.peak_mb:.0f}",
                f"{official.peak_mb:.0f}",
            ]
        )
    head = ["map", "ends", "ours ms", "official ms", "speed-up (reuse)", "(default)", "peak MB, ours", "official"]
    print(f"\nLeast squares of {ROWS:,} rows; *official* is the pseudo-inverse in float32, once for every end:\n")
    print(table(head, rows))

    jobs = {side: Job("benchmarks.stitching:evaluate_call", {"side": side}) for side in ("shared", "one by one")}
    found = compare(jobs, repeats=2, warm_ups=0)
    shared, single = found["shared"], found["one by one"]
    print(
        f"\nAll 71 paths of `{MODEL}` on 2 images: {shared.reuse_ms / 1e3:.1f} s with shared beginnings, "
        f"{single.reuse_ms / 1e3:.1f} s one by one, {single.reuse_ms / shared.reuse_ms:.2f} times as long "
        f"(default malloc {single.default_ms / shared.default_ms:.2f}); best of two calls each."
    )


if __name__ == "__main__":
    main()
