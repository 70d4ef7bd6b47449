"""Pull: one commit of a repository on the Hub, exactly what it holds, checked against its recorded sums.

The revision is resolved once, together with the list of files and their sums, and everything is fetched by that
commit. What the list does not hold is not asked for: a refused or failed request can never end in another file, least
of all in a pickle. Nothing that comes from the Hub is executed.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zoo.errors import ChecksumError, CorruptFileError, FileNotInRepoError, HubError, HubUnavailableError
from zoo.files import write_text
from zoo.weights.config import CONFIG_NAME, ModelConfig, read_config
from zoo.weights.harmless import few, harmless, is_unsafe
from zoo.weights.hub_errors import is_transient, is_unreachable, retry_after, translate
from zoo.weights.patience import Patience, transfer_seconds, watched
from zoo.weights.safetensors_file import SafetensorsFile
from zoo.weights.source import INDEX_NAME, check_shards, choose_weights, read_index
from zoo.weights.verify import git_sum_of, scan, sha256_of

T = TypeVar("T")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+|[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit of a repository, on this machine.

    Attributes:
        folder: where they are (in the Hub client's cache).
        weights: the weights file, or the shards.
        repo, revision, commit: what was asked for, and the commit that it stood for.
        sha256: file name -> checked sum, of the weights.
        files: names of all files that were taken.
        checked: file name -> the sum with which it was compared, "SHA-256 …" or git's "git sum …".
    """

    folder: Path
    weights: list[Path]
    repo: str
    revision: str
    commit: str
    sha256: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    checked: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Repository, revision and commit in words."""
        return f"{self.repo}@{self.revision} (commit {self.commit[:8]})"

    @property
    def config(self) -> ModelConfig:
        """Its config.json."""
        return read_config(self.folder, origin=self.origin)

    @property
    def source(self) -> dict[str, Any]:
        """What `model.zoo_source` holds."""
        return {"repo": self.repo, "revision": self.revision, "commit": self.commit, "sha256": self.sha256}


@dataclass(frozen=True)
class _Listing:
    """The files of a commit: name -> (size, sha256 of a large file, git sum of a small one)."""

    commit: str
    files: dict[str, tuple[int | None, str | None, str | None]]

    def sum_of(self, name: str) -> str:
        """The sum that the Hub records of a file, in words; empty when there is none."""
        _, lfs, git = self.files[name]
        return f"SHA-256 {lfs}" if lfs else f"git sum {git}" if git else ""


def split_repo(text: str) -> tuple[str, str | None]:
    """`user/repo[@revision]` as repository and revision.

    Raises:
        ValueError: more than one `@`, an empty part, or no valid repository id.
    """
    repo, at, revision = text.partition("@")
    if "@" in revision:
        raise ValueError(f"{text!r} has more than one '@'; write 'user/repo@revision'")
    if at and not revision:
        raise ValueError(f"{text!r} has no revision after '@'; write 'user/repo@revision' or 'user/repo'")
    if not _REPO.fullmatch(repo):
        raise ValueError(f"{repo!r} is not the id of a repository: write 'user/repo'")
    return repo, revision or None


def pull(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    local_files_only: bool = False,
    timeout: float = 10.0,
    allow_pickle: bool = False,
    everything: bool = False,
    only: Sequence[str] = (),
) -> Snapshot:
    """Fetch a published model: its config.json and its weights.

    A commit that is complete in the cache is used without asking the Hub. For a branch or tag the Hub is asked, and
    where it does not answer, the commit that the cache knows for it is used, with a warning.

    Args:
        repo_id: `"user/repo"`.
        revision: branch, tag, pull request reference or commit. Default: `main`.
        token: access token; True or None: the saved one or `HF_TOKEN`; False: none.
        cache_dir: folder of the Hub cache. Default: the client's own.
        local_files_only: use the cache alone (as `HF_HUB_OFFLINE=1` does).
        timeout: seconds in which the Hub must have answered, in all; the transfer of data is not limited.
        allow_pickle: take a pickle where a repository has nothing else. It is still read by `weights_only=True` alone.
        everything: take all other files too, except pickles, code, hidden files, and names that do not stay in a
            folder or differ from another only by case.
        only: of those, take what these patterns (`"train/*"`) match.

    Returns:
        The `Snapshot`; its weights are checked against the sums that the Hub and the config record.

    Raises:
        RepoNotFoundError, RevisionNotFoundError, FileNotInRepoError, AccessDeniedError: what it says; lists what
            there is.
        HubUnavailableError: no answer in time and nothing cached.
        PickleRefusedError: only pickles there.
        ChecksumError, CorruptFileError: the bytes are not the recorded ones; what was fetched broken is removed again.
    """
    from huggingface_hub import HfApi, constants

    repo_id, in_name = split_repo(repo_id)
    if revision is not None and in_name is not None:
        raise ValueError(f"two revisions: {in_name!r} in the name and revision={revision!r}")
    wanted = revision or in_name or constants.DEFAULT_REVISION
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    home = cache / f"models--{repo_id.replace('/', '--')}"
    offline = local_files_only or constants.is_offline_mode()
    known = _cached_commit(home, wanted)
    if known and (offline or (_COMMIT.fullmatch(wanted) and not everything)):
        try:
            return _from_cache(home, repo_id, wanted, known, allow_pickle)
        except (FileNotFoundError, FileNotInRepoError):
            if offline:
                raise _not_cached(repo_id, wanted, cache, "the network may not be used") from None
    if offline:
        raise _not_cached(repo_id, wanted, cache, "the network may not be used")
    api = HfApi(token=token, library_name="zoo")
    client = _Client(api, repo_id, wanted, token, cache, timeout, Patience(timeout))
    try:
        listing = client.ask(lambda left: _list(api, repo_id, wanted, token, left))
    except Exception as error:
        if known and is_unreachable(error):
            with contextlib.suppress(FileNotFoundError, FileNotInRepoError):
                snapshot = _from_cache(home, repo_id, wanted, known, allow_pickle)
                warnings.warn(f"{client.explain(error)}; using {snapshot.origin} from the cache", stacklevel=2)
                return snapshot
        if is_unreachable(error):
            raise _not_cached(repo_id, wanted, cache, str(client.explain(error))) from error
        raise client.explain(error) from error
    return client.take(listing, allow_pickle=allow_pickle, everything=everything, only=only)


@dataclass(frozen=True)
class Fetched:
    """Every harmless file of a commit, each with what came of it.

    Attributes:
        repo, revision, commit: as in `Snapshot`.
        sizes: name -> bytes, of all files that the Hub lists, also those that are not taken.
        sums: name -> "SHA-256 …" or "git sum …", where the Hub records one.
        paths: name -> the file on this machine, checked against the Hub's record.
        errors: name -> why it is not there, or not as it should be.
        left: names that are never taken: pickles, code, hidden files, names that leave the folder.
    """

    repo: str
    revision: str
    commit: str
    sizes: dict[str, int | None]
    sums: dict[str, str]
    paths: dict[str, Path]
    errors: dict[str, Exception]
    left: list[str]


def fetch_each(
    repo_id: str,
    revision: str | None = None,
    *,
    token: str | bool | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    timeout: float = 10.0,
    tell: Callable[[str], None] = lambda line: None,
) -> Fetched:
    """Fetch the files of one commit one by one, going on after what fails; arguments and errors as in `pull`.

    Args:
        tell: is given a line before each file.
    """
    from huggingface_hub import HfApi, constants

    repo_id, in_name = split_repo(repo_id)
    wanted = revision or in_name or constants.DEFAULT_REVISION
    cache = Path(cache_dir or constants.HF_HUB_CACHE).expanduser()
    api = HfApi(token=token, library_name="zoo")
    client = _Client(api, repo_id, wanted, token, cache, timeout, Patience(timeout))
    try:
        listing = client.ask(lambda left: _list(api, repo_id, wanted, token, left))
    except Exception as error:
        raise client.explain(error) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what is left out is in the result
        names = harmless(listing.files, [], (), f"{repo_id}@{wanted}")
    paths: dict[str, Path] = {}
    errors: dict[str, Exception] = {}
    for name in names:
        tell(f"{name} of {repo_id}@{wanted} ...")
        try:
            paths[name] = client.fetch(listing, name)
        except (HubError, CorruptFileError) as error:
            errors[name] = error
    if paths:
        client.note_commit(listing)
    sums = {name: said for name in listing.files if (said := listing.sum_of(name))}
    sizes = {name: size for name, (size, _, _) in listing.files.items()}
    return Fetched(
        repo_id, wanted, listing.commit, sizes, sums, paths, errors, sorted(listing.files.keys() - set(names))
    )


def _not_cached(repo: str, revision: str, cache: Path, why: str) -> HubUnavailableError:
    at = "" if revision == "main" else f"@{revision}"
    return HubUnavailableError(
        f"config.json and weights of {repo!r} at {revision!r} are not in the cache ({cache}), and {why}. On a machine "
        f"with a connection fetch them with: zoo pull {repo}{at} DIR; then use 'local-dir:DIR'"
    )


def _cached_commit(home: Path, revision: str) -> str | None:
    """The commit that the cache knows for a revision."""
    if _COMMIT.fullmatch(revision):
        return revision
    with contextlib.suppress(OSError):
        commit = (home / "refs" / revision).read_text().strip()
        return commit if _COMMIT.fullmatch(commit) else None
    return None


def _from_cache(home: Path, repo: str, revision: str, commit: str, allow_pickle: bool) -> Snapshot:
    """A commit that is complete in the cache; FileNotFoundError or FileNotInRepoError when it is not."""
    folder = home / "snapshots" / commit
    names = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    if CONFIG_NAME not in names:
        raise FileNotFoundError(folder / CONFIG_NAME)
    chosen = _choose(names, repo, revision, allow_pickle)
    weights = _expand(folder, chosen, f"{repo}@{revision}")
    for file in weights:
        if not file.is_file():
            raise FileNotFoundError(file)
    # The cache links a large file to a blob named by its SHA-256, which is what the Hub once promised. One link only:
    # that blob can itself be a link into the store of the xet client, where names are other hashes.
    promised = {file: Path(os.readlink(file)).name if file.is_symlink() else "" for file in weights}
    sums = {
        file.name: _check_large(file, name, f"{file.name} of {repo}@{revision}", fresh=False)
        for file, name in promised.items()
        if re.fullmatch(r"[0-9a-f]{64}", name)
    }
    present = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    chosen_files = [CONFIG_NAME, *(file.name for file in weights)]
    files = [name for name in present if name in chosen_files or not is_unsafe(name)]
    checked = {name: f"SHA-256 {digest}" for name, digest in sums.items()}
    return Snapshot(folder, weights, repo, revision, commit, sums, files, checked)


def _choose(names: list[str], repo: str, revision: str, allow_pickle: bool) -> str:
    try:
        return choose_weights(names, f"{repo!r} at {revision!r}", allow_pickle=allow_pickle)
    except FileNotFoundError as error:
        raise FileNotInRepoError(str(error)) from None


def _expand(folder: Path, chosen: str, where: str) -> list[Path]:
    if chosen != INDEX_NAME:
        return [folder / chosen]
    return [folder / name for name in sorted(set(read_index(folder / INDEX_NAME, where).values()))]


def _list(api: Any, repo: str, revision: str, token: Any, timeout: float) -> _Listing:
    info = api.model_info(repo, revision=revision, token=token, files_metadata=True, timeout=timeout)
    if not info.sha:
        raise HubError(f"the Hub names no commit for {repo!r} at {revision!r}")
    files = {}
    for entry in info.siblings or []:
        lfs = entry.lfs.sha256 if entry.lfs else None
        files[entry.rfilename] = (entry.size, lfs, None if lfs else entry.blob_id)
    return _Listing(info.sha, files)


@dataclass
class _Client:
    """Requests for one pull: the Hub must answer in time, and what it sends must not stand still."""

    api: Any
    repo: str
    revision: str
    token: Any
    cache: Path
    timeout: float
    patience: Patience

    def explain(self, error: BaseException, file: str | None = None) -> Exception:
        """The zoo's error for a failed request."""
        return translate(error, repo=self.repo, revision=self.revision, file=file, api=self.api, token=self.token)

    def ask(self, request: Callable[[float], T]) -> T:
        """Make a request, again after a transient failure, as long as the deadline allows."""
        pause = 0.5
        while True:
            self.patience.begin()
            try:
                return request(max(self.patience.left, 0.5))
            except Exception as error:
                wait = retry_after(error) or pause
                if not is_transient(error) or wait + 0.5 > self.patience.left or _refused(error):
                    raise
                time.sleep(wait)
                pause *= 2

    def take(self, listing: _Listing, *, allow_pickle: bool, everything: bool, only: Sequence[str]) -> Snapshot:
        """Fetch the config, the weights and, if wanted, the rest of a listed commit."""
        names = [name for name in listing.files if "/" not in name]
        chosen = _choose(names, self.repo, self.revision, allow_pickle)
        first = self.fetch(listing, chosen)
        folder = first.parent
        if CONFIG_NAME in names:
            self.fetch(listing, CONFIG_NAME)
        weights = _expand(folder, chosen, f"{self.repo}@{self.revision}")
        if chosen == INDEX_NAME:
            check_shards(names, {file.name: file.name for file in weights}, f"{self.repo}@{self.revision}")
        for file in weights:
            self.fetch(listing, file.name)
        taken = [CONFIG_NAME] if CONFIG_NAME in names else []
        taken += [chosen, *(file.name for file in weights if file.name != chosen)]
        if everything:
            rest = harmless(listing.files, taken, only, f"{self.repo}@{self.revision}")
            for name in rest:
                self.fetch(listing, name)
            taken += rest
        self.note_commit(listing)
        sums = {f.name: s for f in weights if (s := listing.files[f.name][1]) is not None}
        checked = {name: said for name in taken if (said := listing.sum_of(name))}
        return Snapshot(folder, weights, self.repo, self.revision, listing.commit, sums, taken, checked)

    def note_commit(self, listing: _Listing) -> None:
        """Let the cache know which commit the revision stands for, as the client does, for use offline."""
        if self.revision != listing.commit:
            with contextlib.suppress(OSError):  # a read-only cache only loses its knowledge for offline use
                home = self.cache / f"models--{self.repo.replace('/', '--')}"
                write_text(home / "refs" / self.revision, listing.commit)

    def fetch(self, listing: _Listing, name: str) -> Path:
        """One file of the listed commit, checked."""
        from huggingface_hub import hf_hub_download, hf_hub_url

        where = f"{name} of {self.repo}@{self.revision} (commit {listing.commit[:8]})"
        if name not in listing.files:
            raise FileNotInRepoError(f"there is no {where}; it holds {few(listing.files)}")
        size, sha256, git_sum = listing.files[name]
        options: dict[str, Any] = {"revision": listing.commit, "cache_dir": self.cache, "token": self.token}
        folder = self.cache / f"models--{self.repo.replace('/', '--')}" / "snapshots" / listing.commit
        fresh = not (folder / name).exists()
        self.patience = Patience(transfer_seconds(0.8 * self.timeout))
        try:
            with watched(self.patience):
                if fresh:
                    # The refusal of this look at the file is what the caller gets to see; of its own, the client only
                    # says that the file is not in the cache.
                    url = hf_hub_url(self.repo, name, revision=listing.commit, endpoint=self.api.endpoint)
                    meta = self.ask(lambda left: self.api.get_hf_file_metadata(url=url, token=self.token, timeout=left))
                    if meta.commit_hash not in (None, listing.commit):
                        raise HubError(
                            f"asked for {where}, {self.api.endpoint} answers for commit {meta.commit_hash[:8]}: does "
                            f"{self.repo!r} have a branch or tag whose name is a commit's, {listing.commit}? Delete it"
                        )
                path = self.ask(
                    lambda left: Path(
                        hf_hub_download(self.repo, name, etag_timeout=left, library_name="zoo", **options)
                    )
                )
        except HubError:
            raise
        except Exception as error:
            raise self.explain(error, name) from error
        if size is not None and path.stat().st_size != size:
            _discard(path, fresh)
            raise CorruptFileError(
                f"{where} has {path.stat().st_size:,} bytes, the Hub records {size:,}{_advice(path, fresh)}"
            )
        if sha256 is not None:
            _check_large(path, sha256, where, fresh=fresh)
        elif git_sum is not None:
            _check_small(path, git_sum, where, fresh=fresh)
        return path


def _refused(error: BaseException) -> bool:
    """Whether nobody listens at the address: waiting will not change that."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError) or "refused" in str(seen).lower():
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _check_large(path: Path, expected: str, where: str, *, fresh: bool) -> str:
    try:
        # One pass gives the sum and the finiteness that opening the file will ask for.
        is_safe = path.name.endswith(".safetensors")
        real = scan(SafetensorsFile(path), sha256=True).sha256 if is_safe else sha256_of(path)
    except CorruptFileError:
        real = sha256_of(path)
    if real != expected:
        advice = _advice(path, fresh)
        _discard(path, fresh)
        raise ChecksumError(f"{where} is not the recorded file: expected SHA-256 {expected}, real {real}{advice}")
    return expected


def _check_small(path: Path, expected: str, where: str, *, fresh: bool) -> None:
    real = git_sum_of(path)
    if real != expected:
        advice = _advice(path, fresh)
        _discard(path, fresh)
        raise ChecksumError(f"{where} is not the recorded file: expected git sum {expected}, real {real}{advice}")


def _advice(path: Path, fresh: bool) -> str:
    if fresh:
        return "; it was damaged on the way and has been removed again: try once more"
    return f"; the cached file {path.resolve()} is damaged: delete it and fetch it again"


def _discard(path: Path, fresh: bool) -> None:
    """Remove what was just fetched broken; what has long been in the cache is left for its owner to look at."""
    if fresh:
        with contextlib.suppress(OSError):
            data = path.resolve()
            path.unlink(missing_ok=True)
            data.unlink(missing_ok=True)
