"""Errors of the Hub client in the zoo's own words: what was asked for, what went wrong, what to do."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from zoo.errors import (
    AccessDeniedError,
    CorruptFileError,
    FileNotInRepoError,
    HubError,
    HubUnavailableError,
    RepoNotFoundError,
    RevisionNotFoundError,
    ZooError,
)
from zoo.naming import did_you_mean

RETRYABLE = (408, 429, 500, 502, 503, 504)


def root_cause(error: BaseException) -> BaseException:
    """The request's own failure behind the client's "not in the cache either"."""
    from huggingface_hub.errors import LocalEntryNotFoundError, RevisionResolutionError

    while isinstance(error, LocalEntryNotFoundError | RevisionResolutionError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def status_of(error: BaseException) -> int | None:
    """HTTP status of a failed request, None when there was no answer."""
    return getattr(getattr(error, "response", None), "status_code", None)


def retry_after(error: BaseException) -> float | None:
    """Seconds that the Hub asks to wait, if it does."""
    return told_to_wait(getattr(getattr(root_cause(error), "response", None), "headers", None) or {})


def told_to_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the headers of an answer ask to wait, if they do."""
    with contextlib.suppress(ValueError):
        return max(0.0, float(headers.get("Retry-After", "")))
    with contextlib.suppress(ImportError, AttributeError, ValueError, TypeError):
        from huggingface_hub.utils import parse_ratelimit_headers

        info = parse_ratelimit_headers(headers)
        if info is not None and info.remaining == 0:
            return float(info.reset_in_seconds)
    return None


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    from huggingface_hub.errors import HTTPError, OfflineModeIsEnabled

    error = root_cause(error)
    status = status_of(error)
    if status is not None:
        return status in RETRYABLE
    return isinstance(error, HTTPError | ConnectionError | TimeoutError) and not isinstance(error, OfflineModeIsEnabled)


def is_unreachable(error: BaseException) -> bool:
    """Whether the Hub gave no usable answer (down, offline, rate-limited), as against a refusal."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    error = root_cause(error)
    return is_transient(error) or isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError)


def translate(
    error: BaseException,
    *,
    repo: str,
    revision: str | None = None,
    file: str | None = None,
    action: str = "read",
    api: Any = None,
    token: Any = None,
) -> ZooError:
    """The zoo's error for a failure of the Hub client; raise it `from` the original.

    Args:
        error: what the client raised.
        repo, revision, file: what was asked for.
        action: "read" or "write to", for refusals.
        api, token: used, if given, to look up what does exist.
    """
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )
    from huggingface_hub.errors import RevisionNotFoundError as NoRevision

    if isinstance(error, ZooError):
        return error
    error = root_cause(error)
    endpoint = getattr(api, "endpoint", None) or constants.ENDPOINT
    what = f"{file + ' of ' if file else ''}{repo!r}{f' at {revision!r}' if revision else ''}"
    said = " ".join(str(getattr(error, "server_message", "") or "").split())
    status = status_of(error)
    if isinstance(error, GatedRepoError):
        return AccessDeniedError(
            f"{repo!r} is gated: accept its terms at {endpoint}/{repo} and log in (hf auth login, or HF_TOKEN)"
        )
    if isinstance(error, NoRevision):
        return RevisionNotFoundError(f"{repo!r} has no revision {revision!r}{_revisions(repo, revision, api, token)}")
    no_token = isinstance(error, LocalTokenNotFoundError) or not _has_token(token)
    if isinstance(error, LocalTokenNotFoundError) or (status == 401 and no_token and not _says_missing(error)):
        return AccessDeniedError(
            f"{endpoint} wants a token to {action} {what}, and there is none: log in with hf auth login, set HF_TOKEN, "
            f"or pass token= (--token)"
        )
    if status == 401 and not _says_missing(error):
        return AccessDeniedError(
            f"{endpoint} does not accept the token (expired, revoked or mistyped) for {what}: log in again with "
            f"hf auth login, or set HF_TOKEN"
        )
    if isinstance(error, RepositoryNotFoundError):
        why = "no token was given (hf auth login, or HF_TOKEN)" if no_token else "the token may not see it"
        return RepoNotFoundError(f"there is no repository {repo!r} on {endpoint}, or it is private and {why}")
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return FileNotInRepoError(f"{repo!r}{f' at {revision!r}' if revision else ''} has no file {file!r}")
    if status == 403:
        said = f" ({said})" if said else ""
        return AccessDeniedError(f"not allowed to {action} {what}{said}; check the rights of the token")
    if status == 429:
        wait = retry_after(error)
        when = f"try again in {wait:.0f} s" if wait is not None else "try again later"
        return HubUnavailableError(f"{endpoint} limits the rate of requests ({what}): {when}")
    if status is not None and status >= 500:
        return HubUnavailableError(f"{endpoint} answered {status} for {what}: try again later")
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnavailableError(f"{what} was asked for, but HF_HUB_OFFLINE forbids asking {endpoint}")
    if isinstance(error, LocalEntryNotFoundError):
        return HubUnavailableError(f"{what} is not in the cache")
    if isinstance(error, HfHubHTTPError) and status is not None:
        return HubError(f"{endpoint} answered {status} for {what}{': ' + said if said else ''}")
    if isinstance(error, OSError) and "Consistency check failed" in str(error):
        return CorruptFileError(f"{what} arrived incomplete ({str(error).splitlines()[0]}); fetch it again")
    if is_transient(error):
        return HubUnavailableError(f"{endpoint} cannot be reached for {what} ({type(error).__name__}: {error})")
    return HubError(f"{what}: {type(error).__name__}: {error}")


def _has_token(token: Any) -> bool:
    """Whether a request carried a token: the given one, or (unless it was declined) the saved one."""
    from huggingface_hub import get_token

    return bool(token if isinstance(token, str) else token is not False and get_token())


def _says_missing(error: BaseException) -> bool:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    return headers.get("X-Error-Code") == "RepoNotFound"


def _revisions(repo: str, revision: str | None, api: Any, token: Any) -> str:
    if api is None:
        return ""
    try:
        refs = api.list_repo_refs(repo, token=token)
    except Exception:  # the list is a courtesy; the error it belongs to matters more
        return ""
    branches, tags = [b.name for b in refs.branches], [t.name for t in refs.tags]
    hint = did_you_mean(revision or "", [*branches, *tags])
    return f"{hint or '.'} Branches: {', '.join(branches) or 'none'}; tags: {', '.join(tags) or 'none'}"
