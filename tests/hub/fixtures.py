"""pytest fixtures around the test hub, for tests in this process and in fresh ones."""

import atexit
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.access import ALICE, ALICE_READ, BAD_TOKEN, BOB
from tests.hub.server import HubServer

ROOT = Path(__file__).parents[2]
# What a user may have set for the real Hub and what must not reach a test.
_FOREIGN = (
    "HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_ASSETS_CACHE HF_TOKEN_PATH HF_XET_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE "
    "HF_HUB_DISABLE_IMPLICIT_TOKEN HUGGING_FACE_HUB_TOKEN"
).split()
_session: HubServer | None = None


def hub_env(server: HubServer, home: Path, token: str | None = ALICE) -> dict[str, str]:
    """Environment in which huggingface_hub talks to `server` and to nobody else."""
    env = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    env.pop("HF_TOKEN", None)
    env |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1"}
    env |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    return env | ({"HF_TOKEN": token} if token else {})


def start_for_session() -> HubServer:
    """Starts the session's server and points this process at it. Call before huggingface_hub is imported.

    The client reads its settings once, at import; called too late, this raises RuntimeError.
    """
    global _session
    if _session is None:
        if "huggingface_hub.constants" in sys.modules:
            raise RuntimeError("huggingface_hub is already imported: start_for_session() must come first in conftest.py")
        _session = HubServer()
        atexit.register(_session.close)
        for name in (*_FOREIGN, "HF_HUB_DISABLE_XET"):
            os.environ.pop(name, None)
        os.environ.update(hub_env(_session, _session.folder / "home"))
    return _session


class Hub:
    """The server as a test sees it: empty at the start of the test, with tokens and a home folder.

    Attributes: `server`, `endpoint`, `cdn`, `requests`, `token` (alice, may write), `read_token` (alice, may read),
    `other_token` (bob, may write to his own), `bad_token` (unknown), `home` (HF_HOME of subprocesses).
    """

    token, read_token, other_token, bad_token = ALICE, ALICE_READ, BOB, BAD_TOKEN
    _used = 0

    def __init__(self, server: HubServer, home: Path):
        self.server = server
        self.home = home
        self.endpoint, self.cdn, self.requests = server.endpoint, server.cdn, server.requests
        self.fail_next, self.down = server.fail_next, server.down

    def repo_id(self, name: str = "model", owner: str = "alice") -> str:
        """A repository id that no other test uses, as clients in this process share one cache."""
        Hub._used += 1
        return f"{owner}/{name}-{Hub._used}"

    def env(self, **changes: str | None) -> dict[str, str]:
        """Environment for a subprocess; a value of None removes the variable."""
        env = hub_env(self.server, self.home) | {"PYTHONPATH": str(ROOT)}
        env |= {name: value for name, value in changes.items() if value is not None}
        return {name: value for name, value in env.items() if changes.get(name, "") is not None}

    def run_python(
        self, code: str, *args: str, check: bool = True, timeout: float = 120, **env: str | None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a script in a fresh Python against this hub. With `check`, a failing script fails the test."""
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code), *args],
            env=self.env(**env),
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            pytest.fail(f"the script ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def seen(self, method: str = "*", path: str = "*") -> list[str]:
        """`METHOD path` of the logged requests that match the glob patterns."""
        return [f"{r.method} {r.path}" for r in self.requests if r.matches(method, path)]


@pytest.fixture(scope="session")
def hub_server() -> HubServer:
    return start_for_session()


@pytest.fixture
def hub(hub_server: HubServer, tmp_path: Path) -> Iterator[Hub]:
    hub_server.reset()
    home = tmp_path / "hf-home"
    home.mkdir()
    yield Hub(hub_server, home)
    assert not hub_server.crashes, "the test hub itself failed:\n" + "\n".join(hub_server.crashes)
