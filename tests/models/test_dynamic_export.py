"""One exported graph for images of any size. In a fresh process: the session's annotation checks stop the exporter."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import torch
import zoo
from torch.export import Dim

model = zoo.create_model("medvit2_kan_nano", pretrained=True).eval()
shapes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
program = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=shapes).module()
for size in ((2, 3, 64, 64), (3, 3, 96, 80), (5, 3, 40, 128)):
    x = torch.randn(size)
    torch.testing.assert_close(program(x), model(x), atol=1e-5, rtol=1e-5)
"""


def test_export_with_dynamic_height_and_width():
    subprocess.run([sys.executable, "-c", CODE], check=True)
