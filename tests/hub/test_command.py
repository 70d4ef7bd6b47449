"""`python -m tests.hub -- COMMAND`: the hub for one command."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os, sys
from huggingface_hub import HfApi, CommitOperationAdd, constants
api = HfApi()
assert api.whoami()["name"] == "alice"
if sys.argv[1] == "push":
    api.create_repo("alice/kept")
    api.create_commit("alice/kept", [CommitOperationAdd("model.safetensors", b"abc")], commit_message="m")
path = api.hf_hub_download("alice/kept", "model.safetensors")
print(constants.ENDPOINT, constants.HF_HOME, open(path).read())
sys.exit(7)
"""


def start(*arguments: str, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.hub", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, text=True, **pipes, **options)


def refused(endpoint: str) -> bool:
    host, port = endpoint.removeprefix("http://").split(":")
    with socket.socket() as client:
        return client.connect_ex((host, int(port))) != 0


def test_the_command_is_alice_and_its_exit_code_is_ours(tmp_path):
    homes = set()
    for what in ("push", "pull"):  # the second hub goes on where the first one stopped
        hub = start("--keep", str(tmp_path), "--", sys.executable, "-c", SCRIPT, what)
        out, err = hub.communicate(timeout=60)
        assert hub.returncode == 7, err
        endpoint, home, content = out.split()
        assert err.startswith(f"hub at {endpoint} ")
        assert content == "abc"
        assert not Path(home).exists()
        assert refused(endpoint)
        homes.add(home)
    assert len(homes) == 2


def test_ctrl_c_ends_command_and_hub(tmp_path):
    hub = start("--", sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)",
                start_new_session=True)  # fmt: skip
    endpoint = hub.stderr.readline().split()[2]
    assert hub.stdout.readline() == "up\n"
    assert not refused(endpoint)
    os.killpg(hub.pid, signal.SIGINT)
    hub.communicate(timeout=20)
    assert hub.returncode == 128 + signal.SIGINT
    assert refused(endpoint)


def test_a_command_that_does_not_exist():
    hub = start("--", "no-such-command")
    _, err = hub.communicate(timeout=20)
    assert hub.returncode == 127
    assert "cannot run no-such-command" in err
