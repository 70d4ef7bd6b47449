"""Xet storage without a storage server: hf-xet can use a folder (`local://…`) in place of one.

The client then writes and reads that folder itself. The hub only has to learn which xet hash a file got, and finds
it in the shard files that the client leaves there.
"""

import os
import shutil
import struct
import tempfile
import threading
import time
from functools import cache
from pathlib import Path

from tests.hub.access import readable, writable
from tests.hub.errors import ApiError
from tests.hub.routes import Routes
from tests.hub.transport import Answer

routes = Routes()
RECORD = 48  # bytes of a shard's header and of each of its records
END = b"\xff" * 32
HAS_VERIFICATION, HAS_METADATA = 1 << 31, 1 << 30


class XetStore:
    """Folders that hf-xet writes and reads, one for each token that was handed out.

    hf-xet locks the folder that it uses for as long as its process lives, so no two clients can share one. A writer
    gets an empty folder, a reader a copy of the one that has his file.
    """

    def __init__(self, folder: Path):
        self.written, self.read = folder / "written", folder / "read"
        self.written.mkdir(parents=True, exist_ok=True)
        self.read.mkdir(exist_ok=True)
        self._lock = threading.Lock()
        self._files: dict[str, tuple[str, Path]] = {}  # sha256 -> xet hash, folder
        self._shards: set[Path] = set()

    def file_hash(self, sha256: str) -> str | None:
        """The xet hash of the file with this sha256, None if it was not uploaded by xet."""
        with self._lock:
            if sha256 not in self._files:
                for shard in set(self.written.glob("*/**/*.mdb")) - self._shards:
                    home = self.written / shard.relative_to(self.written).parts[0]
                    self._shards.add(shard)
                    self._files |= {key: (xet_hash, home) for key, xet_hash in file_hashes(shard.read_bytes()).items()}
            return self._files.get(sha256, (None, None))[0]

    def write_token(self) -> Answer:
        return _token(Path(tempfile.mkdtemp(dir=self.written)))

    def read_token(self, sha256: str) -> Answer:
        return _token(self._copy(sha256))

    def restore(self, sha256: str, target: Path) -> None:
        """Puts a file together, for clients that do not speak xet."""
        import hf_xet  # the only use of it; who uploads by xet has it

        fresh = target.with_suffix(f".{threading.get_ident()}.new")
        with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{self._copy(sha256)}") as group:
            group.start_download_file(hf_xet.XetFileInfo(self._files[sha256][0]), str(fresh))
        os.replace(fresh, target)

    def _copy(self, sha256: str) -> Path:
        copy = Path(tempfile.mkdtemp(dir=self.read))
        shutil.copytree(self._files[sha256][1], copy, copy_function=_link_or_copy, dirs_exist_ok=True)
        return copy


def _link_or_copy(source: str, target: str) -> None:
    if source.endswith(".redb"):  # the index, which is locked and rewritten; all else is written once
        shutil.copyfile(source, target)
    else:
        os.link(source, target)


def _token(folder: Path) -> Answer:
    url, token, expires = f"local://{folder}", "xet", int(time.time()) + 3600
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


@cache
def xet_problem() -> str | None:
    """Why xet cannot be tested here; None if it can. Tried for real: the folder as storage is not documented."""
    try:
        import hf_xet
    except ImportError:
        return "hf-xet is not installed"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{folder}") as commit:
                commit.start_upload_bytes(b"probe")
        except Exception as error:
            return f"this hf-xet does not take a folder as storage: {error}"
        if not any(Path(folder).rglob("*.mdb")):
            return "this hf-xet leaves no shard files in the folder"
    return None


def _hex(digest: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))


@routes("GET", "/api/models/{repo}/xet-write-token/{revision}")
def write_token(hub, request, repo_id, revision):
    writable(hub, request, repo_id)
    return hub.xet.write_token()


@routes("GET", "/api/models/{repo}/xet-read-token/{revision}")
def read_token(hub, request, repo_id, revision):
    files = readable(hub, request, repo_id).commit(revision).files.values()
    wanted = request.query.get("sha256")  # we put it there ourselves, into the link that names this page
    for file in files:
        if wanted in (None, file.sha256) and hub.xet.file_hash(file.sha256):
            return hub.xet.read_token(file.sha256)
    raise ApiError(404, "No such file in xet storage", "EntryNotFound")
