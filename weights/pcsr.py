"""Makes `pcsr_srresnet_nano_x4.photos`, and measures it: `python weights/pcsr.py`.

It learns from photographs that come with scikit-learn and scikit-image. One of them chooses the epoch; three more are
only measured, once, at the end. A run that was cut off goes on. `python weights/pcsr.py table` measures alone.
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zoo
from zoo.weights.save import save_safetensors

FILE = Path(__file__).with_name("pcsr_srresnet_nano_x4.photos.safetensors")
NAME = "pcsr_srresnet_nano_x4"
TRAIN = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/coins.png",
    "skimage/data/grass.png",
    "skimage/data/gravel.png",
    "skimage/data/ihc.png",
    "skimage/data/motorcycle_left.png",
    "sklearn/datasets/images/flower.jpg",
)
VAL = ("skimage/data/coffee.png",)
TEST = ("sklearn/datasets/images/china.jpg", "skimage/data/chelsea.png", "skimage/data/rocket.jpg")
UPDATES = (5000, 1250)
RECIPE = {"lr": 1e-3, "min_lr": 1e-6, "batch_size": 4, "patch_size": 24, "queries": 512, "epoch_patches": 5000}
#: What is measured: how pixels are given to the two networks.
POLICIES: dict[str, Any] = {
    "all light": "light",
    "k = 1": {"k": 1.0},
    "k = 0": {"k": 0.0},
    "ADM": "adm",
    "target 0.7": {"policy": "target", "target": 0.7},
    "all heavy": "heavy",
}


def files(names: tuple[str, ...]) -> list[Path]:
    """The photographs, where their packages are installed."""
    found = []
    for name in names:
        package, _, inside = name.partition("/")
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise SystemExit(f"{package} is not installed: pip install scikit-image scikit-learn")
        found.append(Path(spec.submodule_search_locations[0]) / inside)
    return found


def measure(net: nn.Module, names: tuple[str, ...] = TEST) -> dict[str, dict[str, Any]]:
    """PSNR, SSIM and costs by policy, and those of bicubic interpolation."""
    rows: dict[str, dict[str, Any]] = {}
    for title, policy in POLICIES.items():
        found = zoo.evaluate(net, files(names), policy=policy, progress=False)
        rows.setdefault("bicubic", {key: found[f"bicubic_{key}"] for key in ("psnr", "ssim", "psnr_y", "ssim_y")})
        rows[title] = found
    return rows


def table(net: nn.Module, rows: dict[str, dict[str, Any]]) -> str:
    """The measurements as Markdown; FLOPs as budgets count, as parts of all pixels heavy and the classifier."""
    lines = ["| | PSNR | SSIM | PSNR, luma | SSIM, luma | hard | FLOPs, paper | FLOPs, true |", "|---|" + 7 * "---|"]
    # Shares are those of any size. "heavy" asks no classifier.
    parts = {of: net.parts((16, 16), (64, 64), of) for of in ("paper", "true")}  # pyright: ignore - of PCSR
    more = {of: part.whole() / (part.whole() - part.classifier) for of, part in parts.items()}
    whole = rows["all heavy"]
    for title, row in rows.items():
        cost = ["–"] * 3
        if "hard" in row:
            paper, true = (row[key] / whole[key] / more[of] for key, of in (("flops", "paper"), ("true_flops", "true")))
            cost = [f"{part:.1%}" for part in (row["hard"], paper, true)]
        quality = [f"{row[key]:.{digits}f}" for key, digits in (("psnr", 3), ("ssim", 4), ("psnr_y", 3), ("ssim_y", 4))]
        lines.append(f"| {title} | {' | '.join([*quality, *cost])} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    if sys.argv[1:] != ["table"]:
        torch.manual_seed(0)
        net = zoo.create_model(NAME)
        data = {"train": files(TRAIN), "val": files(VAL)}
        result = zoo.finetune(net, data, phases=UPDATES, out=f"runs/{NAME}", **RECIPE)  # pyright: ignore
        print(save_safetensors(result.model.state_dict(), FILE), FILE.stat().st_size)
    net = zoo.create_model(NAME)
    zoo.load_weights(net, FILE)
    print(table(net, measure(net)))


if __name__ == "__main__":
    main()
