"""Runs benchmarks and writes docs/benchmarks.md: `python -m benchmarks` (all of them, hours on one core), or
`python -m benchmarks kan loading` (only these sections; the others stay as they are).

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
    "neighborhood_attention": "Neighbourhood attention",
    "kan": "KAN block",
    "kan_linear": "KAN layers",
    "kan_grid": "Moving the knots of KAN layers",
    "kan_learning": "KAN layers: a learning check",
    "kan_selection": "Features chosen by KANs: a learning check",
    "vgg_kagn": "VGG-KAGN",
    "medvit2": "MedViTV2",
    "tversky": "Tversky projection",
    "tversky_feature_level": "Tversky similarity, feature by feature",
    "tversky_cross_entropy": "Tversky head with cross-entropy",
    "tversky_heads": "Linear and Tversky heads on one backbone",
    "hopfield": "Hopfield associations, lookups and sparse maps",
    "hopfield_pooling": "Hopfield pooling",
    "hopfield_memory": "Retrieval from a large memory",
    "hopfield_learning": "Hopfield layers: a learning check",
    "quantum_farhi_neven": "The QNN of Farhi and Neven",
    "quantum_farhi_neven_learning": "The QNN of Farhi and Neven: a learning check",
    "quantum_tensor_networks": "Quantum tensor networks",
    "quantum": "Simulated circuits",
    "quantum_wide": "Circuits too wide for all amplitudes",
    "stitching": "Stitched networks",
    "stitch_learning": "Stitched networks: a learning check",
    "pcsr": "Super-resolution by pixels",
    "pcsr_memory": "Super-resolution by pixels: memory",
    "karyotype": "Karyotypes: dispatch and KaryoNet",
    "varifocal": "Varifocal networks",
    "loading": "Loading a checkpoint",
    "token_order": "Token order and dilation: a learning check",
}
PAGE = Path(__file__).parents[1] / "docs/benchmarks.md"

HEAD = """# Benchmarks

Written by `python -m benchmarks` on: {machine}; timm {timm}.

All sides of a table run in one go, each in a fresh process with one thread, taking turns; what is shown is CPU time
of a call, the best of at least seven turns after two warm-ups. A turn is a call, or a loop of as many as fill 20 ms (in
sections written before loops were, always a single one). The C allocator can decide more than the algorithm: *reuse* is
with memory kept for reuse (`MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456`),
*default* with malloc as it is. Peak is the growth of the process's high-water mark over its state before the first
call; *saved* counts the bytes kept for the backward pass. Compare ratios, not milliseconds: another machine has
others.

The sections below, and some rows within them, are of separate runs, at different states of the code, while other work
shared the machine.
"""


def section(module: str, body: str) -> str:
    """A section of the page: title, command, what the command printed."""
    return f"## {SECTIONS[module]}\n\n`python -m benchmarks.{module}`\n\n{body.strip()}\n"


def kept_sections() -> dict[str, str]:
    """Sections of the page as it is now, by module."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    found = {}
    for part in text.split("\n## ")[1:]:
        for module, title in SECTIONS.items():
            if part.startswith(f"{title}\n"):
                found[module] = f"## {part.strip()}\n"
    return found


def main() -> None:
    chosen = sys.argv[1:] or list(SECTIONS)
    if unknown := sorted(set(chosen) - set(SECTIONS)):
        sys.exit(f"unknown benchmark {unknown[0]!r}; there are {', '.join(SECTIONS)}")
    for module in chosen:
        print(f"measuring: {SECTIONS[module]}", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", f"benchmarks.{module}"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        sections = kept_sections() | {module: section(module, done.stdout)}
        head = HEAD.format(machine=machine(), timm=version("timm"))
        write_text(PAGE, "\n".join([head, *(sections[m] for m in SECTIONS if m in sections)]))


if __name__ == "__main__":
    main()
