"""PCSR: against the authors' algorithm, and beside the networks that it is made from.

`python -m benchmarks.pcsr` prints a Markdown table; `python -m benchmarks.pcsr fsrcnn` the rows of one network. Weights
are drawn: time depends on them through the class map alone, and the classifier is set so that about 30 % of the pixels
are heavy at k = 0. The other side is `zoo.models.super_resolution.reference`.
"""

import sys

import torch
import torch.nn.functional as F

from benchmarks._measure import Job, Workload, compare, table
from zoo.models.super_resolution import reference
from zoo.models.super_resolution.backbone import make_network
from zoo.models.super_resolution.pcsr import PCSR

#: Width of the backbone, hidden layers of light, heavy and classifier, as published; side of the image.
NETWORKS = {
    "carn": ({"nf": 52}, ((20,) * 3, (74,) * 4), (10, 10), 256),
    "fsrcnn": ({"d": 48}, ((10,) * 3, (58,) * 4), (), 256),
    "srresnet": ({"nf": 58}, ((40,) * 3, (170,) * 4), (20, 20), 128),
}
CARN_MEAN = (0.4488, 0.4371, 0.4040)
#: Ways of deciding: exponent of the costs, whether by clusters, whether seams are smoothed.
MODES = {
    "k = 0": (0, False, True),
    "ADM": (0, True, True),
    "all heavy": (-40, False, False),
    "all light": (40, False, False),
}
REPEATS, WARM_UPS = 3, 1


def picture(side: int, generator: torch.Generator) -> torch.Tensor:
    """A smooth image with noise."""
    coarse = torch.rand(1, 3, side // 8, side // 8, generator=generator)
    smooth = F.interpolate(coarse, (side, side), mode="bicubic")
    return smooth + 0.05 * torch.randn(1, 3, side, side, generator=generator)


@torch.no_grad()
def network(name: str, side: int) -> tuple[PCSR, torch.Tensor]:
    """A network in evaluation, and an image of which it finds 30 % heavy."""
    torch.manual_seed(0)
    widths, hidden, classifier, _ = NETWORKS[name]
    mean = CARN_MEAN if name == "carn" else None
    model = PCSR({"name": name, **widths}, hidden, classifier, mean=mean).eval()
    generator = torch.Generator().manual_seed(1)
    x = picture(side, generator)
    crop = model.normalisation(x[:, :, :128, :128])
    scores = model.scores(model.encoder(crop), (4 * crop.shape[2], 4 * crop.shape[3]))[0]
    margins = (scores[1] - scores[0]).flatten()
    chosen = torch.randperm(len(margins), generator=generator)[:100_000]
    model.classifier.linears[-1].bias[1] -= margins[chosen].quantile(0.7)
    return model, x


def call(side: str, name: str, mode: str, pixels: int) -> Workload:
    """One image of `pixels` x `pixels`; `side` is "ours", "official" or "original"."""
    if side == "original":
        torch.manual_seed(0)
        original, x = make_network(name, {}).eval(), picture(pixels, torch.Generator().manual_seed(1))

        def run() -> None:
            with torch.no_grad():
                original(x)

        return Workload(run)
    model, x = network(name, pixels)
    k, adm, refine = MODES[mode]

    def ours() -> None:
        with torch.no_grad():
            model(x, k=k, policy="adm" if adm else "argmax", refine=refine)

    def official() -> None:
        with torch.no_grad():
            reference.enlarge(model, x, k=k, adm=adm, refine=refine)

    return Workload(ours if side == "ours" else official)


def rows_of(name: str) -> list[list[str]]:
    """A row for each way of deciding."""
    pixels = NETWORKS[name][-1]
    rows = []
    for mode in MODES:
        sides = ("ours", "official", *(["original"] if mode == "k = 0" else []))
        jobs = {
            side: Job("benchmarks.pcsr:call", {"side": side, "name": name, "mode": mode, "pixels": pixels})
            for side in sides
        }
        found = compare(jobs, REPEATS, WARM_UPS)
        ours, official = found["ours"], found["official"]
        rows.append(
            [
                f"{name} {pixels}²",
                mode,
                f"{ours.reuse_ms:.0f}",
                f"{official.reuse_ms:.0f}",
                f"{official.reuse_ms / ours.reuse_ms:.2f}",
                f"{official.default_ms / ours.default_ms:.2f}",
                f"{found['original'].reuse_ms:.0f}" if "original" in found else "",
                f"{ours.peak_mb:.0f}",
                f"{official.peak_mb:.0f}",
            ]
        )
    return rows


def main() -> None:
    rows = [row for name in sys.argv[1:] or NETWORKS for row in rows_of(name)]
    head = [
        "backbone, image",
        "classes",
        "ours ms",
        "official ms",
        "speed-up (reuse)",
        "(default)",
        "plain network ms",
        "peak MB, ours",
        "official",
    ]
    print(
        "Four times enlarged. *official* is the authors' algorithm; *plain network* is the one without pixel-wise "
        f"decisions, with its own tail and published width. Best of {REPEATS} calls after {WARM_UPS} warm-up.\n"
    )
    print(table(head, rows))
    print(
        "\nThe plain FSRCNN is faster than PCSR on FSRCNN whatever is decided: its transposed convolution is charged "
        "16 times what it does in the published FLOPs."
    )


if __name__ == "__main__":
    main()
