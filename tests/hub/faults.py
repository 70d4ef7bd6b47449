"""Failures on demand: what goes wrong, on which request, how often."""

import threading
from dataclasses import dataclass, field
from fnmatch import fnmatchcase


@dataclass
class Fault:
    """One planned failure. Applies to the next `times` requests whose method and path match.

    method, path: glob patterns; `*` in a path also matches slashes. The path is decoded and has no query.
    status: answer with this status instead of the right one; 0 closes the connection without any answer;
        None leaves the status alone (for the body faults below).
    after_commit: the request is carried out first, only its answer is lost.
    headers: added to the failing answer, e.g. `{"Retry-After": "1"}`.
    body: what the failing answer holds, in place of JSON that says so (a proxy's page, say).
    delay: seconds to wait before anything else.
    drop_after: the body breaks off after so many bytes and the connection closes.
    truncate: the body ends after so many bytes and Content-Length agrees.
    corrupt: one byte in the middle of the body is flipped; the size stays.
    """

    method: str
    path: str
    status: int | None = 503
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    after_commit: bool = False
    delay: float = 0.0
    drop_after: int | None = None
    truncate: int | None = None
    corrupt: bool = False

    def __post_init__(self) -> None:
        if self.corrupt or self.truncate is not None or self.drop_after is not None:
            self.status = None


class Faults:
    """The planned failures of one server, in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._planned.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The failure for this request, if one is planned; counts it as used."""
        with self._lock:
            for fault in self._planned:
                if fault.times > 0 and fnmatchcase(method, fault.method) and fnmatchcase(path, fault.path):
                    fault.times -= 1
                    return fault
        return None
