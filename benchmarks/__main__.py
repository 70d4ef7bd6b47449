"""Runs every benchmark and writes docs/benchmarks.md: `python -m benchmarks` (about half an hour on one core).

Each benchmark module prints its own section as Markdown: `python -m benchmarks.neighborhood_attention`, and so on.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from benchmarks._measure import machine
from zoo.files import write_text

SECTIONS = {
    "Neighbourhood attention": "neighborhood_attention",
    "KAN block": "kan",
    "MedViTV2": "medvit2",
    "Loading a checkpoint": "loading",
    "Token order and dilation: a learning check": "token_order",
}
PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"

HEAD = """# Benchmarks

Written by `python -m benchmarks` on: {machine}; timm {timm}.

All sides of a table run in one go, each in a fresh process with one thread, taking turns; what is shown is CPU time,
the best of at least seven calls after two warm-ups. The C allocator can decide more than the algorithm: *reuse* is
with memory kept for reuse (`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456`),
*default* with malloc as it is. Peak is the growth of the process's high-water mark over its state before the first
call; *saved* counts the bytes kept for the backward pass. Compare ratios, not milliseconds: another machine has
others.
"""


def main() -> None:
    sections = [HEAD.format(machine=machine(), timm=version("timm"))]
    for title, module in SECTIONS.items():
        print(f"measuring: {title}", file=sys.stderr, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{module}"], stdout=subprocess.PIPE, text=True, check=True
        )
        sections.append(f"## {title}\n\n`python -m benchmarks.{module}`\n\n{done.stdout.strip()}\n")
    write_text(PAGE, "\n".join(sections))


if __name__ == "__main__":
    main()
