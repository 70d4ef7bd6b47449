"""Stitched networks: a path against the same path as a network of its own, least squares, all paths at once.

`python -m benchmarks.stitching` prints Markdown tables. Weights are random: what is measured does not depend on them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks._measure import MALLOC, Job, Measurement, Workload, compare, table

MODEL = "snnet_deit_ti_s_b"
PAIR = ("deit_tiny_patch16_224", "deit_small_patch16_224")
#: Paths, the modes of malloc that each is measured in, and calls.
PATHS = tuple((stitch, tuple(MALLOC), 25) for stitch in (0, 30, 47))
IMAGES, TOKENS, BATCH = 100, 197, 8
#: Widths of the front, of the end, ends that share a front, modes and calls.
MAPS = ((384, 768, 1, tuple(MALLOC), 4), (384, 768, 3, ("default",), 2))
SWITCHES = 1_000


def _net() -> Any:
    """All paths, with weights that were drawn quickly."""
    import zoo

    torch.manual_seed(0)
    with torch.device("meta"):
        net = zoo.create_model(MODEL)
    net.to_empty(device="cpu").eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.02)
    return net


def forward_call(side: str, stitch: int) -> Workload:
    """Scores of 8 images by a path; `side` is "stitched" or "exported"."""
    net = _net()
    net.set_stitch(stitch)
    # Both processes hold both: malloc as it is reuses more in one that let a large network go.
    models = {"stitched": net, "exported": net.export().eval()}
    x = torch.randn(8, 3, 224, 224)

    def run() -> None:
        with torch.inference_mode():
            models[side](x)

    return Workload(run)


def fit_call(side: str, front: int, end: int, targets: int) -> Workload:
    """Maps from front features to `targets` sets of end features, which come in batches; `side` as of `init_call`."""
    torch.manual_seed(0)
    first = [torch.randn(BATCH * TOKENS, width) for width in (front, *[end] * targets)]

    def batches() -> Iterator[list[Tensor]]:
        for begin in range(0, IMAGES, BATCH):
            rows = TOKENS * min(BATCH, IMAGES - begin)
            yield [features[:rows] * (1 + begin) for features in first]

    def official() -> list[Tensor]:
        x, *ys = (torch.cat(parts) for parts in zip(*batches(), strict=True))
        return [_pseudo_inverse(x, y) for y in ys]

    def ours() -> Tensor:
        from zoo.layers.least_squares import NormalEquations

        equations = NormalEquations(constant=True, mixed=True)
        for x, *ys in batches():
            equations.add(x, *ys)
            del x, ys
        return equations.solve(cutoff=equations.float32_cutoff)

    return _warm(ours if side == "ours" else official)


def init_call(side: str) -> Workload:
    """All stitching layers between two anchors; `side` is "ours" or "official".

    The latter as the papers' code does it: the features behind all blocks of both anchors, then one system after the
    other. Its images run in batches here, which takes less memory than all at once.
    """
    from zoo.models.stitching.network import StitchNet

    torch.manual_seed(0)
    net = StitchNet(PAIR, cuts="paired").eval()
    images = torch.randn(IMAGES, 3, 224, 224)

    def ours() -> None:
        net.init_stitches(images, num_samples=IMAGES)

    @torch.no_grad()
    def official() -> None:
        front, end = (_features(anchor, images) for anchor in net._anchors)
        found: dict[Any, list[Tensor]] = {}
        for config in net._configs:
            for join, (j, k) in zip(config.joins, config.cuts, strict=True):
                found.setdefault(join, []).append(_pseudo_inverse(front[j + 1], end[k]))
        for join, maps in found.items():
            net.stitch_layer(join).take(torch.stack(maps).mean(0))

    return _warm(ours if side == "ours" else official)


def _features(anchor: Any, images: Tensor) -> list[Tensor]:
    """Rows behind the stem and behind every block."""
    pieces = [piece for piece in anchor.walk() if piece.kind in ("stem", "block")]
    kept = [torch.empty(IMAGES, TOKENS, anchor.stages[0].width) for _ in pieces]
    for begin in range(0, IMAGES, BATCH):
        x = images[begin : begin + BATCH]
        for piece, features in zip(pieces, kept, strict=True):
            x = anchor.piece(piece)(x)
            features[begin : begin + BATCH] = x
    return [features.flatten(0, 1) for features in kept]


def _pseudo_inverse(x: Tensor, y: Tensor) -> Tensor:
    """[x 1]^+ y in float32."""
    return torch.linalg.pinv(torch.cat([x, torch.ones(len(x), 1)], 1)) @ y


def _warm(run: Callable[[], Any]) -> Workload:
    """Before memory is counted, the libraries take what they keep."""
    small = torch.randn(64, 64)
    torch.linalg.pinv(small)
    torch.linalg.eigh((small @ small.t()).double())
    return Workload(run)


def evaluate_call(side: str) -> Workload:
    """Accuracies of all 71 paths on an image; `side` is "shared" or "one by one"."""
    from torch.utils.data import DataLoader, TensorDataset

    import zoo

    net = _net()
    loader = DataLoader(TensorDataset(torch.randn(1, 3, 224, 224), torch.zeros(1, dtype=torch.long)))

    def shared() -> None:
        zoo.evaluate_stitches(net, loader, progress=False)

    def one_by_one() -> None:
        for config in net._configs:
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


def _compared(name: str, sides: Sequence[str], case: dict[str, Any], **how: Any) -> tuple[Measurement, Measurement]:
    found = compare({side: Job(f"benchmarks.stitching:{name}", {"side": side, **case}) for side in sides}, **how)
    return found[sides[0]], found[sides[1]]


def _ratio(one: float, other: float, digits: int = 2) -> str:
    return "" if one != one else f"{one / other:.{digits}f}"


def main() -> None:
    rows = []
    for stitch, modes, repeats in PATHS:
        ours, alone = _compared(
            "forward_call", ("stitched", "exported"), {"stitch": stitch}, repeats=repeats, warm_ups=1, modes=modes
        )
        ratios = [_ratio(ours.reuse_ms, alone.reuse_ms, 3), _ratio(ours.default_ms, alone.default_ms, 3)]
        rows.append([stitch, f"{ours.reuse_ms:.0f}", f"{alone.reuse_ms:.0f}", *ratios, repeats])
    head = ["stitch", "in the network, ms", "exported, ms", "ratio (reuse)", "ratio (default)", "best of"]
    print(f"`{MODEL}`, 8 images of 224 pixels, forward:\n")
    print(table(head, rows))

    switch = compare({"switch": Job("benchmarks.stitching:switch_call", {})}, modes=("reuse",))["switch"]
    print(f"\n`set_stitch` takes {1e3 * switch.reuse_ms / SWITCHES:.1f} µs.")

    rows = []
    sides = ("ours", "official")
    for front, end, targets, modes, repeats in MAPS:
        case = {"front": front, "end": end, "targets": targets}
        ours, theirs = _compared("fit_call", sides, case, repeats=repeats, warm_ups=1, modes=modes)
        times = [f"{ours.default_ms:.0f}", f"{theirs.default_ms:.0f}", _ratio(theirs.default_ms, ours.default_ms)]
        peaks = [f"{ours.peak_mb:.0f}", f"{theirs.peak_mb:.0f}", _ratio(theirs.peak_mb, ours.peak_mb, 1)]
        ratio = _ratio(theirs.reuse_ms, ours.reuse_ms)
        rows.append([f"{front} → {end}", targets, *times, ratio, *peaks, repeats])
    head = ["map", "ends", "ours ms", "official ms", "speed-up (default)", "(reuse)"]
    head += ["peak MB, ours", "official", "ratio", "best of"]
    print(
        f"\nLeast squares of {IMAGES} images of {TOKENS} tokens, whose features come in batches of {BATCH}; *official* "
        "keeps them and takes the pseudo-inverse in float32, once for every end:\n"
    )
    print(table(head, rows))

    ours, theirs = _compared("init_call", sides, {}, repeats=1, warm_ups=0, modes=("default",))
    print(
        f"\n`init_stitches` of all layers between {' and '.join(PAIR)} on {IMAGES} images: "
        f"{ours.default_ms / 1e3:.1f} s and a peak of {ours.peak_mb:.0f} MB. The official form, which keeps the "
        f"features behind all blocks of both: {theirs.default_ms / 1e3:.1f} s and {theirs.peak_mb:.0f} MB, "
        f"{_ratio(theirs.default_ms, ours.default_ms)} and {_ratio(theirs.peak_mb, ours.peak_mb, 1)} times as much; "
        "one call each, default malloc."
    )

    shared, single = _compared("evaluate_call", ("shared", "one by one"), {}, repeats=1, warm_ups=0, modes=("default",))
    print(
        f"\nAll 71 paths of `{MODEL}` on an image: {shared.default_ms / 1e3:.1f} s with shared beginnings, "
        f"{single.default_ms / 1e3:.1f} s one by one, {_ratio(single.default_ms, shared.default_ms)} times as long; "
        "one call each, default malloc."
    )


if __name__ == "__main__":
    main()
