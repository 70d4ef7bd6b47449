"""Xet storage without a storage server: hf-xet can use a folder (`local://…`) in place of one.

The client then writes and reads that folder itself. The hub only has to learn which xet hash a file got, and finds
it in the shard files that the client leaves there.
"""

import struct
import time
from pathlib import Path

from tests.hub.access import readable, writable
from tests.hub.routes import Routes
from tests.hub.transport import Answer

routes = Routes()
RECORD = 48  # bytes of a shard's header and of each of its records
END = b"\xff" * 32
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30


class XetStore:
    """A folder in which hf-xet keeps chunks, and the file hashes found in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._hashes: dict[str, str] = {}
        self._read: set[Path] = set()

    def file_hash(self, sha256: str) -> str | None:
        """The xet hash of the file with this sha256, None if it was not uploaded by xet."""
        if sha256 not in self._hashes:
            for shard in set(self.folder.rglob("*.mdb")) - self._read:
                self._hashes |= file_hashes(shard.read_bytes())
                self._read.add(shard)
        return self._hashes.get(sha256)

    def token(self) -> Answer:
        url, token, expires = f"local://{self.folder}", "xet", int(time.time()) + 3600
        headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": token, "X-Xet-Token-Expiration": str(expires)}
        return Answer({"accessToken": token, "exp": expires, "casUrl": url}, headers=headers)


def file_hashes(shard: bytes) -> dict[str, str]:
    """sha256 -> xet hash of every file in the first section of a shard."""
    found = {}
    at = RECORD
    while at + RECORD <= len(shard) and shard[at : at + 32] != END:
        flags, segments = struct.unpack_from("<II", shard, at + 32)
        xet_hash = _hex(shard[at : at + 32])
        at += RECORD * (1 + segments * (2 if flags & HAS_VERIFICATION else 1))
        if flags & HAS_METADATA:
            found[_hex(shard[at : at + 32])] = xet_hash
            at += RECORD
    return found


def _hex(digest: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


@routes("GET", "/api/models/{repo}/xet-write-token/{revision}")
def write_token(hub, request, repo_id, revision):
    writable(hub, request, repo_id)
    return hub.xet.token()


@routes("GET", "/api/models/{repo}/xet-read-token/{revision}")
def read_token(hub, request, repo_id, revision):
    readable(hub, request, repo_id).commit(revision)
    return hub.xet.token()
