"""Push: a folder becomes one atomic commit, or nothing happens.

`create_commit` is used, never `upload_folder`, which may make several commits: a reader must never meet the weights of
one push with the config of another. The client does not repeat a failed commit; here it is repeated, after a look at
whether the Hub has carried it out already and only the answer was lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import (
    AccessDeniedError,
    HubError,
    HubUnavailableError,
    RevisionNotFoundError,
    WeightsError,
)
from zoo.weights.hub import split_repo
from zoo.weights.hub_errors import is_transient, retry_after, status_of, translate
from zoo.weights.retry import ATTEMPTS, LONGEST_PAUSE, pause, repeat, request_path, shown, upload_failure
from zoo.weights.shards import is_weights_name
from zoo.weights.source import INDEX_NAME
from zoo.weights.verify import git_sum_of, sha256_of

T = TypeVar("T")
_CONFLICTS = 10  # commits of others to other files that a push builds upon before it gives up
_PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl", ".pickle")
#: What timm reads where there is no model.safetensors; left beside shards it would be the weights of another push.
_OLD_PICKLE = "pytorch_model.bin"


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
        deleted: weights files of earlier pushes that the commit removed.
        space: URL of the Space that shows the model, if one was asked for.
        card: for a dry run, the README.md that would be written.
        notes: for a dry run, what could not be looked at.
    """

    repo: str
    commit: str | None
    url: str
    revision: str
    tag: str | None = None
    pull_request: str | None = None
    files: dict[str, int] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    space: str | None = None
    card: str | None = None
    notes: list[str] = field(default_factory=list)


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
    space: bool = False,
    seen: Mapping[str, str | None] | None = None,
) -> PushResult:
    """Upload a folder in one commit.

    Weights in the folder take the place of those in the repository: what `save_sharded` wrote there under other names
    is deleted by the same commit.

    Args:
        folder: what to upload, with its sub-folders; hidden files are left out, pickles refused.
        repo_id: `"user/repo"`; made if it does not exist.
        message: first line of the commit.
        token: access token. Default: the saved one, or `HF_TOKEN`.
        private: whether a new repository is private. For one that exists it must agree, or nothing is uploaded.
        revision: branch, made if it does not exist. Default: `main`.
        tag: set on the commit afterwards.
        move_tag: the tag may exist and is moved. Otherwise one that exists is an error, unless its commit and the
            branch hold these very files already.
        create_pr: open a pull request instead of committing to the branch.
        dry_run: look and change nothing on the Hub; tell what would be uploaded. Works without the Hub, too.
        space: the repository is a Space, of Gradio.
        seen: file name -> its text in the repository, on which the folder's own rests (None: not there). Where it is
            another by now, nothing is uploaded.

    Returns:
        A `PushResult`. Where nothing differs from what is there, the commit that is there.

    Raises:
        WeightsError: a pickle in the folder, or nothing to upload.
        AccessDeniedError, RepoNotFoundError, HubUnavailableError, HubError: what it says; the branch is then as
            it was before, unless the message says that only the tag is missing.
    """
    split_repo(repo_id)
    files = _files(Path(folder))
    sizes = {name: path.stat().st_size for name, path in files.items()}
    push = _Push(files, repo_id, revision or "main", token, message, create_pr, "space" if space else "model")
    if dry_run:
        deleted, notes = push.look(private, tag, move_tag)
        return PushResult(repo_id, None, push.home, push.branch, tag, None, sizes, deleted, notes=notes)
    if (tagged := push.prepare(private, tag, move_tag)) is not None:
        made = _Made(tagged, f"{push.home}/commit/{tagged}")
    else:
        made = push.commit(seen or {})
        if tag is not None:
            push.set_tag(tag, made.oid, move_tag)
    return PushResult(push.repo, made.oid, made.url, push.branch, tag, made.pull_request, sizes, made.deleted)


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


@dataclass(frozen=True)
class _Made:
    """A commit as the Hub has it."""

    oid: str
    url: str
    pull_request: str | None = None
    deleted: list[str] = field(default_factory=list)


class _Push:
    """One push: what is uploaded, to where, and what the Hub looked like before."""

    def __init__(
        self,
        files: Mapping[str, Path],
        repo: str,
        branch: str,
        token: Any,
        message: str,
        create_pr: bool,
        kind: str = "model",
    ) -> None:
        from huggingface_hub import CommitOperationAdd, HfApi

        self.api = HfApi(token=token, library_name="zoo")
        self.files, self.repo, self.branch, self.token, self.kind = files, repo, branch, token, kind
        self.message, self.create_pr = message, create_pr
        self.operations = [CommitOperationAdd(name, str(path)) for name, path in files.items()]

    @property
    def home(self) -> str:
        """The repository's page."""
        return f"{self.api.endpoint}/{shown(self.repo, self.kind)}"

    def explain(self, error: BaseException) -> Exception:
        error, file = upload_failure(error)
        where: dict[str, Any] = {"repo": shown(self.repo, self.kind), "revision": self.branch, "file": file}
        return translate(error, **where, action="write to", api=self.api, token=self.token)

    def call(self, request: Callable[[], T]) -> T:
        """A request that may be repeated as it is."""
        return repeat(request, self.explain)

    # --- before ---

    def look(self, private: bool | None, tag: str | None, move_tag: bool) -> tuple[list[str], list[str]]:
        """Refuse what the push would be refused for; what it would delete, and notes on what could not be seen."""
        try:
            if not self.api.repo_exists(self.repo, repo_type=self.kind):
                return [], []
            self.check(private, tag, move_tag)
            branch = self.branch if self.has_branch() else "main"
            return self.superseded(self.state(branch)[1]), []
        except Exception as error:
            known = self.explain(error)
            if isinstance(known, HubUnavailableError):
                return [], [f"the repository could not be looked at: {known}"]
            raise known from error

    def check(self, private: bool | None, tag: str | None, move_tag: bool) -> str | None:
        """Refuse what could not be finished; the tag's commit, where all is done already."""
        info = self.call(lambda: self.api.repo_info(self.repo, repo_type=self.kind, timeout=10))
        if private is not None and bool(info.private) != private:
            raise AccessDeniedError(
                f"{self.repo!r} exists and is {'private' if info.private else 'public'}, private={private} "
                f"({'--private' if private else '--public'}) was asked for: change its visibility in its "
                f"settings, or push to another repository"
            )
        if tag is None and self.branch == "main":
            return None
        refs = self.refs()
        tags, branches = ({ref.name for ref in found} for found in (refs.tags, refs.branches))
        if self.branch in tags - branches:
            raise HubError(
                f"{self.branch!r} is a tag of {self.repo!r}, and a push goes to a branch: tag={self.branch!r} with "
                f"move_tag=True (--tag {self.branch} --move-tag) moves it; or give another revision= (--revision)"
            )
        if tag is None or move_tag or tag not in tags:
            return None
        commit, files = self.state(tag)
        head = self.state(self.branch if self.branch in branches else "main")
        if self.create_pr or not self.holds(files) or not (head[0] == commit or self.holds(head[1])):
            raise HubError(
                f"{self.repo!r} has a tag {tag!r} already: choose another, or move it with move_tag=True (--move-tag)"
            )
        return commit

    def prepare(self, private: bool | None, tag: str | None, move_tag: bool) -> str | None:
        """Make the repository and the branch where they are missing; otherwise as `check`."""
        options: dict[str, Any] = {"repo_type": self.kind, "private": private, "exist_ok": True}
        options |= {"space_sdk": "gradio"} if self.kind == "space" else {}
        self.repo = self.call(lambda: self.api.create_repo(self.repo, **options)).repo_id
        tagged = self.check(private, tag, move_tag)
        if not self.branch.startswith("refs/") and not self.has_branch():
            options = {"repo_type": self.kind, "branch": self.branch, "exist_ok": True}
            self.call(lambda: self.api.create_branch(self.repo, **options))
        return tagged

    def refs(self, **options: Any) -> Any:
        return self.call(lambda: self.api.list_repo_refs(self.repo, repo_type=self.kind, **options))

    def has_branch(self) -> bool:
        return self.branch in {b.name for b in self.refs().branches}

    def state(self, revision: str | None = None) -> tuple[str, dict[str, str]]:
        """Head of the branch, and file name -> sum of its files."""
        options: dict[str, Any] = {"repo_type": self.kind, "revision": revision or self.branch}
        info: Any = self.call(lambda: self.api.repo_info(self.repo, files_metadata=True, timeout=10, **options))
        return info.sha, {f.rfilename: (f.lfs.sha256 if f.lfs else f.blob_id) for f in info.siblings or []}

    def superseded(self, present: Mapping[str, str]) -> list[str]:
        """Weights files of earlier pushes that no reader may meet beside the new ones."""
        if not any(is_weights_name(name) for name in self.files):
            return []
        stale = [name for name in present if is_weights_name(name) and name not in self.files]
        if INDEX_NAME in self.files and _OLD_PICKLE in present:
            stale.append(_OLD_PICKLE)
        return sorted(stale)

    def holds(self, present: Mapping[str, str]) -> bool:
        """Whether these are the files of this push, and no stale ones."""
        ours = all(_same(path, present.get(name)) for name, path in self.files.items())
        return ours and not self.superseded(present)

    # --- the commit ---

    def commit(self, seen: Mapping[str, str | None]) -> _Made:
        """Commit, again after a failure that passes, but never twice."""
        head, before = self.state()
        if theirs := [name for name, text in seen.items() if not _is(text, before.get(name))]:
            if not self.create_pr and self.holds(before):  # the same push, made from elsewhere
                return _Made(head, f"{self.home}/commit/{head}")
            raise self.conflict(theirs, head)
        seen_prs = self.pull_requests()
        failures = conflicts = 0
        while True:
            deleted = self.superseded(before)
            if not self.create_pr and self.holds(before):
                return _Made(head, f"{self.home}/commit/{head}")
            failure: Exception | None = None
            try:
                if made := self.attempt(head, deleted):
                    return made
                conflicts += 1
            except Exception as error:
                failure = error
                if status_of(error) == 412:
                    conflicts += 1
                    time.sleep(0.1 * conflicts)
                elif self.may_pass(error):
                    failures += 1
                    if failures < ATTEMPTS:
                        time.sleep(pause(error, failures - 1))
                else:
                    raise self.explain(error) from error
                if found := self.already_there(head, seen_prs, error):
                    return _Made(*found, deleted)
            if failure is not None and (failures >= ATTEMPTS or conflicts >= _CONFLICTS):
                raise self.explain(failure) from failure
            now, after = self.state()
            if now != head and (theirs := self.changed(before, after)):
                raise self.conflict(theirs, now) from failure
            head, before = now, after

    def attempt(self, head: str, deleted: list[str]) -> _Made | None:
        """Ask for the commit; None when the client found nothing to do, as the branch has moved to these very files."""
        from huggingface_hub import CommitOperationDelete

        done = self.api.create_commit(
            self.repo,
            [*self.operations, *(CommitOperationDelete(name) for name in deleted)],
            repo_type=self.kind,
            commit_message=self.message,
            revision=self.branch,
            create_pr=self.create_pr,
            parent_commit=head,
        )
        # The client answers a push without changes by the head of the branch, which may be another push by now.
        if not any(getattr(operation, "_is_committed", True) for operation in self.operations):
            return _Made(done.oid, done.commit_url) if done.oid == head else None
        return _Made(done.oid, done.commit_url, done.pr_url, deleted)

    def may_pass(self, error: Exception) -> bool:
        """Whether to ask again: not where the client has done so for half a minute, nor where the Hub says: later."""
        if isinstance(error, json.JSONDecodeError):  # a proxy's page in place of the Hub's answer
            return True
        cause, file = upload_failure(error)
        asked_again = file is not None or any(part in request_path(cause) for part in ("/preupload/", "/info/lfs/"))
        return is_transient(cause) and not asked_again and (retry_after(cause) or 0) <= LONGEST_PAUSE

    def changed(self, before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
        """Which of the files that this push writes or deletes somebody else has changed."""
        mine = {*self.files, *self.superseded(before), *self.superseded(after)}
        return sorted(name for name in mine if before.get(name) != after.get(name))

    def conflict(self, theirs: list[str], now: str) -> HubError:
        return HubError(
            f"someone else changed {', '.join(theirs)} of {shown(self.repo, self.kind)!r} at {self.branch!r} "
            f"meanwhile (now at {now[:8]}{self.title_of(now)}); look at it and push again"
        )

    def title_of(self, commit: str) -> str:
        with contextlib.suppress(Exception):  # a courtesy; the error it belongs to matters more
            found = self.api.list_repo_commits(self.repo, repo_type=self.kind, revision=commit)[0]
            return f", {found.title!r} by {', '.join(found.authors) or 'somebody'}"
        return ""

    def pull_requests(self) -> set[str]:
        if not self.create_pr:
            return set()
        return {ref.ref for ref in self.refs(include_pull_requests=True).pull_requests or []}

    def already_there(self, head: str, seen_prs: set[str], error: Exception) -> tuple[str, str, str | None] | None:
        """The commit, when the Hub made it upon `head` and only its answer was lost."""
        try:
            if self.create_pr:
                for place in sorted(self.pull_requests() - seen_prs):
                    commit, files = self.state(place)
                    if self.holds(files):
                        number = place.rsplit("/", 1)[-1]
                        return commit, f"{self.home}/commit/{commit}", f"{self.home}/discussions/{number}"
                return None
            if (commit := self.next_commit(head)) and self.holds(self.state(commit)[1]):
                return commit, f"{self.home}/commit/{commit}", None
            return None
        except HubUnavailableError as gone:
            raise HubUnavailableError(
                f"{self.explain(error)}; whether the commit was made is not known, as then: {gone}. Push again: what "
                f"is there already is not made twice"
            ) from error

    def next_commit(self, head: str) -> str | None:
        """The commit that was made upon `head`; this push's own, if it was made, for `head` was its parent."""
        if self.state()[0] == head:
            return None
        try:  # the client itself repeats this request
            log = self.api.list_repo_commits(self.repo, repo_type=self.kind, revision=self.branch)
        except Exception as error:
            raise self.explain(error) from error
        history = [made.commit_id for made in log]
        at = history.index(head) if head in history else 0
        return history[at - 1] if at else None

    # --- the tag ---

    def set_tag(self, tag: str, commit: str, move: bool) -> None:
        try:
            if tag in {t.name for t in self.refs().tags} and not self.is_at(tag, commit) and move:
                with contextlib.suppress(RevisionNotFoundError):  # gone: an earlier request whose answer was lost
                    self.call(lambda: self.api.delete_tag(self.repo, tag=tag, repo_type=self.kind))
            options: dict[str, Any] = {"tag": tag, "revision": commit, "repo_type": self.kind, "exist_ok": True}
            self.call(lambda: self.api.create_tag(self.repo, **options))
            if not self.is_at(tag, commit):
                raise HubError("somebody else has set it meanwhile")
        except HubError as error:
            raise type(error)(
                f"commit {commit[:8]} of {self.repo!r} is made, but its tag {tag!r} is not set: {error}. Push again to "
                f"set it (nothing is uploaded twice), with move_tag=True (--move-tag) if it exists"
            ) from error

    def is_at(self, tag: str, commit: str) -> bool:
        return self.state(tag)[0] == commit


def _is(text: str | None, remote: str | None) -> bool:
    """Whether the Hub's sum of a file, None for one that it has not, is that of a text."""
    if text is None or remote is None:
        return text is None and remote is None
    data = text.encode("utf-8")
    git = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    return remote in (git, hashlib.sha256(data).hexdigest())


def _same(path: Path, remote: str | None) -> bool:
    """Whether the Hub's sum (SHA-256 of a large file, git's of a small one) is that of the local file."""
    if remote is None:
        return False
    return (sha256_of(path) if len(remote) == 64 else git_sum_of(path)) == remote
