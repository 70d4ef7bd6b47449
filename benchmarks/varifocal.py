"""Varifocal networks: crop, trunk, and a case of 46 chromosomes.

`python -m benchmarks.varifocal` prints Markdown tables; `python -m benchmarks.varifocal crop trunk` some of them. The
peer of the crop is the community's RA-CNN: a loop over images, a mask of the whole image, a cut of whole pixels that is
enlarged, and a hand-written backward pass that is not its gradient. The peer of trunk and network is their plain form.
"""

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._measure import Job, Measurement, Workload, allocated_bytes, compare, table
from zoo.layers.varifocal import varifocal_crop
from zoo.models.varifocal import VarifocalNet
from zoo.models.varifocal.folding import FoldedTrunk, folded
from zoo.models.varifocal.registered import varifocal_chromosome_r18
from zoo.models.varifocal.wide_trunk import WideTrunk


class RacnnCrop(torch.autograd.Function):
    """The crop of RA-CNN as the community runs it: its arithmetic, image by image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, places: Tensor, size: int) -> Tensor:
        side, crops = images.shape[2], []
        pixels = torch.arange(side, dtype=images.dtype)
        unit = pixels.expand(side, side)
        x, y = (torch.stack([part] * images.shape[1]) for part in (unit.t(), unit))

        def h(v: Tensor) -> Tensor:
            return 1 / (1 + torch.exp(-10 * v))

        for image, place in zip(images, places, strict=True):
            tx, ty, tl = place
            tl = tl.clamp(min=side / 3)
            tx, ty = (t.clamp(min=float(tl), max=side - float(tl)) for t in (tx, ty))
            begin, end = [int(t - tl) for t in (tx, ty)], [int(t + tl) for t in (tx, ty)]
            mask = (h(x - begin[0]) - h(x - end[0])) * (h(y - begin[1]) - h(y - end[1]))
            cut = (image * mask)[:, begin[0] : end[0], begin[1] : end[1]]
            crops.append(F.interpolate(cut[None], (size, size), mode="bilinear", align_corners=True)[0])
        crop = torch.stack(crops)
        ctx.save_for_backward(crop)
        ctx.side = side
        return crop

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        """The square of the gradient, summed with signs by thirds of the crop."""
        norm = (gradients[0] * gradients[0]).sum(1)
        side = norm.shape[1]
        third = side // 3
        x = torch.arange(side, dtype=norm.dtype).expand(len(norm), side, side)
        y = x.mT
        short, long = third, side - third
        mx = (x >= long).to(norm.dtype) - (x < short).to(norm.dtype)
        my = (y >= long).to(norm.dtype) - (y < short).to(norm.dtype)
        edge = (x < short) | (x >= long) | (y < short) | (y >= long)
        ml = 2 * edge.to(norm.dtype) - 1
        return None, torch.stack([(norm * m).sum((1, 2)) * 1e-5 for m in (my, mx, ml)], 1), None


def crop(side: str, chans: int, pixels: int, size: int, training: bool) -> Workload:
    """46 images; `side` is "ours" or "racnn"."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(46, chans, pixels, pixels, generator=generator)
    middle = 0.4 + 0.2 * torch.rand(46, 2, generator=generator)
    half = torch.full((46, 1), 0.34)
    where = (
        torch.cat([middle - half, middle + half], 1) if side == "ours" else torch.cat([middle, half], 1) * pixels
    ).requires_grad_(training)

    def cropped() -> Tensor:
        if side == "ours":
            return varifocal_crop(images, where, size)
        made: Any = RacnnCrop.apply(images, where, size)
        return made

    def forward() -> None:
        with torch.no_grad():
            cropped()

    def backward() -> None:
        where.grad = None
        cropped().square().sum().backward()

    return Workload(backward if training else forward)


def trunk(side: str, pixels: int, training: bool, images: int = 1) -> Workload:
    """The paper's trunk on some images; `side` is "plain", "folded", "winograd" or "recomputed"."""
    torch.manual_seed(0)
    net: Any = WideTrunk(1)
    net.train(training)
    x = torch.rand(images, 1, pixels, pixels)
    if side in ("folded", "winograd"):
        net = FoldedTrunk(net, winograd=side == "winograd")
    if side == "recomputed":
        net.set_grad_checkpointing()

    def forward() -> None:
        with torch.inference_mode():
            net(x)

    def backward() -> None:
        net.zero_grad(set_to_none=True)
        net(x).square().mean().backward()

    if training:
        return Workload(backward, loss=lambda: net(x).square().mean(), own=[*net.parameters(), x])
    return Workload(forward)


def case(side: str, name: str) -> Workload:
    """46 chromosomes through a whole network and the dispatch; `side` is "plain" or "folded"."""
    torch.manual_seed(0)
    if name == "r18":
        net = varifocal_chromosome_r18().eval()
    else:
        net = VarifocalNet(widths=(64, 128, 256) if name == "w64" else (32, 64, 128)).eval()
    if side == "folded":
        net = folded(net)
    images = torch.rand(46, 1, 256, 256)
    return Workload(lambda: net.predict_case(images, batch_size=8))


def crop_rows() -> str:
    """V4, V5 and V6 of the baseline."""
    rows = []
    for chans, pixels, size in ((3, 224, 224), (1, 256, 128)):
        for training in (False, True):
            how = {"chans": chans, "pixels": pixels, "size": size, "training": training}
            jobs = {s: Job("benchmarks.varifocal:crop", {"side": s, **how}) for s in ("ours", "racnn")}
            found = compare(jobs)
            ours, peer = found["ours"], found["racnn"]
            rows.append(
                [
                    f"46x{chans}x{pixels}² to {size}²",
                    "forward + backward" if training else "forward",
                    f"{ours.reuse_ms:.1f}",
                    f"{peer.reuse_ms:.0f}",
                    f"{peer.reuse_ms / ours.reuse_ms:.1f}",
                    f"{peer.default_ms / ours.default_ms:.1f}",
                    f"{ours.peak_mb:.0f}",
                    f"{peer.peak_mb:.0f}",
                ]
            )
    head = ["crop", "", "ours ms", "RA-CNN ms", "speed-up (reuse)", "(default)", "peak MB, ours", "RA-CNN"]
    return table(head, rows)


def trunk_rows() -> str:
    """In evaluation, and in training, where the gradients of the weights, 146 MB, are there whatever is kept."""
    rows, training = [], []
    for pixels in (256, 128):
        sides = ("plain", "folded", "winograd")
        rows += [cells for _, cells in _against_plain(f"trunk {pixels}², evaluation", pixels, sides, training=False)]
    for images in (1, 4):
        what, sides = f"trunk {images} x 256², training", ("plain", "recomputed")
        held = {side: allocated_bytes(trunk(side, 256, True, images).run) / 1e6 for side in sides}
        for measured, cells in _against_plain(what, 256, sides, training=True, images=images):
            mb = held[cells[1]]
            training.append([*cells, f"{mb:.0f}", f"{mb / held['plain']:.2f}", f"{measured.saved_mb:.0f}"])
    return f"{table(_TRUNK, rows)}\n\n{table([*_TRUNK, *_TENSORS], training)}"


_TRUNK = ["what", "form", "ms", "speed-up (reuse)", "(default)", "peak MB", "of plain"]
_TENSORS = ["tensors MB", "of plain", "saved MB"]


def _against_plain(
    what: str, pixels: int, sides: tuple[str, ...], *, training: bool, images: int = 1
) -> list[tuple[Measurement, list[str]]]:
    how = {"pixels": pixels, "training": training, "images": images}
    jobs = {side: Job("benchmarks.varifocal:trunk", {"side": side, **how}) for side in sides}
    found = compare(jobs, repeats=max(1, 3 // images), warm_ups=1)
    plain = found["plain"]
    return [
        (
            m,
            [
                what,
                side,
                f"{m.reuse_ms:.0f}",
                f"{plain.reuse_ms / m.reuse_ms:.2f}",
                f"{plain.default_ms / m.default_ms:.2f}",
                f"{m.peak_mb:.0f}",
                f"{m.peak_mb / plain.peak_mb:.2f}",
            ],
        )
        for side, m in found.items()
    ]


def case_rows() -> str:
    """A case of 46 chromosomes on the small networks."""
    rows = []
    for name, sides in (("r18", ("plain",)), ("w32", ("plain", "folded"))):
        jobs = {side: Job("benchmarks.varifocal:case", {"side": side, "name": name}) for side in sides}
        for side, m in compare(jobs, repeats=2, warm_ups=1).items():
            rows.append([f"varifocal_chromosome_{name}", side, f"{m.reuse_ms / 1e3:.1f}", f"{m.peak_mb:.0f}"])
    return table(["46 chromosomes, both scales and dispatch", "form", "s", "peak MB"], rows)


PARTS = {"crop": crop_rows, "trunk": trunk_rows, "case": case_rows}


def main() -> None:
    print(
        "*RA-CNN* is the community's crop, image by image; its backward pass is not the gradient of the crop, ours is. "
        "*folded* is the trunk with its second norms folded, *winograd* with 3x3 convolutions of fewer "
        "multiplications, too, *recomputed* computes every unit again in the backward pass. One image at a time "
        "unless said otherwise; best of three calls of trunks, of one with four images, and of two with cases. *peak* "
        "is of the process, under malloc as it is; *tensors* is what torch has allocated at most, as a GPU would count "
        "it: the rest is scratch memory of libraries and what malloc loses between blocks.\n"
    )
    for name in sys.argv[1:] or PARTS:
        print(PARTS[name](), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
