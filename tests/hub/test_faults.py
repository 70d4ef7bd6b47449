"""Failures on demand, as the real client meets them."""

import hashlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

WEIGHTS = bytes(range(256)) * 2000
GET_BLOB = ("GET", "/_lfs/get/*")


@pytest.fixture
def api(hub, monkeypatch) -> HfApi:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)  # faults are in what goes over HTTP
    return HfApi(endpoint=hub.endpoint, token=hub.token)


@pytest.fixture
def repo(hub, api) -> str:
    repo = hub.repo_id()
    api.create_repo(repo)
    commit(api, repo, {"config.json": b"{}", "model.safetensors": WEIGHTS})
    hub.requests.clear()
    return repo


def commit(api: HfApi, repo: str, files: dict[str, bytes], **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message="Add model", **options)


def read(hub, repo: str, path: str = "model.safetensors") -> bytes:
    with open(hf_hub_download(repo, path, cache_dir=hub.cache, token=hub.token), "rb") as file:
        return file.read()


def test_dropped_download_is_resumed_by_range(hub, repo, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 2**16)  # what it keeps: whole chunks
    hub.fail_next(*GET_BLOB, drop_after=100_000)
    assert read(hub, repo) == WEIGHTS
    ranges = [request.headers.get("range") for request in hub.requests if request.matches(*GET_BLOB)]
    assert ranges == [None, "bytes=65536-"]


def test_one_flipped_byte_keeps_the_size(hub, repo):
    hub.fail_next(*GET_BLOB, corrupt=True)
    got = read(hub, repo)
    assert len(got) == len(WEIGHTS)
    assert [index for index in range(len(got)) if got[index] != WEIGHTS[index]] == [len(WEIGHTS) // 2]


def test_truncated_download_is_noticed(hub, repo):
    hub.fail_next(*GET_BLOB, truncate=1000)
    with pytest.raises(OSError, match="should be of size 512000 but has size 1000"):
        read(hub, repo)


def test_statuses_apply_as_often_as_planned_and_to_what_matches(hub, repo):
    hub.fail_next("HEAD", f"/{repo}/resolve/*/config.json", status=403, times=2)
    for _ in range(2):
        with pytest.raises(LocalEntryNotFoundError) as caught:
            read(hub, repo, "config.json")
        assert caught.value.__cause__.response.status_code == 403
        assert read(hub, repo) == WEIGHTS
    assert read(hub, repo, "config.json") == b"{}"


def test_headers_say_when_to_come_back(hub, api):
    hub.fail_next("GET", "/api/whoami-v2", status=429, headers={"Retry-After": "7"})
    with pytest.raises(HfHubHTTPError) as caught:
        api.whoami()
    assert (caught.value.response.status_code, caught.value.response.headers["Retry-After"]) == (429, "7")


@pytest.mark.parametrize("status", [503, 0])
def test_a_commit_whose_answer_is_lost_has_happened(hub, api, repo, status):
    hub.fail_next("POST", "*/commit/main", status=status, after_commit=True)
    with pytest.raises(Exception, match=r"503|disconnected"):  # the second one is of the client's HTTP library
        commit(api, repo, {"config.json": b"[1]"})
    assert read(hub, repo, "config.json") == b"[1]"
    hub.fail_next("POST", "*/commit/main", status=503)
    with pytest.raises(HfHubHTTPError, match="503"):
        commit(api, repo, {"config.json": b"[2]"})
    assert [made.title for made in api.list_repo_commits(repo)] == ["Add model", "Add model", "initial commit"]


def test_slow_answers_are_right_answers(hub, api):
    hub.fail_next("GET", "/api/whoami-v2", status=None, delay=0.2)
    started = time.monotonic()
    assert api.whoami()["name"] == "alice"
    assert time.monotonic() - started >= 0.2


def test_while_the_hub_is_down_connections_are_refused(hub, api, repo):
    address = hub.endpoint.removeprefix("http://")
    kept_alive = http.client.HTTPConnection(address)
    kept_alive.request("GET", f"/{repo}/resolve/main/config.json")
    assert kept_alive.getresponse().read() == b"{}"
    with hub.down():
        with pytest.raises(ConnectionRefusedError):
            http.client.HTTPConnection(address).connect()
        assert kept_alive.sock.recv(1) == b""  # closed from the other side
    kept_alive.close()
    assert api.list_repo_files(repo) == [".gitattributes", "config.json", "model.safetensors"]


def test_of_two_pushes_on_one_parent_one_wins(hub, api, repo):
    head = api.model_info(repo).sha

    def push(number: int) -> str:
        try:
            return commit(api, repo, {"config.json": b"[%d]" % number}, parent_commit=head).oid
        except HfHubHTTPError as error:
            return str(error.response.status_code)

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(push, range(4)))
    assert results.count("412") == 3
    winner = next(number for number, result in enumerate(results) if result != "412")
    assert read(hub, repo, "config.json") == b"[%d]" % winner
    assert api.model_info(repo).sha == results[winner]


def test_pushes_at_the_same_time_lose_nothing(hub, api, repo):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: commit(api, repo, {f"{n}.json": b"{}", f"{n}.bin": b"%d" % n}), range(8)))
    assert len(api.list_repo_files(repo)) == 3 + 16
    assert len(api.list_repo_commits(repo)) == 2 + 8


def test_uploads_that_are_not_what_they_claim_are_refused(hub, api, repo):
    hub.fail_next("PUT", "/_lfs/put/*", status=200)  # says yes and stores nothing
    with pytest.raises(RuntimeError, match=r"uploading 'model\.safetensors'") as caught:
        commit(api, repo, {"model.safetensors": b"new"})
    assert caught.value.__cause__.response.status_code == 404
    assert api.get_paths_info(repo, "model.safetensors")[0].lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
