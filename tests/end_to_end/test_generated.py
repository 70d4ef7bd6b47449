"""Generated pages are what their generators write."""

from __future__ import annotations

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_gallery_is_up_to_date():
    module = runpy.run_path(str(ROOT / "docs/generate.py"))
    assert (ROOT / "docs/gallery.md").read_text() == module["gallery"](), "run: python docs/generate.py"
