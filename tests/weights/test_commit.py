"""Push: one commit or none, repeated without harm, and never over somebody else's work."""

import re
import time

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from zoo.errors import AccessDeniedError, HubError, HubUnavailableError, WeightsError
from zoo.weights.commit import commit_folder
from zoo.weights.remote import full_repo_id

WEIGHTS = bytes(range(256)) * 500


@pytest.fixture
def api(hub):
    return HfApi(token=hub.token)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "train").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# m\n")
    (folder / "train/history.csv").write_text("epoch\n1\n")
    (folder / ".DS_Store").write_bytes(b"x")
    return folder


FILES = ["README.md", "config.json", "model.safetensors", "train/history.csv"]


def commits(api, repo, revision=None):
    return [c.title for c in api.list_repo_commits(repo, revision=revision)]


def test_a_folder_becomes_one_commit(hub, api, folder, transfer):
    repo = hub.repo_id()
    result = commit_folder(folder, repo, message="Add a model", tag="v1")
    assert commits(api, repo)[0] == "Add a model"
    assert len([t for t in commits(api, repo) if t == "Add a model"]) == 1
    head = api.model_info(repo)
    assert result.commit == head.sha
    assert result.url == f"{hub.endpoint}/{repo}/commit/{head.sha}"
    assert set(FILES) == {s.rfilename for s in head.siblings} - {".gitattributes"}
    assert result.files == {name: (folder / name).stat().st_size for name in FILES}
    assert api.model_info(repo, revision="v1").sha == head.sha
    posts = hub.seen("POST", "*/commit/*")
    assert len(posts) == 1


def test_the_same_folder_again_makes_no_commit(hub, api, folder):
    repo = hub.repo_id()
    first = commit_folder(folder, repo, message="Add a model")
    before = commits(api, repo)
    assert commit_folder(folder, repo, message="Again").commit == first.commit
    assert commits(api, repo) == before
    (folder / "config.json").write_text('{"a": 1}')
    second = commit_folder(folder, repo, message="Change the config")
    assert second.commit != first.commit
    assert commits(api, repo)[0] == "Change the config"


def test_branches_and_pull_requests_leave_main_alone(hub, api, folder):
    repo = hub.repo_id()
    main = commit_folder(folder, repo, message="Add a model").commit
    (folder / "config.json").write_text('{"a": 1}')
    branch = commit_folder(folder, repo, message="Try", revision="trial")
    assert api.model_info(repo, revision="trial").sha == branch.commit
    request = commit_folder(folder, repo, message="Propose", create_pr=True)
    assert request.pull_request == f"{hub.endpoint}/{repo}/discussions/1"
    assert api.model_info(repo, revision="refs/pr/1").sha == request.commit
    assert api.model_info(repo).sha == main


def test_visibility_is_set_for_a_new_repository_and_never_ignored_for_an_old_one(hub, api, folder):
    repo = hub.repo_id()
    commit_folder(folder, repo, message="m", private=True)
    assert api.model_info(repo).private
    commit_folder(folder, repo, message="m", private=True)
    public = hub.repo_id()
    commit_folder(folder, public, message="m")
    before = api.model_info(public).sha
    (folder / "config.json").write_text('{"secret": 1}')
    with pytest.raises(AccessDeniedError, match=r"exists and is public, private=True"):
        commit_folder(folder, public, message="m", private=True)
    assert api.model_info(public).sha == before


def test_a_tag_that_exists_is_an_error_before_anything_is_uploaded(hub, api, folder):
    repo = hub.repo_id()
    first = commit_folder(folder, repo, message="m", tag="v1").commit
    (folder / "config.json").write_text('{"a": 1}')
    with pytest.raises(HubError, match=r"has a tag 'v1' already.*move_tag=True \(--move-tag\)"):
        commit_folder(folder, repo, message="m", tag="v1")
    assert api.model_info(repo).sha == first
    second = commit_folder(folder, repo, message="m", tag="v1", move_tag=True).commit
    assert api.model_info(repo, revision="v1").sha == second != first


def test_a_dry_run_asks_and_changes_nothing(hub, folder):
    result = commit_folder(folder, hub.repo_id(), message="m", dry_run=True)
    assert result.commit is None
    assert list(result.files) == FILES
    assert not [request for request in hub.requests if request.method != "GET"]


def test_pickles_and_empty_folders_are_refused(hub, folder, tmp_path):
    (folder / "train/last.pth").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"never published: train/last\.pth"):
        commit_folder(folder, hub.repo_id(), message="m")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="nothing to upload"):
        commit_folder(tmp_path / "empty", hub.repo_id(), message="m")
    assert not hub.requests


def test_refusals_are_told_and_change_nothing(hub, api, folder):
    repo = hub.repo_id()
    with pytest.raises(AccessDeniedError, match="not allowed to write to"):
        commit_folder(folder, repo, message="m", token=hub.read_token)
    with pytest.raises(AccessDeniedError, match="does not accept the token") as caught:
        commit_folder(folder, repo, message="m", token=hub.bad_token)
    assert hub.bad_token not in str(caught.value)
    assert not api.repo_exists(repo)
    commit_folder(folder, repo, message="m")
    head = api.model_info(repo).sha
    (folder / "config.json").write_text('{"a": 1}')
    with pytest.raises((AccessDeniedError, HubError), match=re.escape(repo)):
        commit_folder(folder, repo, message="m", token=hub.other_token)
    assert api.model_info(repo).sha == head


@pytest.mark.parametrize("token", [None, False])
def test_where_there_is_no_token_at_all_the_ways_to_give_one_are_told(hub, folder, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(AccessDeniedError, match=r"there is none: log in with hf auth login, set HF_TOKEN, .*--token"):
        commit_folder(folder, hub.repo_id(), message="m", token=token)
    with pytest.raises(AccessDeniedError, match="write 'user/mine'" if token is False else "hf auth login"):
        full_repo_id("mine", token)


# --- a Hub that stumbles ---


@pytest.mark.parametrize("status", [503, 429, 0])
@pytest.mark.parametrize("path", ["/api/models/*/commit/*", "/api/models/*/preupload/*", "/api/repos/create"])
def test_a_passing_failure_is_repeated(hub, api, folder, path, status):
    repo = hub.repo_id()
    hub.fail_next("POST", path, status=status)
    result = commit_folder(folder, repo, message="Add a model")
    assert api.model_info(repo).sha == result.commit
    assert commits(api, repo).count("Add a model") == 1


@pytest.mark.parametrize("status", [503, 429, 0])
def test_a_commit_whose_answer_was_lost_is_not_made_twice(hub, api, folder, status):
    repo = hub.repo_id()
    commit_folder(folder, repo, message="First")
    (folder / "config.json").write_text('{"a": 1}')
    hub.fail_next("POST", "/api/models/*/commit/*", status=status, after_commit=True)
    result = commit_folder(folder, repo, message="Second")
    assert commits(api, repo).count("Second") == 1
    assert result.commit == api.model_info(repo).sha
    assert len(hub.seen("POST", "/api/models/*/commit/*")) == 2


def test_a_pull_request_whose_answer_was_lost_is_not_opened_twice(hub, api, folder):
    repo = hub.repo_id()
    commit_folder(folder, repo, message="First")
    (folder / "config.json").write_text('{"a": 1}')
    hub.fail_next("POST", "/api/models/*/commit/*", status=503, after_commit=True)
    result = commit_folder(folder, repo, message="Propose", create_pr=True)
    assert result.pull_request == f"{hub.endpoint}/{repo}/discussions/1"
    assert len(api.list_repo_refs(repo, include_pull_requests=True).pull_requests) == 1


def test_a_lasting_failure_leaves_the_branch_as_it_was(hub, api, folder, monkeypatch):
    for module in ("commit", "retry"):
        monkeypatch.setattr(f"zoo.weights.{module}.pause", lambda *_: 0.01)
    repo = hub.repo_id()
    head = commit_folder(folder, repo, message="First").commit
    (folder / "config.json").write_text('{"a": 1}')
    hub.fail_next("POST", "/api/models/*/commit/*", status=503, times=99)
    with pytest.raises(HubUnavailableError, match="answered 503"):
        commit_folder(folder, repo, message="Second")
    assert api.model_info(repo).sha == head


def test_a_hub_that_is_down_is_told(hub, folder, monkeypatch):
    for module in ("commit", "retry"):
        monkeypatch.setattr(f"zoo.weights.{module}.pause", lambda *_: 0.01)
    begin = time.monotonic()
    with hub.down(), pytest.raises(HubUnavailableError, match="cannot be reached"):
        commit_folder(folder, hub.repo_id(), message="m")
    assert time.monotonic() - begin < 10


# --- two at the same time ---


def interfere(hub, api, repo, files):
    """Another commit, made just before the next commit request arrives."""
    real = hub.server.answer

    def answer(request):
        if request.method == "POST" and "/commit/" in request.path:
            hub.server.answer = real
            operations = [CommitOperationAdd(name, content) for name, content in files.items()]
            api.create_commit(repo, operations, commit_message="Interfere")
        return real(request)

    hub.server.answer = answer


def test_somebody_else_s_commit_to_other_files_is_built_upon(hub, api, folder):
    repo = hub.repo_id()
    commit_folder(folder, repo, message="First")
    (folder / "config.json").write_text('{"a": 1}')
    interfere(hub, api, repo, {"notes.txt": b"hello"})
    result = commit_folder(folder, repo, message="Second")
    assert commits(api, repo)[:2] == ["Second", "Interfere"]
    assert result.commit == api.model_info(repo).sha
    assert {"notes.txt", *FILES} <= {s.rfilename for s in api.model_info(repo).siblings}


def test_somebody_else_s_commit_to_our_files_is_not_overwritten(hub, api, folder):
    repo = hub.repo_id()
    commit_folder(folder, repo, message="First")
    (folder / "config.json").write_text('{"a": 1}')
    interfere(hub, api, repo, {"config.json": b'{"theirs": 1}'})
    with pytest.raises(HubError, match=r"someone else changed config\.json of .*push again"):
        commit_folder(folder, repo, message="Second")
    assert commits(api, repo)[0] == "Interfere"
