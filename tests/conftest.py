"""Set-up of the test session: one thread, a Hub server of our own, and run-time checks of every annotated shape."""

from __future__ import annotations

import gc
import os

# Thread counts and the Hub's constants are read when torch and huggingface_hub are imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for _name in ("GITHUB_ACTIONS", "ZOO_ALLOW_PICKLE", "ZOO_DEBUG"):
    os.environ.pop(_name, None)

from tests.hub.fixtures import start_for_session  # noqa: E402

start_for_session()

from jaxtyping import install_import_hook  # noqa: E402

import tests.checking  # noqa: E402, F401

install_import_hook(["zoo.layers", "zoo.models", "zoo.quantum"], "tests.checking.checked")


def pytest_collection_finish() -> None:
    """What the tests have imported stays until the end: the collector need not go through it again and again."""
    gc.collect()
    gc.freeze()


pytest_plugins = ["tests.hub.fixtures"]
