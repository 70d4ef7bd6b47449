"""The localisation head keeps what every registered module promises."""

from __future__ import annotations

import subprocess
import sys

_RUN = """
import torch
from zoo.testing import check_module

check_module(
    "localizer/varifocal",
    options={"dim": 3, "pool": 2, "hidden": 5},
    example=lambda rows: torch.randn(rows, 3, 6, 6, generator=torch.Generator().manual_seed(0)),
    compiler="aot_eager",
    exceptions={"dtype": "the region is float32 whatever the map is"},
)
"""


def test_the_registered_head_keeps_its_contract():
    """In a process of its own: compilers cannot look through the session's run-time checks."""
    done = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
