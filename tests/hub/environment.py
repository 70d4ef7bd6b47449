"""The environment in which huggingface_hub talks to a test hub and to nobody else."""

import atexit
import os
import sys
from pathlib import Path

from tests.hub.access import ALICE
from tests.hub.server import HubServer

# What a user may have set for the real Hub and what must not reach a test.
_FOREIGN = (
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HF_XET_CACHE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
)
_session: HubServer | None = None


def hub_env(server: HubServer, home: Path, token: str | None = ALICE) -> dict[str, str]:
    """Environment for a process that is the owner of `token` on `server` and keeps its cache in `home`."""
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return env | ({"HF_TOKEN": token} if token else {})


def start_for_session() -> HubServer:
    """The server of this process, started at the first call, with this process's environment pointing at it.

    huggingface_hub reads its settings once, at import; if that has happened already, this raises RuntimeError.
    """
    global _session
    if _session is None:
        if "huggingface_hub.constants" in sys.modules:
            raise RuntimeError("huggingface_hub is already imported: start the test hub before anything imports it")
        _session = HubServer()
        atexit.register(_session.close)
        for name in (*_FOREIGN, "HF_HUB_DISABLE_XET"):
            os.environ.pop(name, None)
        os.environ.update(hub_env(_session, _session.folder / "home"))
    return _session
