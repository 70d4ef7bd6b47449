"""Requests to the Hub that are made again: how often, after which pause, and what their failures say."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable
from typing import Any, TypeVar

from zoo.weights.hub_errors import is_transient, retry_after

T = TypeVar("T")
ATTEMPTS = 5
LONGEST_PAUSE = 60.0  # seconds; where the Hub asks for more, it is the caller who decides to wait
_PATIENCE = 30.0  # seconds after which a request that waits for its answer in vain is not made again


def repeat(request: Callable[[], T], explain: Callable[[BaseException], Exception], attempts: int = ATTEMPTS) -> T:
    """Make a request, again while it fails in a way that passes; its last failure is explained."""
    begin = time.monotonic()
    for attempt in range(attempts):
        try:
            return request()
        except Exception as error:
            last = attempt == attempts - 1 or time.monotonic() - begin > _PATIENCE
            if last or not is_transient(error) or (retry_after(error) or 0) > LONGEST_PAUSE:
                raise explain(error) from error
            time.sleep(pause(error, attempt))
    raise AssertionError("unreachable")


def pause(error: BaseException, attempt: int) -> float:
    """Seconds to wait after a failure: what the Hub asks for, else twice as long each time."""
    wanted = retry_after(error)
    return 0.5 * 2**attempt if wanted is None else wanted


def upload_failure(error: BaseException) -> tuple[BaseException, str | None]:
    """A failed upload as the client reports it: the failure itself, and the file."""
    match = re.match(r"Error while uploading '(.+)' to the Hub", str(error)) if error.__cause__ else None
    return (error.__cause__ or error, match[1]) if match else (error, None)


def request_path(error: BaseException) -> str:
    """Path of the request that failed, as far as the error knows it."""
    with contextlib.suppress(Exception):
        owner: Any = getattr(error, "response", None) or error
        return owner.request.url.path
    return ""


def shown(repo: str, kind: str) -> str:
    """A repository as its address names it."""
    return f"{kind}s/{repo}" if kind != "model" else repo
