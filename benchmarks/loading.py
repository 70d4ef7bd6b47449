"""Loading a 327 MiB checkpoint (ViT-B/16, 9 classes) from a folder: the zoo against timm.

`python -m benchmarks.loading` prints a Markdown section. Every measurement is a process of its own, as a load happens
once in the life of a program; the sides take turns, the best of seven counts. Time is CPU time of the call that gives
the model; memory is the growth of the high-water mark during that call, and with a first forward pass after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._measure import REPEATS, table

ARCHITECTURE = "vit_base_patch16_224"
_CHILD = """
import gc, json, sys, time
import torch
import timm
import zoo.factory, zoo.weights.meta
from benchmarks._measure import _forget_high_water, _memory
torch.set_num_threads(1)
side, folder = sys.argv[1:]
image = torch.zeros(1, 3, 224, 224)
before = _forget_high_water()
gc.collect()  # else the collection that the imports are due for falls into one side or the other by chance
begin = time.process_time()
if side == "timm":
    model = timm.create_model(f"local-dir:{folder}", pretrained=True)
else:
    model = zoo.factory.create_model(f"local-dir:{folder}")
ms = 1e3 * (time.process_time() - begin)
loaded = (_memory("VmHWM") - before) / 2**20
model.eval()
with torch.inference_mode():
    model(image)
print(json.dumps({"ms": ms, "loaded": loaded, "used": (_memory("VmHWM") - before) / 2**20}))
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folders = _write(Path(scratch))
        homes = {"fresh": None, "known": str(Path(scratch) / "home")}
        sides = {
            "timm": ("timm", "timm", "fresh"),
            "zoo, first time (values checked)": ("zoo", "timm", "fresh"),
            "zoo, file known": ("zoo", "timm", "known"),
            "zoo, own file, first time (SHA-256 too)": ("zoo", "zoo", "fresh"),
            "zoo, own file, known": ("zoo", "zoo", "known"),
        }
        for side, folder in (("zoo", "timm"), ("zoo", "zoo")):
            _measure(side, folders[folder], homes["known"])  # makes the file known, and warms the page cache
        results: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
        for _ in range(REPEATS):
            for name, (side, folder, home) in sides.items():
                results[name].append(_measure(side, folders[folder], homes[home]))
        size = (folders["timm"] / "model.safetensors").stat().st_size / 2**20
        print(_report(results, size))


def _write(scratch: Path) -> dict[str, Path]:
    import timm
    from timm.models import save_for_hf

    from zoo.publish import save_pretrained

    model = timm.create_model(ARCHITECTURE, num_classes=9)
    save_for_hf(model, str(scratch / "timm"), safe_serialization=True)
    save_pretrained(model, scratch / "zoo", verify=False)
    return {"timm": scratch / "timm", "zoo": scratch / "zoo"}


def _measure(side: str, folder: Path, home: str | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as fresh:
        env = {**os.environ, "HF_HOME": home or fresh}
        env |= {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, side, str(folder)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=env,
            cwd=Path(__file__).parent.parent,
        )
    return json.loads(done.stdout.splitlines()[-1])


def _report(results: dict[str, list[dict[str, float]]], size: float) -> str:
    best = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()}
    base = best["timm"]
    rows = [
        [
            name,
            f"{it['ms']:.0f}",
            f"{it['ms'] / base['ms']:.2f}",
            f"{it['loaded']:.0f}",
            f"{it['loaded'] / size:.2f}",
            f"{it['used'] / size:.2f}",
        ]
        for name, it in best.items()
    ]
    head = ["side", "CPU ms", "of timm's", "extra MiB", "of the file", "after a forward"]
    return (
        f"{ARCHITECTURE} with 9 classes, {size:.0f} MiB of safetensors in a folder, written by timm or by the zoo. "
        f"The file is in the page cache. timm checks neither values nor sums.\n\n{table(head, rows)}\n\n"
        "Target: at most a third of timm's CPU time and a quarter of its memory. The first load of a file with a "
        "recorded SHA-256 hashes it as well, which alone takes most of that time: this row misses the first target. "
        "The result is remembered."
    )


if __name__ == "__main__":
    main()
