"""pytest fixtures around the test hub, for tests in this process and in fresh ones.

conftest.py imports this before pytest can rewrite its asserts, hence PYTEST_DONT_REWRITE.
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.access import ALICE, ALICE_READ, BAD_TOKEN, BOB
from tests.hub.environment import hub_env, start_for_session
from tests.hub.server import HubServer
from tests.hub.xet import xet_problem

ROOT = Path(__file__).parents[2]


class Hub:
    """The server as a test sees it: empty at the start of the test, with tokens and a home folder.

    Attributes: `server`, `endpoint`, `cdn`, `requests`, `token` (alice, may write), `read_token` (alice, may read),
    `other_token` (bob, may write to his own), `bad_token` (unknown), `home` (HF_HOME of subprocesses), `cache`
    (the model cache in it; pass it as `cache_dir` for downloads in this process that must not find older ones).
    """

    token, read_token, other_token, bad_token = ALICE, ALICE_READ, BOB, BAD_TOKEN
    _used = 0

    def __init__(self, server: HubServer, home: Path):
        self.server = server
        self.home, self.cache = home, home / "hub"
        self.endpoint, self.cdn, self.requests = server.endpoint, server.cdn, server.requests
        self.fail_next, self.down = server.fail_next, server.down

    def repo_id(self, name: str = "model", owner: str = "alice") -> str:
        """A repository id that no other test uses, as downloads in this process share one cache by default."""
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


def pytest_configure(config: pytest.Config) -> None:
    # huggingface_hub 2.4 uploads LFS files in a way that its own HTTP client has deprecated.
    config.addinivalue_line("filterwarnings", "ignore:Use 'content=<...>' to upload raw bytes:DeprecationWarning")


@pytest.fixture(scope="session")
def hub_server() -> HubServer:
    """The session's server. It runs already: conftest.py calls `start_for_session` before huggingface_hub comes in."""
    return start_for_session()


@pytest.fixture
def hub(hub_server: HubServer, tmp_path: Path) -> Iterator[Hub]:
    hub_server.reset()
    home = tmp_path / "hf-home"
    home.mkdir()
    yield Hub(hub_server, home)
    assert not hub_server.crashes, "the test hub itself failed:\n" + "\n".join(hub_server.crashes)


@pytest.fixture(params=["lfs", "xet"])
def transfer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test twice: large files by LFS, then by xet. For subprocesses pass `HF_HUB_DISABLE_XET` on."""
    from huggingface_hub import constants

    if request.param == "xet" and (problem := xet_problem()):
        pytest.skip(problem)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", request.param == "lfs")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1" if request.param == "lfs" else "0")
    return request.param
