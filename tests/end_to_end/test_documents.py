"""Every python block of the README and of the documentation runs, page by page, from top to bottom.

A page runs in a fresh Python in an empty folder, with a Hub of its own. The account in the pages is `me`, the user of
that Hub is alice: the name is replaced. `my_images` and `photo.png` are made from real digits.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)

PREPARE = """
import numpy as np
from pathlib import Path
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits

digits = load_digits()
for name, digit in (("one", 1), ("seven", 7)):
    folder = Path("my_images") / name
    folder.mkdir(parents=True)
    for i, image in enumerate(digits.images[digits.target == digit][:24]):
        Image.fromarray((image * 15.9375).astype("uint8")).resize((32, 32)).save(folder / f"{i}.png")
Image.fromarray((digits.images[0] * 15.9375).astype("uint8")).save("photo.png")
"""


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda p: str(p.relative_to(ROOT)))
@pytest.mark.filterwarnings("ignore")
def test_python_blocks_run(page, hub):
    code = "\n".join(blocks(page)).replace('"me/', '"alice/').replace("hf-hub:me/", "hf-hub:alice/")
    prelude = PREPARE
    if "runs/mine.safetensors" in code:
        prelude += (
            "import zoo\nPath('runs').mkdir()\n"
            "save_file(zoo.create_model('medvit2_kan_nano', pretrained=True).state_dict(), 'runs/mine.safetensors')\n"
        )
    hub.run_python(prelude + code, timeout=500)
