"""What the hub keeps: repositories, their commits and refs, and the bytes of the files.

Blobs are files named by their sha256, the rest is one JSON document; both lie in one folder, so a server started
again on that folder goes on where it stopped. Every public method is safe to call from several threads, and a
commit is all or nothing.
"""

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from tests.hub.errors import ApiError, not_found

LFS_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".onnx", ".npz", ".npy", ".png", ".jpg", ".zip")
LFS_SIZE = 10 * 2**20  # like the real Hub: anything larger never goes into git itself
GITATTRIBUTES = b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class File:
    """A file in a commit. `oid` is git's blob id: of the bytes, or of the pointer that git holds for an LFS file."""

    oid: str
    sha256: str
    size: int
    lfs: bool = False

    @property
    def pointer_size(self) -> int:
        return len(lfs_pointer(self.sha256, self.size))


@dataclass(frozen=True)
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, File]


@dataclass
class Repo:
    id: str  # "user/name", of a Space "spaces/user/name", of a data set "datasets/user/name"
    private: bool = False
    gated: str | bool = False
    granted: list[str] = field(default_factory=list)  # users let into a gated repository
    created: str = ""
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # "refs/heads/main" -> commit
    sdk: str | None = None  # of a Space

    @property
    def name(self) -> str:
        """`user/name`, whatever the kind."""
        return self.id.removeprefix("spaces/").removeprefix("datasets/")

    @property
    def owner(self) -> str:
        return self.name.split("/")[0]

    def ref(self, revision: str) -> str | None:
        """Full name of the branch, tag or pull request that `revision` names."""
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        return next((name for name in names if name in self.refs), None)

    def commit(self, revision: str) -> Commit:
        name = self.ref(revision)
        oid = self.refs[name] if name else revision
        if oid not in self.commits:
            raise not_found("RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """The commit and its ancestors, newest first."""
        found = [self.commit(revision)]
        while (parent := found[-1].parent) is not None:
            found.append(self.commits[parent])
        return found


def git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


def goes_to_lfs(path: str, size: int) -> bool:
    return path.endswith(LFS_SUFFIXES) or size > LFS_SIZE


class Storage:
    """All repositories of one server, kept in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.lock = threading.RLock()
        self.repos: dict[str, Repo] = {}
        self.blobs = folder / "blobs"
        self.blobs.mkdir(parents=True, exist_ok=True)
        if self._state.is_file():
            self.repos = {value["id"]: _repo_from_json(value) for value in json.loads(self._state.read_text())}

    @property
    def _state(self) -> Path:
        return self.folder / "repos.json"

    def _save(self) -> None:
        fresh = self._state.with_suffix(".new")
        fresh.write_text(json.dumps([asdict(repo) for repo in self.repos.values()]))
        os.replace(fresh, self._state)

    def clear(self) -> None:
        with self.lock:
            self.repos.clear()
            for blob in self.blobs.iterdir():
                blob.unlink(missing_ok=True)
            self._save()

    # --- bytes ---

    def blob(self, sha256: str) -> Path:
        return self.blobs / sha256

    def add_blob(self, source: IO[bytes], sha256: str | None = None) -> str:
        """Stores the bytes of `source` and returns their sha256; 400 if they are not those that were promised."""
        fresh = self.blobs / f"{threading.get_ident()}-{time.monotonic_ns()}.new"
        digest = hashlib.sha256()
        with open(fresh, "wb") as out:
            while chunk := source.read(2**20):
                digest.update(chunk)
                out.write(chunk)
        if sha256 not in (None, digest.hexdigest()):
            fresh.unlink()
            raise ApiError(400, f"The sha256 of the upload is {digest.hexdigest()}, not {sha256}")
        os.replace(fresh, self.blob(digest.hexdigest()))
        return digest.hexdigest()

    def add_file(self, content: bytes) -> File:
        """Stores a small file, one whose bytes git holds itself."""
        sha256 = hashlib.sha256(content).hexdigest()
        if not self.blob(sha256).exists():
            self.blob(sha256).write_bytes(content)
        return File(oid=git_oid(content), sha256=sha256, size=len(content))

    # --- repositories and refs ---

    def create(self, repo_id: str, *, private: bool, author: str, sdk: str | None = None) -> Repo:
        with self.lock:
            if repo_id in self.repos:
                raise ApiError(409, f"You already created this {'space' if sdk else 'model'} repo")
            repo = self.repos[repo_id] = Repo(repo_id, private=private, created=_now(), sdk=sdk)
            files = {".gitattributes": self.add_file(GITATTRIBUTES)}
            self._append(repo, "refs/heads/main", None, files, "initial commit", "", author)
            return repo

    def delete(self, repo_id: str) -> None:
        with self.lock:
            del self.repos[repo_id]
            self._save()

    def update(self, repo: Repo, **changes: object) -> None:
        with self.lock:
            for name, value in changes.items():
                setattr(repo, name, value)
            self._save()

    def add_ref(self, repo: Repo, name: str, revision: str) -> None:
        with self.lock:
            if name in repo.refs:
                raise ApiError(409, f"Reference already exists: {name}")
            repo.refs[name] = repo.commit(revision).oid
            self._save()

    def delete_ref(self, repo: Repo, name: str) -> None:
        with self.lock:
            if repo.refs.pop(name, None) is None:
                raise not_found("RevisionNotFound", f"Invalid rev id: {name}")
            self._save()

    # --- commits ---

    def commit(
        self,
        repo: Repo,
        revision: str,
        edit: Callable[[dict[str, File]], None],
        *,
        title: str,
        message: str,
        author: str,
        parent: str | None = None,
        pull_request: bool = False,
    ) -> tuple[Commit, int | None]:
        """One new commit on `revision`, or on a new pull request from it. Returns it and the pull request's number.

        `edit` changes the dict of files in place; if it raises, nothing has happened. 412 if `parent` is given and is
        no longer the head.
        """
        with self.lock:
            head = repo.commit(revision)
            name = repo.ref(revision)
            if not pull_request and (name is None or name.startswith("refs/tags/")):
                raise ApiError(400, f"Cannot commit to {revision}, it is not a branch")
            if parent not in (None, head.oid):
                raise ApiError(412, "A commit has happened since. Please refresh and try again.")
            files = dict(head.files)
            edit(files)
            number = None
            if pull_request:
                number = 1 + sum(ref.startswith("refs/pr/") for ref in repo.refs)
                name = f"refs/pr/{number}"
            return self._append(repo, str(name), head.oid, files, title, message, author), number

    def _append(
        self, repo: Repo, ref: str, parent: str | None, files: dict[str, File], title: str, message: str, author: str
    ) -> Commit:
        # The time in nanoseconds keeps ids apart between two otherwise equal commits, also after a reset.
        unique = f"{repo.id} {parent} {title} {time.time_ns()} {sorted(files.items())}"
        oid = hashlib.sha1(unique.encode()).hexdigest()
        commit = Commit(oid, parent, title, message, author, _now(), dict(sorted(files.items())))
        repo.commits[oid] = commit
        repo.refs[ref] = oid
        self._save()
        return commit


def folders(paths: Iterable[str]) -> set[str]:
    """Every folder that holds one of the files, at any depth."""
    return {path[:index] for path in paths for index, char in enumerate(path) if char == "/"}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def _repo_from_json(value: dict) -> Repo:
    commits = {
        oid: Commit(**{**commit, "files": {path: File(**file) for path, file in commit["files"].items()}})
        for oid, commit in value.pop("commits").items()
    }
    return Repo(**value, commits=commits)
