"""Pull: one commit, what it holds and nothing else, checked; and what happens when the Hub does not play along."""

import hashlib
import json
import re
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch
from huggingface_hub import CommitOperationAdd, HfApi, constants

from zoo.errors import (
    AccessDeniedError,
    ChecksumError,
    ConfigError,
    CorruptFileError,
    FileNotInRepoError,
    HubError,
    HubUnavailableError,
    PickleRefusedError,
    RepoNotFoundError,
    RevisionNotFoundError,
)
from zoo.publish import pull_to_folder
from zoo.weights import open_checkpoint
from zoo.weights.hub import pull, split_repo

STATE = {"w": torch.arange(300_000.0), "b": torch.ones(2)}
CONFIG = {"architecture": "test_resnet", "num_classes": 2, "pretrained_cfg": {"input_size": [3, 160, 160]}}


def weights(state=None):
    return safetensors.torch.save(STATE if state is None else state)


def commit(hub, repo, files, **options):
    api = HfApi(token=hub.token)
    api.create_repo(repo, exist_ok=True, private=options.pop("private", None))
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    return api.create_commit(repo, operations, commit_message="Add files", **options).oid


def files(state=None, **more):
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": weights(state), **more}


@pytest.fixture
def repo(hub):
    repo = hub.repo_id()
    commit(hub, repo, files())
    return repo


@pytest.fixture
def fetch(hub):
    def fetch(repo, revision=None, **options):
        return pull(repo, revision, **{"cache_dir": hub.cache, **options})

    return fetch


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def blob(hub):
    """The file in the cache that holds the weights."""
    path = next(hub.cache.glob("models--*/snapshots/*/model.safetensors"))
    return path.parent / Path(path.readlink()) if path.is_symlink() else path


# --- what is fetched ---


def test_the_repository_s_one_commit_comes_checked(hub, repo, fetch, transfer):
    snapshot = fetch(repo)
    head = HfApi().model_info(repo).sha
    digest = hashlib.sha256(weights()).hexdigest()
    assert (snapshot.repo, snapshot.revision, snapshot.commit) == (repo, "main", head)
    assert snapshot.source == {
        "repo": repo,
        "revision": "main",
        "commit": head,
        "sha256": {"model.safetensors": digest},
    }
    assert snapshot.files == ["config.json", "model.safetensors"]
    assert snapshot.config.architecture == "test_resnet"
    assert snapshot.origin == f"{repo}@main (commit {head[:8]})"
    tensors = open_checkpoint(f"hf-hub:{repo}", cache_dir=hub.cache).tensors
    assert all(torch.equal(tensors[k], v) for k, v in STATE.items())


def test_config_and_weights_are_of_one_commit_while_the_branch_moves(hub, repo, fetch):
    old = HfApi().model_info(repo).sha
    moved = dict(STATE, b=torch.zeros(2))
    real_ask = hub.server.answer

    def answer(request):
        result = real_ask(request)
        if request.path.startswith(f"/api/models/{repo}/revision"):  # right after the list of files was given out
            hub.server.answer = real_ask
            commit(hub, repo, files(moved))
        return result

    hub.server.answer = answer
    snapshot = fetch(repo)
    assert snapshot.commit == old
    assert torch.equal(open_checkpoint(snapshot.folder).tensors["b"], STATE["b"])
    assert torch.equal(open_checkpoint(fetch(repo).folder).tensors["b"], moved["b"])


@pytest.mark.parametrize("kind", ["branch", "tag", "commit"])
def test_a_revision_may_be_a_branch_a_tag_or_a_commit(hub, repo, fetch, kind):
    first = HfApi().model_info(repo).sha
    api = HfApi(token=hub.token)
    api.create_tag(repo, tag="v1")
    api.create_branch(repo, branch="old")
    commit(hub, repo, files({"w": torch.zeros(3)}))
    revision = {"branch": "old", "tag": "v1", "commit": first}[kind]
    assert fetch(repo, revision).commit == first
    assert fetch(f"{repo}@{revision}").commit == first
    assert fetch(repo).commit != first


@pytest.mark.parametrize("same_weights", [True, False])
def test_a_branch_that_is_called_as_a_commit_is_named_and_its_files_are_not_taken_for_the_commit_s(
    hub, repo, fetch, same_weights
):
    head = HfApi().model_info(repo).sha
    HfApi(token=hub.token).create_branch(repo, branch=head)
    changed = files(None if same_weights else {"w": torch.zeros(3)}, **{"notes.txt": b"x"})
    other = commit(hub, repo, changed, revision=head)
    said = rf"answers for commit {other[:8]}: does '{repo}' have a branch or tag whose name is a commit's, {head}\?"
    with pytest.raises(HubError, match=said):
        fetch(repo)
    assert fetch(repo, head).commit == other  # the Hub's own reading of the name
    HfApi(token=hub.token).delete_branch(repo, branch=head)
    assert fetch(repo).commit == head


def test_private_repositories_open_for_their_owner_alone(hub, fetch):
    repo = hub.repo_id("secret")
    commit(hub, repo, files(), private=True)
    assert fetch(repo, token=hub.token).repo == repo
    with pytest.raises(RepoNotFoundError, match="the token may not see it"):
        fetch(repo, token=hub.other_token)


def test_no_token_is_told_where_one_is_missing(hub):
    repo = hub.repo_id("secret")
    commit(hub, repo, files(), private=True)
    code = """
        import sys
        from zoo.weights.hub import pull
        try:
            pull(sys.argv[1])
        except OSError as error:
            print(type(error).__name__, error)
    """
    said = hub.run_python(code, repo, HF_TOKEN=None).stdout
    assert said.startswith("RepoNotFoundError")
    assert "no token was given (hf auth login, or HF_TOKEN)" in said


def test_the_token_does_not_reach_the_store_of_large_files(hub, repo, fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    fetch(repo, token=hub.token)
    stored = [r for r in hub.requests if r.matches("GET", "/_lfs/*")]
    assert stored
    assert not any("authorization" in {k.lower() for k in r.headers} for r in stored)


def test_shards_are_fetched_by_their_index(hub, fetch):
    repo = hub.repo_id("shards")
    homes = {"w": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    parts = {name: weights({k: STATE[k]}) for k, name in homes.items()}
    index = json.dumps({"weight_map": homes}).encode()
    commit(hub, repo, {"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": index, **parts})
    snapshot = fetch(repo)
    assert [p.name for p in snapshot.weights] == sorted(parts)
    assert open_checkpoint(snapshot.folder).tensors.keys() == STATE.keys()
    with hub.down():
        assert fetch(repo, snapshot.commit).weights == snapshot.weights


def test_everything_means_all_but_code_and_pickles(hub, fetch):
    repo = hub.repo_id("rich")
    more = {
        "README.md": b"---\nlicense: mit\n---\n",
        "train/history.csv": b"a\n",
        "evil.py": b"x",
        "pytorch_model.bin": b"x",
    }
    commit(hub, repo, files(**more))
    snapshot = fetch(repo, everything=True)
    assert sorted(snapshot.files) == ["README.md", "config.json", "model.safetensors", "train/history.csv"]
    assert not (snapshot.folder / "evil.py").exists()


def plant(hub, repo, names):
    """Files under names that no client would send."""
    storage = hub.server.storage

    def edit(present):
        present.update({name: storage.add_file(b"planted") for name in names})

    storage.commit(storage.repos[repo], "main", edit, title="Plant", message="", author="alice")


HARMLESS = ["README.md", "train/history.csv"]
OUTSIDE = ["../x", "a/../../x", "/etc/x", "C:\\x", "..\\x", "a//x", "./x", "x/.", "nul\u0000", "dot.", "con:x"]
CODE = ["run.py", "RUN.PY", "a/b.sh", "lib.so", "old.PKL", ".git/hooks/x", "a/.git/config", "notebook.ipynb"]
LIKE_OTHERS = ["readme.md", "Model.safetensors", "CONFIG.json", "README.md/x"]


def test_names_that_leave_the_folder_or_hide_others_are_never_written(hub, repo, fetch, tmp_path):
    plant(hub, repo, [*HARMLESS, *OUTSIDE, *CODE, *LIKE_OTHERS])
    with pytest.warns(UserWarning, match="files left out, as their names leave the folder or differ from others only"):
        snapshot = fetch(repo, everything=True)
    assert sorted(snapshot.files) == ["README.md", "config.json", "model.safetensors", "train/history.csv"]
    with pytest.warns(UserWarning, match="left out"):
        pull_to_folder(repo, tmp_path / "deep/er/out", cache_dir=hub.cache)
    written = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    inside = {n for n in written if not n.startswith("hf-home/")}
    assert inside == {f"deep/er/out/{name}" for name in snapshot.files}
    assert not [
        p
        for p in hub.cache.rglob("*")
        if p.is_file()
        and p.read_bytes() == b"planted"
        and "blobs" not in str(p)
        and p.name not in ("README.md", "history.csv")
    ]


def test_some_of_the_other_files_may_be_asked_for(hub, repo, fetch):
    plant(hub, repo, ["README.md", "train/history.csv", "train/loss.png", "evil.py"])
    snapshot = fetch(repo, everything=True, only=["train/*.csv"])
    assert snapshot.files == ["config.json", "model.safetensors", "train/history.csv"]
    assert not hub.seen("GET", "*loss.png")
    for pattern in ("trian/*", "evil.py"):
        with pytest.raises(FileNotInRepoError, match=rf"matches '{re.escape(pattern)}'.*train/history\.csv"):
            fetch(repo, everything=True, only=[pattern])


def test_a_pull_goes_on_with_the_files_that_are_there(hub, repo, fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.fail_next("*", "*/resolve/*/config.json", status=403, times=9)
    with pytest.raises(AccessDeniedError, match=r"config\.json"):
        fetch(repo)
    hub.server.faults.clear()
    assert fetch(repo).files == ["config.json", "model.safetensors"]
    assert len(hub.seen("GET", "/_lfs/get/*")) == 1


def test_shards_that_the_index_does_not_name_are_refused_before_they_are_fetched(hub, fetch):
    repo = hub.repo_id("shards")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    homes = {"w": names[0]}
    index = json.dumps({"weight_map": homes}).encode()
    parts = {name: weights({"w": STATE["w"]}) for name in names}
    commit(hub, repo, {"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": index, **parts})
    with pytest.raises(CorruptFileError, match=rf"{repo}@main holds {names[1]}, which its .* does not name"):
        fetch(repo)
    assert not hub.seen("*", f"*{names[0]}")
    homes["b"] = "model-00003-of-00003.safetensors"
    commit(hub, repo, {"model.safetensors.index.json": json.dumps({"weight_map": homes}).encode()})
    with pytest.raises(CorruptFileError, match=rf"{repo}@main lacks {homes['b']}"):
        fetch(repo)


# --- pickles ---


def test_a_repository_with_nothing_but_pickles_is_refused_without_fetching_them(hub, fetch):
    repo = hub.repo_id("pickled")
    commit(hub, repo, {"config.json": b"{}", "pytorch_model.bin": b"not even a pickle"})
    with pytest.raises(PickleRefusedError, match=r"pytorch_model\.bin.*allow_pickle=True"):
        fetch(repo)
    assert not hub.seen("*", "*pytorch_model.bin*")


def test_a_refused_safetensors_file_never_ends_in_the_pickle_beside_it(hub, fetch):
    repo = hub.repo_id("both")
    commit(hub, repo, files(**{"pytorch_model.bin": b"never"}))
    hub.fail_next("*", "*/resolve/*/model.safetensors", status=403, times=99)
    with pytest.raises(AccessDeniedError, match=r"not allowed to read model\.safetensors"):
        fetch(repo)
    assert not hub.seen("*", "*pytorch_model.bin*")


# --- damage ---


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_byte_flipped_on_the_way_is_found_and_what_came_is_removed(hub, repo, fetch, monkeypatch, name):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    where = "/_lfs/get/*" if name.endswith("safetensors") else f"/{repo}/resolve/*/config.json"
    hub.fail_next("GET", where, corrupt=True)
    with pytest.raises(ChecksumError) as caught:
        fetch(repo)
    for part in (name, repo, "main", "expected", "real", "try once more"):
        assert part in str(caught.value)
    assert fetch(repo).files  # the next attempt fetches it anew


def test_a_truncated_transfer_is_an_error_and_leaves_nothing(hub, repo, fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.fail_next("GET", "/_lfs/get/*", truncate=1000, times=99)
    with pytest.raises((CorruptFileError, HubError), match=r"model\.safetensors"):
        fetch(repo)
    assert not list(hub.cache.glob("models--*/snapshots/*/model.safetensors"))


def test_a_connection_lost_in_the_middle_is_resumed(hub, repo, fetch, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    hub.fail_next("GET", "/_lfs/get/*", drop_after=500_000)
    fetch(repo)
    assert len(hub.seen("GET", "/_lfs/get/*")) == 2


def test_a_byte_flipped_in_the_cache_is_found_at_the_next_load(hub, repo, fetch):
    snapshot = fetch(repo)
    path = blob(hub)
    path.chmod(0o644)
    with open(path, "r+b") as file:
        file.seek(-3, 2)
        file.write(b"\x55")
    for revision in ("main", snapshot.commit):
        with pytest.raises(ChecksumError, match="delete it and fetch it again") as caught:
            fetch(repo, revision)
        assert str(path.resolve()) in str(caught.value)
    assert path.exists()
    path.resolve().unlink()
    assert fetch(repo).sha256 == snapshot.sha256


def test_the_sum_in_the_config_is_checked_too(hub, fetch):
    repo = hub.repo_id("wrong")
    config = CONFIG | {"zoo": {"format": 1, "files": {"model.safetensors": {"sha256": "0" * 64, "size": 1}}}}
    commit(hub, repo, {"config.json": json.dumps(config).encode(), "model.safetensors": weights()})
    with pytest.raises(ChecksumError, match=f"model.safetensors of {repo}@main"):
        open_checkpoint(f"hf-hub:{repo}", cache_dir=hub.cache)


def test_a_broken_config_names_line_and_repository(hub, fetch):
    repo = hub.repo_id("broken")
    commit(hub, repo, {"config.json": b'{"architecture":\n oops}', "model.safetensors": weights()})
    with pytest.raises(ConfigError, match=rf"config\.json of {repo}@main .* line 2"):
        _ = fetch(repo).config


# --- what is not there ---


def test_missing_repositories_revisions_and_files_are_told_with_what_there_is(hub, repo, fetch):
    with pytest.raises(RepoNotFoundError, match="no repository 'alice/nothing'"):
        fetch("alice/nothing")
    HfApi(token=hub.token).create_tag(repo, tag="v1.0")
    with pytest.raises(RevisionNotFoundError, match=r"no revision 'v1\.1'; did you mean 'v1\.0'\?.*tags: v1\.0"):
        fetch(repo, "v1.1")
    empty = hub.repo_id("empty")
    commit(hub, empty, {"notes.txt": b"x"})
    with pytest.raises(FileNotInRepoError, match=r"expected model\.safetensors, found .*notes\.txt"):
        fetch(empty)


def test_a_gated_repository_says_how_to_get_in(hub, repo, fetch):
    hub.server.storage.update(hub.server.storage.repos[repo], gated=True)
    with pytest.raises(AccessDeniedError, match="gated: accept its terms at"):
        fetch(repo, token=hub.other_token)


def test_a_bad_token_is_told_as_one(hub, repo, fetch):
    with pytest.raises(AccessDeniedError, match="does not accept the token") as caught:
        fetch(repo, token=hub.bad_token)
    assert hub.bad_token not in str(caught.value)


@pytest.mark.parametrize("name", ["a/b@c@d", "a/b@", "a b/c", "a/b/c", "", "../x"])
def test_malformed_names_are_refused_before_anything_is_asked(hub, name):
    with pytest.raises(ValueError, match="user/repo"):
        pull(name)
    assert not hub.requests


def test_names_and_revisions_are_split():
    assert split_repo("a/b") == ("a/b", None)
    assert split_repo("a/b@refs/pr/1") == ("a/b", "refs/pr/1")
    with pytest.raises(ValueError, match="two revisions"):
        pull("a/b@v1", "v2")


# --- a Hub that does not answer ---


def test_a_pinned_commit_in_the_cache_needs_no_hub(hub, repo, fetch):
    snapshot = fetch(repo)
    asked = len(hub.requests)
    assert fetch(repo, snapshot.commit).sha256 == snapshot.sha256
    assert len(hub.requests) == asked


def test_a_hub_that_is_down_is_replaced_by_the_cache_with_a_warning(hub, repo, fetch):
    snapshot = fetch(repo)
    with hub.down(), pytest.warns(UserWarning, match=rf"cannot be reached.*using {repo}@main \(commit"):
        assert fetch(repo).commit == snapshot.commit


def test_a_hub_that_is_down_and_an_empty_cache_is_a_quick_and_full_answer(hub, repo, fetch):
    begin = time.monotonic()
    with hub.down(), pytest.raises(HubUnavailableError) as caught:
        fetch(repo, "v1")
    assert time.monotonic() - begin < 10
    for part in (repo, "'v1'", "config.json", str(hub.cache), f"zoo pull {repo}@v1 DIR", hub.endpoint):
        assert part in str(caught.value)


def test_offline_works_from_the_cache_and_says_what_is_missing(hub, repo, fetch, offline, monkeypatch):
    with pytest.raises(HubUnavailableError, match="network may not be used"):
        fetch(repo)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    snapshot = fetch(repo)
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(repo).commit == snapshot.commit
    assert fetch(repo, everything=True).files == snapshot.files
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert fetch(repo, local_files_only=True).commit == snapshot.commit
    assert len(hub.requests) == asked


@pytest.mark.parametrize("status", [503, 429, 0])
@pytest.mark.parametrize(("method", "path"), [("GET", "/api/models/*"), ("HEAD", "*/resolve/*")])
def test_passing_trouble_is_waited_for(hub, repo, fetch, method, path, status):
    hub.fail_next(method, path, status=status, times=2)
    assert fetch(repo).files


@pytest.mark.parametrize(("method", "path"), [("GET", "/api/models/*"), ("HEAD", "*/resolve/*")])
@pytest.mark.parametrize("status", [503, 429])
def test_lasting_trouble_ends_within_the_time_given(hub, repo, fetch, method, path, status):
    hub.fail_next(method, path, status=status, times=99)
    begin = time.monotonic()
    with pytest.raises(HubUnavailableError, match=repo) as caught:
        fetch(repo, timeout=3)
    assert time.monotonic() - begin < 5
    assert "limits the rate" in str(caught.value) if status == 429 else "503" in str(caught.value)


def test_a_rate_limit_says_when_to_come_back(hub, repo, fetch):
    hub.fail_next("GET", "/api/models/*", status=429, times=99, headers={"Retry-After": "77"})
    begin = time.monotonic()
    with pytest.raises(HubUnavailableError, match="try again in 77 s"):
        fetch(repo)
    assert time.monotonic() - begin < 2


def test_a_hub_that_hangs_is_not_waited_for_longer_than_allowed(hub, repo, fetch):
    hub.fail_next("GET", "/api/models/*", delay=8, status=None)
    begin = time.monotonic()
    with pytest.raises(HubUnavailableError):
        fetch(repo, timeout=1)
    assert time.monotonic() - begin < 4
