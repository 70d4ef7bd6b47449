"""What goes wrong while a model is pushed, one row each: the error that is raised, and a Hub on which nothing changed.

The rows are those of the Hub client's protocol: a refusal, an answer that is lost, somebody else who is faster, a
server that is not there. Each row pushes a real model by `zoo.push_to_hub`, with nothing between it and the server.
"""

import itertools
import tempfile
import threading
import time
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi

import zoo
from zoo.errors import AccessDeniedError, HubError, HubUnavailableError, RepoNotFoundError

COMMIT = "/api/models/*/commit/*"
LIMIT = 10.0  # seconds within which a push that cannot succeed has said so


def make(seed=0):
    torch.manual_seed(seed)
    return zoo.create_model("test_resnet", num_classes=2)


@pytest.fixture(autouse=True)
def no_rubbish(tmp_path, monkeypatch):
    """Temporary files of a test go to a folder that must be empty at its end."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # faults are in what goes over HTTP
    yield
    assert not list(place.glob("zoo-push-*"))


@pytest.fixture
def repo(hub):
    """A repository that holds a pushed model."""
    repo = hub.repo_id()
    zoo.push_to_hub(make(), repo, license="mit")
    hub.requests.clear()
    return repo


@pytest.fixture
def hasty(monkeypatch):
    """Nobody waits long between two attempts. One row each, of ours and of the client's waiting, is left as it is."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))


def everything(hub):
    """All that the server keeps: refs, and the files of every commit."""
    repos = hub.server.storage.repos
    return {key: (dict(r.refs), {oid: c.files for oid, c in r.commits.items()}, r.private) for key, r in repos.items()}


def refused(hub, error, said, push):
    """The error of a push that must fail in time and leave the server as it was."""
    before, begin = everything(hub), time.monotonic()
    with pytest.raises(error, match=said) as caught:
        push()
    assert time.monotonic() - begin < LIMIT
    assert type(caught.value) is error
    assert everything(hub) == before
    return str(caught.value)


def titles(hub, repo):
    return [c.title for c in HfApi(token=hub.token).list_repo_commits(repo)]


# --- refusals ---


def test_a_token_that_has_expired(hub, repo):
    said = refused(
        hub,
        AccessDeniedError,
        rf"does not accept the token \(expired, revoked or mistyped\) for '{repo}'",
        lambda: zoo.push_to_hub(make(1), repo, token=hub.bad_token),
    )
    assert hub.bad_token not in said


def test_a_token_that_may_only_read(hub, repo):
    said = rf"not allowed to write to .*'{repo}' at 'main'.*check the rights of the token"
    refused(hub, AccessDeniedError, said, lambda: zoo.push_to_hub(make(1), repo, token=hub.read_token))


def test_no_token(hub, repo, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "")
    said = rf"wants a token to write to '{repo}' .*hf auth login"
    refused(hub, AccessDeniedError, said, lambda: zoo.push_to_hub(make(1), repo))


def test_a_repository_of_somebody_else(hub, repo):
    said = rf"not allowed to write to .*'{repo}' at 'main'"
    refused(hub, AccessDeniedError, said, lambda: zoo.push_to_hub(make(1), repo, token=hub.other_token))


def test_a_private_repository_of_somebody_else(hub):
    repo = hub.repo_id()
    zoo.push_to_hub(make(), repo, license="mit", private=True)
    said = refused(
        hub,
        AccessDeniedError,
        rf"not allowed to write to '{repo}'",
        lambda: zoo.push_to_hub(make(1), repo, token=hub.other_token, license="mit"),
    )
    assert "private" not in said  # whether it exists is not for others to know


def test_a_missing_repository_of_somebody_else(hub):
    repo = hub.repo_id(owner="carol")
    said = rf"not allowed to write to '{repo}'.*rights"
    refused(hub, AccessDeniedError, said, lambda: zoo.push_to_hub(make(), repo, license="mit"))


def test_a_repository_that_was_deleted_in_the_middle(hub, repo):
    def delete_before_commit(request, real=hub.server.answer):
        if request.matches("POST", COMMIT) and hub.server.storage.repos.pop(repo, None):
            hub.server.storage._save()
        return real(request)

    hub.server.answer = delete_before_commit
    try:
        with pytest.raises(RepoNotFoundError, match=f"no repository '{repo}'"):
            zoo.push_to_hub(make(1), repo)
    finally:
        del hub.server.answer
    assert everything(hub) == {}


def test_a_card_that_the_hub_refuses(hub, repo):
    hub.fail_next("POST", "/api/validate-yaml", status=400)
    refused(hub, HubError, f"'{repo}' at 'main'.*Invalid metadata in README", lambda: zoo.push_to_hub(make(1), repo))
    assert not hub.seen("POST", "*/preupload/*")


def test_a_commit_that_the_hub_refuses(hub, repo):
    hub.fail_next("POST", COMMIT, status=400)
    refused(hub, HubError, f"answered 400 for '{repo}' at 'main'", lambda: zoo.push_to_hub(make(1), repo))
    assert len(hub.seen("POST", COMMIT)) == 1


def test_a_parent_that_is_stale_each_time_it_is_asked_for(hub, repo):
    hub.fail_next("POST", COMMIT, status=412, times=99)
    refused(hub, HubError, f"answered 412 for '{repo}' at 'main'", lambda: zoo.push_to_hub(make(1), repo))
    assert len(hub.seen("POST", COMMIT)) == 10


# --- a Hub that stumbles for good ---


def test_a_commit_that_never_gets_through_in_real_time(hub, repo):
    hub.fail_next("POST", COMMIT, times=99)
    begin = time.monotonic()
    refused(hub, HubUnavailableError, rf"answered 503 for '{repo}' at 'main'", lambda: zoo.push_to_hub(make(1), repo))
    assert time.monotonic() - begin > 0.5 + 1 + 2 + 4
    assert len(hub.seen("POST", COMMIT)) == 5


@pytest.mark.parametrize("status", [503, 500, 429, 0])
def test_a_commit_that_never_gets_through(hub, repo, status, hasty):
    hub.fail_next("POST", COMMIT, status=status, times=99, headers={"Retry-After": "1"} if status == 429 else {})
    said = {503: "answered 503", 500: "answered 500", 429: "limits the rate", 0: "cannot be reached"}[status]
    refused(hub, HubUnavailableError, rf"{said}.*'{repo}' at 'main'", lambda: zoo.push_to_hub(make(1), repo))
    assert len(hub.seen("POST", COMMIT)) == 5


@pytest.mark.parametrize("path", ["/api/validate-yaml", "/api/repos/create", "/api/models/*/refs"])
def test_a_request_around_the_commit_that_never_gets_through(hub, repo, path, hasty):
    hub.fail_next("*", path, status=503, times=99)
    refused(hub, HubUnavailableError, f"answered 503 for '{repo}' at 'main'", lambda: zoo.push_to_hub(make(1), repo))
    assert not hub.seen("POST", COMMIT)


@pytest.mark.parametrize(
    ("path", "file"),
    [("/api/models/*/preupload/*", ""), ("*/info/lfs/objects/batch", ""), ("/_lfs/put/*", r"model\.safetensors of ")],
)
def test_an_upload_that_never_gets_through(hub, repo, path, file, hasty):
    """The client itself asks six times, for 23 s; nothing is asked again after that."""
    hub.fail_next("*", path, status=503, times=99)
    refused(hub, HubUnavailableError, f"answered 503 for {file}'{repo}'", lambda: zoo.push_to_hub(make(1), repo))
    assert len(hub.seen("*", path)) == 6
    assert not hub.seen("POST", COMMIT)


def test_a_hub_that_asks_for_a_long_wait(hub, repo):
    hub.fail_next("POST", COMMIT, status=429, headers={"Retry-After": "300"}, times=99)
    refused(hub, HubUnavailableError, rf"'{repo}'.*try again in 300 s", lambda: zoo.push_to_hub(make(1), repo))
    assert len(hub.seen("POST", COMMIT)) == 1


def test_a_server_that_is_down(hub, repo):
    before, begin = everything(hub), time.monotonic()
    with hub.down(), pytest.raises(HubUnavailableError, match=f"cannot be reached for '{repo}'"):
        zoo.push_to_hub(make(1), repo)
    assert time.monotonic() - begin < LIMIT
    assert everything(hub) == before


def test_a_server_that_is_down_for_a_bare_name_and_for_a_space(hub, repo, hasty):
    with hub.down():
        for options in ({"repo_id": "mine"}, {"repo_id": repo, "space": "mine"}):
            with pytest.raises(HubUnavailableError, match=r"cannot be reached for '(mine|alice/model-\d+)'"):
                zoo.push_to_hub(make(1), license="mit", **options)


def test_a_server_that_goes_away_before_the_answer_to_the_commit(hub, repo):
    """Whether the commit was made cannot be known then, and that is what is said."""
    hub.fail_next("POST", COMMIT, status=0, after_commit=True)

    def gone_after_commit(request, real=hub.server.answer):
        if request.matches("POST", COMMIT):
            hub.fail_next("GET", "*", status=503, times=99)
        return real(request)

    hub.server.answer = gone_after_commit
    begin = time.monotonic()
    try:
        with pytest.raises(HubUnavailableError, match=r"whether the commit was made is not known.*Push again"):
            zoo.push_to_hub(make(1), repo, commit_message="Second")
    finally:
        del hub.server.answer
        hub.server.faults.clear()
    assert time.monotonic() - begin < LIMIT
    head = HfApi().model_info(repo).sha
    assert titles(hub, repo).count("Second") == 1
    assert zoo.push_to_hub(make(1), repo, commit_message="Second").commit == head
    assert titles(hub, repo).count("Second") == 1


# --- a Hub that stumbles and comes to itself ---

STUMBLES = [
    ("GET", "/api/models/*"),
    ("POST", "/api/repos/create"),
    ("GET", "/api/models/*/refs"),
    ("POST", "/api/models/*/branch/*"),
    ("POST", "/api/validate-yaml"),
    ("POST", "/api/models/*/preupload/*"),
    ("POST", "*/info/lfs/objects/batch"),
    ("PUT", "/_lfs/put/*"),
    ("POST", "*/info/lfs/objects/verify"),
    ("POST", COMMIT),
    ("POST", "/api/models/*/tag/*"),
]


@pytest.mark.parametrize("after_commit", [False, True], ids=["refused", "answer-lost"])
@pytest.mark.parametrize("status", [503, 429, 0])
@pytest.mark.parametrize(("method", "path"), STUMBLES, ids=[path for _, path in STUMBLES])
def test_each_request_is_made_again_and_there_is_one_commit(hub, hasty, method, path, status, after_commit):
    repo = hub.repo_id()
    headers = {"Retry-After": "0"} if status == 429 else {}
    hub.fail_next(method, path, status=status, headers=headers, after_commit=after_commit)
    result = zoo.push_to_hub(make(), repo, license="mit", revision="trial", tag="v1", commit_message="Add it")
    failed = next(r for r in hub.requests if r.matches(method, path))
    assert failed.status == (status or None)
    api = HfApi(token=hub.token)
    assert [c.title for c in api.list_repo_commits(repo, revision="trial")] == ["Add it", "initial commit"]
    assert {r.name: r.target_commit for r in api.list_repo_refs(repo).tags} == {"v1": result.commit}
    assert api.model_info(repo, revision="trial").sha == result.commit
    assert titles(hub, repo) == ["initial commit"]
    model = zoo.create_model(f"hf-hub:{repo}@v1", cache_dir=hub.cache)
    assert torch.equal(model.fc.weight, make().fc.weight)


def test_a_proxy_s_page_in_place_of_the_answer(hub, repo):
    hub.fail_next("POST", "/api/validate-yaml", status=502, body=b"<html>Bad gateway</html>")
    result = zoo.push_to_hub(make(1), repo, commit_message="Second")
    assert titles(hub, repo).count("Second") == 1
    assert HfApi().model_info(repo).sha == result.commit


def test_the_last_answer_is_lost_too(hub, repo, hasty):
    """After the last attempt there is one more look."""
    for _ in range(4):
        hub.fail_next("POST", COMMIT, status=503)
    hub.fail_next("POST", COMMIT, status=503, after_commit=True)
    result = zoo.push_to_hub(make(1), repo, commit_message="Second")
    assert titles(hub, repo).count("Second") == 1
    assert HfApi().model_info(repo).sha == result.commit


def test_a_tag_that_cannot_be_set(hub, repo, hasty):
    hub.fail_next("POST", "/api/models/*/tag/*", status=503, times=5)
    with pytest.raises(HubUnavailableError, match=rf"of '{repo}' is made, but its tag 'v1' is not set: .*Push again"):
        zoo.push_to_hub(make(1), repo, tag="v1", commit_message="Second")
    head = HfApi().model_info(repo).sha
    assert titles(hub, repo)[0] == "Second"
    assert zoo.push_to_hub(make(1), repo, tag="v1").commit == head
    assert HfApi().model_info(repo, revision="v1").sha == head
    assert titles(hub, repo).count("Second") == 1


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_a_tag_that_is_moved_while_answers_are_lost(hub, repo, method):
    zoo.push_to_hub(make(), repo, tag="v1")
    hub.fail_next(method, "/api/models/*/tag/*", status=503, after_commit=True)
    result = zoo.push_to_hub(make(1), repo, tag="v1", move_tag=True)
    assert HfApi().model_info(repo, revision="v1").sha == result.commit


# --- somebody else at the same time ---


def meanwhile(hub, repo, act):
    """Something that happens on the server just before the next commit of a push arrives."""
    real, once = hub.server.answer, itertools.count()

    def answer(request):
        if request.matches("POST", COMMIT) and not next(once):
            hub.server.answer = real
            act()
        return real(request)

    hub.server.answer = answer


def other(hub, repo, files, title="Theirs"):
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    HfApi(token=hub.token).create_commit(repo, operations, commit_message=title)


def test_somebody_else_pushed_to_the_same_files(hub, repo):
    meanwhile(hub, repo, lambda: other(hub, repo, {"config.json": b"{}"}))
    said = rf"someone else changed config\.json of '{repo}' at 'main' .*'Theirs' by alice.*push again"
    with pytest.raises(HubError, match=said):
        zoo.push_to_hub(make(1), repo)
    assert titles(hub, repo) == ["Theirs", "Add test_resnet", "initial commit"]


@pytest.mark.parametrize("there", [True, False])
def test_somebody_else_wrote_the_card_after_it_was_read(hub, there):
    """The card that is pushed rests on the one that was read, so theirs would be lost without a word."""
    repo = hub.repo_id()
    HfApi(token=hub.token).create_repo(repo)
    if there:
        zoo.push_to_hub(make(), repo, license="mit")
    real = hub.server.answer

    def answer(request):
        if request.matches("POST", "/api/repos/create"):
            hub.server.answer = real
            other(hub, repo, {"README.md": b"---\nlicense: mit\n---\nby hand"})
        return real(request)

    hub.server.answer = answer
    with pytest.raises(HubError, match=rf"someone else changed README\.md of '{repo}' at 'main' .*'Theirs' by alice"):
        zoo.push_to_hub(make(1), repo, license="mit")
    assert titles(hub, repo)[0] == "Theirs"
    zoo.push_to_hub(make(1), repo)
    assert Path(HfApi().hf_hub_download(repo, "README.md")).read_text().endswith("by hand\n")


def test_somebody_else_pushed_shards_that_would_stay_beside_ours(hub, repo):
    shard = {"model-00001-of-00002.safetensors": b"x", "model.safetensors.index.json": b"{}"}
    meanwhile(hub, repo, lambda: other(hub, repo, shard))
    with pytest.raises(
        HubError, match=r"someone else changed model-00001-of-00002\.safetensors, model\.safetensors\.i"
    ):
        zoo.push_to_hub(make(1), repo)
    assert titles(hub, repo)[0] == "Theirs"


def test_somebody_else_pushed_to_other_files(hub, repo):
    meanwhile(hub, repo, lambda: other(hub, repo, {"notes.txt": b"x"}))
    result = zoo.push_to_hub(make(1), repo, commit_message="Ours")
    assert titles(hub, repo)[:2] == ["Ours", "Theirs"]
    assert HfApi().model_info(repo).sha == result.commit


def test_the_answer_is_lost_and_somebody_else_has_pushed_over_it(hub, repo):
    """The push did happen: its commit is in the log, and that is what is returned."""

    def lost_then_overwritten(request, real=hub.server.answer):
        answer = real(request)
        if request.matches("POST", COMMIT):
            hub.server.answer = real
            other(hub, repo, {"config.json": b"{}"})
        return answer

    hub.server.answer = lost_then_overwritten
    hub.fail_next("POST", COMMIT, status=503, after_commit=True)
    result = zoo.push_to_hub(make(1), repo, commit_message="Ours")
    log = HfApi().list_repo_commits(repo)
    assert [c.title for c in log[:2]] == ["Theirs", "Ours"]
    assert result.commit == log[1].commit_id


def test_two_pushes_of_one_process_at_the_same_time(hub, repo):
    """Both reach the server with the same parent: one is made, the other is told."""
    barrier = threading.Barrier(2, timeout=20)
    real = hub.server.answer

    def together(request):
        if request.matches("POST", COMMIT) and not barrier.broken and barrier.n_waiting < 2:
            try:
                barrier.wait()
            except threading.BrokenBarrierError:
                pass
            else:
                hub.server.answer = real
        return real(request)

    hub.server.answer = together
    outcomes = {}

    def push(number):
        try:
            outcomes[number] = zoo.push_to_hub(models[number], repo, commit_message=f"Push {number}")
        except HubError as error:
            outcomes[number] = error

    models = [make(1), make(2)]
    threads = [threading.Thread(target=push, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    lost = [n for n, outcome in outcomes.items() if isinstance(outcome, HubError)]
    assert len(lost) == 1
    won = 1 - lost[0]
    assert f"'Push {won}' by alice" in str(outcomes[lost[0]])
    assert titles(hub, repo) == [f"Push {won}", "Add test_resnet", "initial commit"]
    assert HfApi().model_info(repo).sha == outcomes[won].commit


def test_anybody_may_propose_by_a_pull_request(hub, repo):
    head = HfApi().model_info(repo).sha
    result = zoo.push_to_hub(make(1), repo, create_pr=True, token=hub.other_token)
    assert result.pull_request == f"{hub.endpoint}/{repo}/discussions/1"
    assert HfApi().model_info(repo).sha == head
    model = zoo.create_model(f"hf-hub:{repo}@refs/pr/1", cache_dir=hub.cache)
    assert torch.equal(model.fc.weight, make(1).fc.weight)
