"""The server: two ports on loopback (hub and CDN), one storage, one list of planned failures, one request log."""

import shutil
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.hub import commits, files, lfs, repos, xet
from tests.hub.errors import ApiError
from tests.hub.faults import Fault, Faults
from tests.hub.storage import Storage
from tests.hub.transport import Answer, Listener, Request

TABLES = {
    "hub": [repos.routes, commits.routes, files.routes, lfs.routes, xet.routes],
    "cdn": [lfs.cdn_routes],
}


class HubServer:
    """A Hugging Face Hub for tests, as far as huggingface_hub 2.4 can tell.

    folder: where repositories are kept; a temporary folder, removed at `close()`, if not given.

    Set `lfs_part_size` to a number of bytes and larger files are uploaded in parts.
    """

    def __init__(self, folder: Path | None = None):
        self._temporary = None if folder else Path(tempfile.mkdtemp(prefix="hub-"))
        self.folder = Path(folder or str(self._temporary)).resolve()
        self.storage = Storage(self.folder)
        self.xet = xet.XetStore(self.folder / "xet")
        self.faults = Faults()
        self.requests: list[Request] = []
        self.crashes: list[str] = []  # tracebacks of our own mistakes
        self.lfs_part_size: int | None = None
        self.lfs_parts: dict[tuple[str, int], tuple[str, bytes]] = {}
        self._resets = 0
        self._ports = {"hub": 0, "cdn": 0}
        self._listeners: list[Listener] = []
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['hub']}"

    @property
    def cdn(self) -> str:
        return f"http://127.0.0.1:{self._ports['cdn']}"

    def start(self) -> None:
        """Listens, on the same two ports as before if it was stopped."""
        for origin, port in self._ports.items():
            listener = Listener(self, origin, port)
            self._ports[origin] = listener.server_port
            self._listeners.append(listener)

    def stop(self) -> None:
        """Frees the ports; connections are refused from now on. The storage stays."""
        while self._listeners:
            self._listeners.pop().stop()

    def close(self) -> None:
        self.stop()
        if self._temporary:
            shutil.rmtree(self._temporary, ignore_errors=True)

    @contextmanager
    def down(self) -> Iterator[None]:
        """Nobody answers within this block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def reset(self) -> None:
        """Forgets repositories, failures and the log."""
        self.storage.clear()
        # A new folder rather than an emptied one: clients in this process hold the old one open.
        self._resets += 1
        self.xet = xet.XetStore(self.folder / f"xet-{self._resets}")
        self.faults.clear()
        self.lfs_parts.clear()
        self.lfs_part_size = None
        self.requests.clear()
        self.crashes.clear()

    def fail_next(self, method: str, path: str, **fault: Any) -> None:
        """Plans a failure of the next request that matches; see `Fault` for what can go wrong."""
        self.faults.add(Fault(method, path, **fault))

    def has_object(self, sha256: str) -> bool:
        """Whether the bytes of a large file have arrived, by LFS or by xet."""
        return self.storage.blob(sha256).is_file() or self.xet.file_hash(sha256) is not None

    def answer(self, request: Request) -> Answer:
        try:
            for table in TABLES[request.origin]:
                if found := table.find(request.method, request.path_for_models):
                    handler, segments = found
                    value = handler(self, request, *segments)
                    return value if isinstance(value, Answer) else Answer(value)
            raise ApiError(404, f"No such page: {request.method} {request.path}")
        except ApiError as error:
            return Answer(error.body, status=error.status, headers=error.headers)
        except Exception as error:  # a mistake of ours, or a malformed request: tell both sides
            self.crashes.append(traceback.format_exc())
            return Answer({"error": f"{type(error).__name__}: {error}"}, status=500)
