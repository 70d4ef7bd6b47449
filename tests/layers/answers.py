"""What expressions answer in a process without the session's checks of annotations, which would speak first."""

import json
import subprocess
import sys
from collections.abc import Iterable

_SCRIPT = """
import json, sys, warnings, torch
from torch import nn
warnings.simplefilter("ignore")
{preparation}
for case in json.load(sys.stdin):
    try:
        eval(case)
        print(json.dumps([case, "no error"]))
    except Exception as error:
        print(json.dumps([case, f"{{type(error).__name__}}: {{error}}"]))
"""


def answers(cases: Iterable[str], preparation: str) -> dict[str, str]:
    """Expression -> "Type: message" of its error, or "no error".

    Args:
        cases: expressions.
        preparation: statements before them: imports and names that they use; torch and nn are there.
    """
    script = _SCRIPT.format(preparation=preparation)
    done = subprocess.run(
        [sys.executable, "-c", script], input=json.dumps(list(cases)), capture_output=True, text=True, check=True
    )
    return dict(json.loads(line) for line in done.stdout.splitlines())
