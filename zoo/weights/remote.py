"""What a push asks before it begins: whose repository it is, and what its files say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from zoo.errors import AccessDeniedError, HubError, RepoNotFoundError, RevisionNotFoundError
from zoo.weights.hub import split_repo
from zoo.weights.hub_errors import translate
from zoo.weights.retry import ATTEMPTS, repeat, shown

#: What git lets no name of a branch or tag hold, and `@`, which ends the repository's name in `user/repo@NAME`.
_NOT_IN_REFS = re.compile(r"[\x00-\x20\x7f~^:?*\[\\@]|\.\.|//|/\.|\.lock(?=/|\Z)|\A[-./]|[./]\Z")


def check_ref(name: str | None, keyword: str) -> None:
    """Refuse what cannot name a branch or tag, before the Hub is asked; `keyword` is where it was given.

    Raises:
        ValueError: a commit's hash, or a name that git does not allow.
        TypeError: no text.
    """
    if name is None:
        return
    kind = "tag" if keyword == "tag" else "branch"
    if not isinstance(name, str):
        raise TypeError(f"{keyword} is the name of a {kind}, got {name!r}")
    if re.fullmatch(r"[0-9a-fA-F]{40}", name):
        raise ValueError(
            f"{keyword}={name!r} is the hash of a commit, and a {kind} of that name would hide the commit: a commit "
            f"cannot be pushed to; give the {kind} another name, 'v1.0', say"
        )
    if not name:
        raise ValueError(f"{keyword}='' names no {kind}: leave it out, or write 'v1.0', say")
    if wrong := _NOT_IN_REFS.search(name):
        raise ValueError(
            f"{keyword}={name!r} cannot name a {kind}, as there is {wrong[0]!r} in it: write letters, digits, '-', "
            f"'_', '.' and '/', with a letter or digit first and last"
        )


def full_repo_id(repo_id: str, token: Any = None, keyword: str = "repo_id") -> str:
    """`"user/repo"`, the owner of the token added to a bare name; `keyword` is where it was given.

    Raises:
        ValueError: no valid name.
        TypeError: no text.
        AccessDeniedError, HubUnavailableError: the owner cannot be asked for.
    """
    from huggingface_hub import HfApi

    if not isinstance(repo_id, str):
        raise TypeError(f"{keyword} is the name of a repository on the Hub, 'user/repo', got {repo_id!r}")
    split_repo(repo_id)
    if "/" in repo_id:
        return repo_id
    if token is False:
        raise AccessDeniedError(
            f"{repo_id!r} names no owner, and token=False names none either: write 'user/{repo_id}'"
        )
    api = HfApi(token=token, library_name="zoo")
    return f"{repeat(api.whoami, lambda e: translate(e, repo=repo_id))['name']}/{repo_id}"


def read_text(
    repo_id: str,
    name: str = "README.md",
    *,
    revision: str | None = None,
    token: Any = None,
    repo_type: str = "model",
    attempts: int = ATTEMPTS,
) -> str | None:
    """A text file (the card, unless named) that a repository has now; None when there is no repository or file.

    A branch that does not exist yet will begin as `main`, so its files are those of `main`.

    Raises:
        HubError: and its kinds, when the Hub refuses or does not answer, `attempts` times.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    api = HfApi(token=token, library_name="zoo")
    where: dict[str, Any] = {"repo": shown(repo_id, repo_type), "revision": revision}
    try:
        info = repeat(
            lambda: api.repo_info(repo_id, repo_type=repo_type, revision=revision, timeout=10),
            lambda error: translate(error, **where),
            attempts,
        )
        options: dict[str, Any] = {"repo_type": repo_type, "revision": info.sha, "token": token}
        return Path(hf_hub_download(repo_id, name, **options)).read_bytes().decode("utf-8")
    except RevisionNotFoundError:
        if revision in (None, "main"):
            return None
        return read_text(repo_id, name, token=token, repo_type=repo_type, attempts=attempts)
    except RepoNotFoundError:
        return None
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise translate(error, **where, file=name) from error
        return None
    except HubError:
        raise
    except Exception as error:
        raise translate(error, **where, file=name) from error
