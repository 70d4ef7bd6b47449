"""A Hugging Face Hub on loopback, for tests and for trying things out without the internet.

`python -m tests.hub -- COMMAND` runs a command against it.
"""

from tests.hub.access import ALICE, ALICE_READ, BAD_TOKEN, BOB
from tests.hub.server import HubServer

__all__ = ["ALICE", "ALICE_READ", "BAD_TOKEN", "BOB", "HubServer"]
