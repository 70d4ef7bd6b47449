"""What a push asks before it begins: whose repository it is, and what its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoo.errors import AccessDeniedError, HubError, RepoNotFoundError, RevisionNotFoundError
from zoo.weights.hub import split_repo
from zoo.weights.hub_errors import translate
from zoo.weights.retry import ATTEMPTS, repeat, shown


def full_repo_id(repo_id: str, token: Any = None) -> str:
    """`"user/repo"`, the owner of the token added to a bare name.

    Raises:
        ValueError: no valid name.
        AccessDeniedError, HubUnavailableError: the owner cannot be asked for.
    """
    from huggingface_hub import HfApi

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
