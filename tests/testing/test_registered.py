"""Every registered module keeps the contract of its kind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import zoo
from zoo.testing.kinds import KINDS

#: Compiled by torch's own compiler, one of each kind; the others by the quicker "aot_eager".
INDUCTOR = {"head/kan", "mixer/attention", "mlp/kan", "pool/avg", "act/gelu"}

_RUN = """
import json, sys
from zoo.testing import check_module

for name, arguments in json.load(sys.stdin):
    try:
        check_module(name, **arguments)
        print(json.dumps([name, ""]))
    except AssertionError as error:
        print(json.dumps([name, str(error)]))
"""


@pytest.fixture(scope="module")
def verdicts(request) -> dict[str, str]:
    """In one process of its own: compilers cannot look through the session's run-time checks."""
    # Of this file's own tests: other files have a fixture of the same name.
    own = [item for item in request.session.items if item.path == request.path]
    names = [item.callspec.params["name"] for item in own]
    cases = [(name, {"compiler": "auto" if name in INDUCTOR else "aot_eager"}) for name in names]
    done = subprocess.run(
        [sys.executable, "-c", _RUN], input=json.dumps(cases), capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(line) for line in done.stdout.splitlines())


#: Those of a kind whose call the contract knows; a memory's own tests say how it is called.
NAMES = [name for name in zoo.list_modules() if KINDS[name.partition("/")[0]].row is not None]


@pytest.mark.parametrize("name", NAMES)
def test_registered_module_keeps_its_contract(name, verdicts):
    assert not verdicts[name], verdicts[name]
