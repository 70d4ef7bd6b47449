"""Set-up of the test session: one thread, a fresh Hub cache, and run-time checks of every annotated shape."""

from __future__ import annotations

import os
import tempfile

# Thread counts and the Hub's constants are read when torch and huggingface_hub are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("GITHUB_ACTIONS", None)
_CACHE = tempfile.TemporaryDirectory(prefix="zoo-tests-", ignore_cleanup_errors=True)
os.environ["HF_HOME"] = _CACHE.name
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for _name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "ZOO_ALLOW_PICKLE", "ZOO_DEBUG"):
    os.environ.pop(_name, None)

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(["zoo.layers", "zoo.models"], "beartype.beartype")

pytest_plugins = ["tests.hub.fixtures"]
