"""HTTP/1.1 on loopback: keep-alive, chunked bodies, ranges, the request log, and the planned failures.

Knows nothing of repositories: a request goes to `hub.answer`, what comes back is written out.
"""

import io
import json
import re
import socketserver
import tempfile
import threading
import time
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

from tests.hub.errors import ApiError
from tests.hub.faults import Fault

if TYPE_CHECKING:
    from tests.hub.server import HubServer

BLOCK = 2**16
NO_FAULT = Fault("", "", status=None)


@dataclass
class Request:
    """What came in. `raw_path` is still percent-encoded, so that `refs%2Fpr%2F1` is one segment of it."""

    origin: str  # "hub" or "cdn": the port it came to
    method: str
    raw_path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    stream: IO[bytes] = field(repr=False)
    status: int | None = None  # what was answered; None: connection closed without an answer

    @property
    def kind(self) -> str:
        """Of the repository that the address names: "model", "space" or "dataset"."""
        named = re.match(r"/(?:api/)?(space|dataset)s/", self.raw_path)
        return named[1] if named else "model"

    @property
    def path_for_models(self) -> str:
        """The address (still encoded) of the same page of a model: what is done with other kinds is the same."""
        path = re.sub(r"^/api/(spaces|datasets)/", "/api/models/", self.raw_path)
        return re.sub(r"^/(spaces|datasets)/", "/", path)

    @property
    def path(self) -> str:
        return unquote(self.raw_path)

    @property
    def body(self) -> bytes:
        self.stream.seek(0)
        return self.stream.read()

    def matches(self, method: str, path: str) -> bool:
        return fnmatchcase(self.method, method) and fnmatchcase(self.path, path)

    def json(self) -> Any:
        if self.headers.get("content-type") == "application/x-www-form-urlencoded":  # the client does so for paths-info
            return parse_qs(self.body.decode())
        try:
            return json.loads(self.body or b"{}")
        except ValueError as error:
            raise ApiError(400, f"The body is not JSON: {error}") from error


class Answer:
    """What goes out: JSON, or bytes (of a file too) of which the client may ask a range."""

    def __init__(self, value: Any = None, *, status: int = 200, headers: dict[str, str] | None = None):
        self.status = status
        self.headers = {"Content-Type": "application/json"} | (headers or {})
        content = b"" if value is None else json.dumps(value).encode()
        self.source: IO[bytes] = io.BytesIO(content)
        self.length = len(content)

    @classmethod
    def of_bytes(cls, source: Path, request: Request, headers: dict[str, str] | None = None) -> "Answer":
        size = source.stat().st_size
        start, end = _range(request.headers.get("range", ""), size)
        answer = cls(headers={"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes", **(headers or {})})
        if (start, end) != (0, size):
            answer.status = 206
            answer.headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        answer.source = source.open("rb")
        answer.source.seek(start)
        answer.length = end - start
        return answer


def _range(header: str, size: int) -> tuple[int, int]:
    """First byte and one past the last, of `bytes=a-b`, `bytes=a-` or `bytes=-n`."""
    unit, _, spec = header.partition("=")
    first, dash, last = spec.partition("-")
    if unit != "bytes" or not dash:
        return 0, size
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        error = ApiError(416, f"Range {header} is outside of a file of {size} bytes")
        error.headers["Content-Range"] = f"bytes */{size}"
        raise error
    return start, end


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two writes; waiting for an ack between them costs 40 ms
    server: "Listener"

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has gone, as clients do
            self.close_connection = True

    def _serve(self) -> None:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        with tempfile.SpooledTemporaryFile(max_size=2**20) as stream:
            for chunk in self._incoming():
                stream.write(chunk)
            request = Request(self.server.origin, self.command, url.path, dict(parse_qsl(url.query)), headers, stream)
            try:
                self._reply(request)
            finally:
                request.stream = io.BytesIO(request.body[:BLOCK])  # for the log: small bodies whole

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815, names that http.server looks for

    def _incoming(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():  # trailers
                pass
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(left, BLOCK))
            if not chunk:
                raise ConnectionError("the client went away in mid-body")
            left -= len(chunk)
            yield chunk

    def _reply(self, request: Request) -> None:
        hub = self.server.hub
        hub.requests.append(request)
        fault = hub.faults.take(request.method, request.path)
        if fault:
            time.sleep(fault.delay)
        if fault is None or fault.status is None:
            answer = hub.answer(request)
        else:
            if fault.after_commit:
                hub.answer(request).source.close()
            if fault.status == 0:
                self.close_connection = True
                return
            answer = Answer({"error": f"planned failure {fault.status}"}, status=fault.status, headers=fault.headers)
            if fault.body is not None:
                answer.source, answer.length = io.BytesIO(fault.body), len(fault.body)
        request.status = answer.status
        with answer.source as source:
            self._write(request, answer, source, fault or NO_FAULT)

    def _write(self, request: Request, answer: Answer, source: IO[bytes], fault: Fault) -> None:
        length = answer.length if fault.truncate is None else min(answer.length, fault.truncate)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if request.method == "HEAD":
            return
        stop = length
        if fault.drop_after is not None:
            stop = min(length, fault.drop_after)
            self.close_connection = True
        wrong = length // 2 if fault.corrupt else -1
        sent = 0
        while sent < stop and (chunk := source.read(min(BLOCK, stop - sent))):
            if sent <= wrong < sent + len(chunk):
                chunk = bytearray(chunk)
                chunk[wrong - sent] ^= 0xFF
            self.wfile.write(chunk)
            sent += len(chunk)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: `hub.requests` is the log."""


class Listener(ThreadingHTTPServer):
    """One port. Stopping it also closes the connections that clients keep alive."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, hub: "HubServer", origin: str, port: int = 0):
        self.hub = hub
        self.origin = origin
        self._open: set[Any] = set()
        super().__init__(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.1,), name=f"test-{origin}", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer would ask the name service who 127.0.0.1 is
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._open):
            self.shutdown_request(connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)
