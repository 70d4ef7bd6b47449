"""KaryoNet's modules keep what every registered module promises."""

from __future__ import annotations

import subprocess
import sys

#: Compiled by torch's own compiler in `test_systems`.
_RUN = """
import torch
from zoo.testing import check_module


def drawn(width):
    return lambda rows: torch.randn(rows, 2, width, generator=torch.Generator().manual_seed(0))


check_module(
    "case/karyonet_assignment",
    options={"hidden_dim": 3, "head_dim": 4, "num_layers": 1},
    example=drawn(2),
    compiler="eager",
    exceptions={"compile": "torch.compile does not look into torch.nn.GRU; it runs around it"},
)
check_module(
    "case/karyonet_interaction",
    options={"dim": 8, "num_heads": 2, "ff_dim": 6, "num_layers": 1},
    example=drawn(8),
    compiler="eager",
)
"""


def test_the_registered_modules_keep_their_contract():
    """In a process of its own: compilers cannot look through the session's run-time checks."""
    done = subprocess.run([sys.executable, "-c", _RUN], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
