"""`python -m tests.hub [--keep DIR] -- COMMAND…`: runs a command against a hub of its own.

The command is user "alice" there, with an empty cache. Without a command the hub runs until Ctrl-C.
"""

import argparse
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.hub.access import ALICE
from tests.hub.environment import hub_env
from tests.hub.server import HubServer


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hub", description=__doc__)
    parser.add_argument("--keep", metavar="DIR", type=Path, help="keep the repositories in this folder")
    parser.add_argument("command", nargs="*", metavar="COMMAND", help="what to run, after --")
    options = parser.parse_args()
    server = HubServer(options.keep)
    try:
        with tempfile.TemporaryDirectory(prefix="hf-home-") as home:
            kept = f", kept in {server.folder}" if options.keep else ""
            print(f"hub at {server.endpoint} (HF_ENDPOINT; HF_TOKEN={ALICE} for user alice){kept}", file=sys.stderr)
            if not options.command:
                threading.Event().wait()
            signal.signal(signal.SIGINT, lambda *_: None)  # the command gets it too and decides itself how to end
            child = subprocess.Popen(options.command, env=hub_env(server, Path(home)))
            signal.signal(signal.SIGTERM, lambda *_: child.terminate())
            code = child.wait()
            return 128 - code if code < 0 else code  # ended by a signal: as a shell tells it
    except KeyboardInterrupt:
        return 130
    except FileNotFoundError as error:
        print(f"cannot run {options.command[0]}: {error.strerror}", file=sys.stderr)
        return 127
    finally:
        server.close()


if __name__ == "__main__":
    sys.exit(main())
