"""Limits on how long the Hub client waits while it fetches a file.

On its own the client repeats a refused or hanging transfer for half a minute, and for as long as a `Retry-After` says.
Here its requests are watched: as long as bytes arrive they may take any time, but a transfer that does not move is
given up at a deadline. The client keeps its own way of going on where a lost connection stopped (`Range`).
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.weights.hub_errors import RETRYABLE, told_to_wait

_LOCK = threading.Lock()
_RANGE = re.compile(r"bytes=(\d+)-")
_PAUSES = (1.0, 2.0, 4.0, 8.0, 8.0)  # what the client waits between attempts, unless it is told


class Patience:
    """The deadline of a transfer, moved on by every byte that arrives.

    Args:
        seconds: how long nothing may come.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self._thread = threading.get_ident()
        self.begin()

    def begin(self) -> None:
        """Another attempt: what was asked for before may be asked for again."""
        self._begun: dict[str, int] = {}
        self._attempts: dict[str, int] = {}
        self._refusals: dict[str, int] = {}

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def on_request(self, request: Any) -> None:
        """Called by the client before each request of this thread: sees progress, and sets the time for an answer."""
        if threading.get_ident() != self._thread:
            return
        url, headers = str(request.url), request.headers
        found = _RANGE.match(headers.get("Range") or "")
        start = int(found[1]) if found else 0
        again = url in self._begun
        if again and start > self._begun[url]:
            self.deadline = time.monotonic() + self.seconds
            self._attempts[url] = 0
        self._begun[url] = max(start, self._begun.get(url, 0))
        if request.method == "HEAD" and again and not self._refusals.get(url):
            raise TimeoutError("the connection was lost")  # asked again by whoever asked for the file
        self._attempts[url] = count = self._attempts.get(url, 0) + 1
        # If this attempt fails, too, the client pauses, and nobody can wake it: a second between pieces of a file, ever
        # longer between questions.
        pause = _PAUSES[min(count, len(_PAUSES)) - 1] if "/api/" in url else 1.0
        if self.left <= 0 or (again and self.left - pause < 0.5):
            raise TimeoutError(f"nothing came for {self.seconds:.0f} s")
        limit = max(0.5, min(self.left - pause, self.seconds / 2))
        waits = dict(request.extensions.get("timeout") or {})
        for kind in ("connect", "read", "write", "pool"):
            given = waits.get(kind)
            waits[kind] = limit if given is None else min(given, limit)
        request.extensions = {**request.extensions, "timeout": waits}

    def on_response(self, response: Any) -> None:
        """Called by the client for each answer of this thread: ends what it would wait for beyond the deadline."""
        if threading.get_ident() != self._thread or response.status_code not in RETRYABLE:
            return
        from huggingface_hub.utils import hf_raise_for_status

        url = str(response.request.url)
        count = self._refusals[url] = self._refusals.get(url, 0) + 1
        told = told_to_wait(response.headers)
        pause = told + 1 if told is not None else _PAUSES[min(count, len(_PAUSES)) - 1]
        if pause + 0.5 > self.left:
            hf_raise_for_status(response)


def transfer_seconds(timeout: float) -> float:
    """How long a transfer may stand still: `timeout`, or what `HF_HUB_DOWNLOAD_TIMEOUT` asks for, if it is more."""
    try:
        return max(timeout, float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT", "")))
    except ValueError:
        return timeout


@contextmanager
def watched(patience: Patience) -> Iterator[Patience]:
    """Let `patience` see the requests that the Hub client makes in this thread; afterwards the client is as it was."""
    from huggingface_hub import get_session

    client = get_session()
    _change(client, patience, add=True)
    try:
        yield patience
    finally:
        _change(client, patience, add=False)


def _change(client: Any, patience: Patience, *, add: bool) -> None:
    own = {"request": patience.on_request, "response": patience.on_response}
    with _LOCK:  # the client is shared by all threads, and a list that one of them walks through must not change
        hooks = {kind: [h for h in client.event_hooks.get(kind, []) if h != own.get(kind)] for kind in own}
        for kind, hook in own.items():
            if add:
                hooks[kind].append(hook)
        client.event_hooks = {**client.event_hooks, **hooks}
