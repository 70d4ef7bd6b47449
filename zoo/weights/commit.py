"""Push: a folder becomes one atomic commit, or nothing happens.

`create_commit` is used, never `upload_folder`, which may make several commits: a reader must never meet the weights of
one push with the config of another. The client does not repeat a failed commit; here it is repeated, after a look at
whether the Hub has carried it out already and only the answer was lost.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.errors import AccessDeniedError, HubError, RepoNotFoundError, RevisionNotFoundError, WeightsError
from zoo.weights.hub import split_repo
from zoo.weights.hub_errors import is_transient, retry_after, status_of, translate
from zoo.weights.verify import git_sum_of, sha256_of

_ATTEMPTS = 5
_PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True)
class PushResult:
    """What a push did.

    Attributes:
        repo: the repository, with its owner.
        commit: the commit's hash; None for a dry run.
        url: where to see it.
        revision: the branch.
        tag: the tag that was set on the commit.
        pull_request: URL of the pull request that holds the commit instead of the branch.
        files: file name -> size in bytes.
    """

    repo: str
    commit: str | None
    url: str
    revision: str
    tag: str | None = None
    pull_request: str | None = None
    files: dict[str, int] = field(default_factory=dict)


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
    try:
        return f"{HfApi(token=token, library_name='zoo').whoami()['name']}/{repo_id}"
    except Exception as error:
        raise translate(error, repo=repo_id) from error


def read_card(repo_id: str, *, revision: str | None = None, token: Any = None) -> str | None:
    """The README.md that a repository has now; None when there is no repository or card.

    A branch that does not exist yet will begin as `main`, so its card is that of `main`.

    Raises:
        HubError: and its kinds, when the Hub refuses or does not answer.
    """
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    api = HfApi(token=token, library_name="zoo")
    try:
        head = api.model_info(repo_id, revision=revision, token=token, timeout=10).sha
        return Path(hf_hub_download(repo_id, "README.md", revision=head, token=token)).read_text("utf-8")
    except EntryNotFoundError as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise translate(error, repo=repo_id, revision=revision, file="README.md") from error
        return None
    except Exception as error:
        known = translate(error, repo=repo_id, revision=revision)
        if isinstance(known, RevisionNotFoundError) and revision not in (None, "main"):
            return read_card(repo_id, token=token)
        if isinstance(known, RepoNotFoundError | RevisionNotFoundError):
            return None
        raise known from error


def commit_folder(
    folder: str | Path,
    repo_id: str,
    *,
    message: str,
    token: str | bool | None = None,
    private: bool | None = None,
    revision: str | None = None,
    tag: str | None = None,
    move_tag: bool = False,
    create_pr: bool = False,
    dry_run: bool = False,
) -> PushResult:
    """Upload a folder in one commit.

    Args:
        folder: what to upload, with its sub-folders; hidden files are left out, pickles refused.
        repo_id: `"user/repo"`; made if it does not exist.
        message: first line of the commit.
        token: access token. Default: the saved one, or `HF_TOKEN`.
        private: whether a new repository is private. For one that exists it must agree, or nothing is uploaded.
        revision: branch, made if it does not exist. Default: `main`.
        tag: set on the commit afterwards.
        move_tag: the tag may exist and is moved.
        create_pr: open a pull request instead of committing to the branch.
        dry_run: ask and change nothing on the Hub; tell what would be uploaded.

    Returns:
        A `PushResult`. Where nothing differs from what is there, the commit that is there.

    Raises:
        WeightsError: a pickle in the folder, or nothing to upload.
        AccessDeniedError, RepoNotFoundError, HubUnavailableError, HubError: what it says; the branch is then as
            it was before.
    """
    split_repo(repo_id)
    files = _files(Path(folder))
    sizes = {name: path.stat().st_size for name, path in files.items()}
    branch = revision or "main"
    if dry_run:
        from huggingface_hub import constants

        return PushResult(repo_id, None, f"{constants.ENDPOINT}/{repo_id}", branch, tag, None, sizes)
    push = _Push(files, repo_id, branch, token, message, create_pr)
    push.prepare(private, tag, move_tag)
    commit, url, pull_request = push.commit()
    if tag is not None:
        push.set_tag(tag, commit, move_tag)
    return PushResult(push.repo, commit, url, branch, tag, pull_request, sizes)


def _files(folder: Path) -> dict[str, Path]:
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }
    if not files:
        raise WeightsError(f"{folder} holds nothing to upload")
    if pickles := [name for name in files if name.endswith(_PICKLES)]:
        raise WeightsError(f"{folder} holds pickles, which are never published: {', '.join(pickles)}")
    return files


class _Push:
    """One push: what is uploaded, to where, and what the Hub looked like before."""

    def __init__(
        self, files: Mapping[str, Path], repo: str, branch: str, token: Any, message: str, create_pr: bool
    ) -> None:
        from huggingface_hub import CommitOperationAdd, HfApi

        self.api = HfApi(token=token, library_name="zoo")
        self.files, self.repo, self.branch, self.token = files, repo, branch, token
        self.message, self.create_pr = message, create_pr
        self.operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]

    def explain(self, error: BaseException) -> Exception:
        return translate(error, repo=self.repo, revision=self.branch, action="write to", api=self.api, token=self.token)

    def call(self, request: Any) -> Any:
        """A request that may be repeated as it is."""
        for attempt in range(_ATTEMPTS):
            try:
                return request()
            except Exception as error:
                if not is_transient(error) or attempt == _ATTEMPTS - 1:
                    raise self.explain(error) from error
                time.sleep(_pause(error, attempt))
        raise AssertionError("unreachable")

    def prepare(self, private: bool | None, tag: str | None, move_tag: bool) -> None:
        """Make the repository and the branch where they are missing; refuse what could not be finished."""
        url = self.call(lambda: self.api.create_repo(self.repo, private=private, exist_ok=True))
        self.repo = url.repo_id
        info = self.call(lambda: self.api.model_info(self.repo, timeout=10))
        if private is not None and bool(info.private) != private:
            raise AccessDeniedError(
                f"{self.repo!r} exists and is {'private' if info.private else 'public'}, private={private} "
                f"({'--private' if private else '--public'}) was asked for: change its visibility in its "
                f"settings, or push to another repository"
            )
        refs = self.call(lambda: self.api.list_repo_refs(self.repo))
        if tag is not None and not move_tag and tag in {t.name for t in refs.tags}:
            raise HubError(
                f"{self.repo!r} has a tag {tag!r} already: choose another, or move it with move_tag=True (--move-tag)"
            )
        if self.branch not in {b.name for b in refs.branches} and not self.branch.startswith("refs/"):
            self.call(lambda: self.api.create_branch(self.repo, branch=self.branch, exist_ok=True))

    def commit(self) -> tuple[str, str, str | None]:
        """Commit; returns hash, URL and the URL of the pull request."""
        head, before = self.state()
        seen_prs = self.pull_requests()
        for attempt in range(_ATTEMPTS):
            try:
                done = self.api.create_commit(
                    self.repo,
                    self.operations,
                    commit_message=self.message,
                    revision=self.branch,
                    create_pr=self.create_pr,
                    parent_commit=head,
                )
                return done.oid, done.commit_url, done.pr_url
            except Exception as error:
                conflict = status_of(error) == 412
                if not conflict and not is_transient(error):
                    raise self.explain(error) from error
                if attempt == _ATTEMPTS - 1:
                    raise self.explain(error) from error
                if not conflict:
                    time.sleep(_pause(error, attempt))
                if found := self.already_there(seen_prs):
                    return found
                now, after = self.state()
                if now != head:
                    ours = sorted(name for name in self.files if before.get(name) != after.get(name))
                    if ours:
                        raise HubError(
                            f"someone else changed {', '.join(ours)} of {self.repo!r} at {self.branch!r} meanwhile "
                            f"(now at {now[:8]}, was {head[:8]}); look at it and push again"
                        ) from error
                    head, before = now, after
        raise AssertionError("unreachable")

    def state(self, revision: str | None = None) -> tuple[str, dict[str, str]]:
        """Head of the branch, and file name -> sum of its files."""
        info = self.call(
            lambda: self.api.model_info(self.repo, revision=revision or self.branch, files_metadata=True, timeout=10)
        )
        return info.sha, {f.rfilename: (f.lfs.sha256 if f.lfs else f.blob_id) for f in info.siblings or []}

    def pull_requests(self) -> set[str]:
        if not self.create_pr:
            return set()
        refs = self.call(lambda: self.api.list_repo_refs(self.repo, include_pull_requests=True))
        return {ref.ref for ref in refs.pull_requests or []}

    def already_there(self, seen_prs: set[str]) -> tuple[str, str, str | None] | None:
        """The commit, when the Hub made it and only its answer was lost."""
        places = sorted(self.pull_requests() - seen_prs) if self.create_pr else [self.branch]
        for place in places:
            commit, files = self.state(place)
            if all(_same(path, files.get(name)) for name, path in self.files.items()):
                page = f"{self.api.endpoint}/{self.repo}"
                pr = f"{page}/discussions/{place.rsplit('/', 1)[-1]}" if self.create_pr else None
                return commit, f"{page}/commit/{commit}", pr
        return None

    def set_tag(self, tag: str, commit: str, move: bool) -> None:
        if move and tag in {t.name for t in self.call(lambda: self.api.list_repo_refs(self.repo)).tags}:
            self.call(lambda: self.api.delete_tag(self.repo, tag=tag))
        self.call(lambda: self.api.create_tag(self.repo, tag=tag, revision=commit, exist_ok=True))


def _pause(error: BaseException, attempt: int) -> float:
    return min(retry_after(error) or 0.5 * 2**attempt, 30.0)


def _same(path: Path, remote: str | None) -> bool:
    """Whether the Hub's sum (SHA-256 of a large file, git's of a small one) is that of the local file."""
    if remote is None:
        return False
    return (sha256_of(path) if len(remote) == 64 else git_sum_of(path)) == remote
