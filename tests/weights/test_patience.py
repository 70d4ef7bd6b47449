"""How long a download may stand still: refused, hanging and broken transfers end in time, moving ones go on."""

import hashlib
import time

import pytest
import torch
from huggingface_hub import constants, get_session

from tests.hub.xet import xet_problem
from tests.weights.test_hub import commit, files
from zoo.errors import HubUnavailableError
from zoo.weights.hub import pull
from zoo.weights.patience import Patience, transfer_seconds

BIG = {"w": torch.arange(2_000_000.0)}  # 8 MB


@pytest.fixture(autouse=True)
def by_http(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def repo(hub):
    repo = hub.repo_id()
    commit(hub, repo, files(BIG))
    return repo


LASTING = {
    "refused": {"status": 429},
    "refused for long": {"status": 429, "headers": {"Retry-After": "77"}},
    "unavailable": {"status": 503},
    "closed": {"status": 0},
    "hanging": {"delay": 60, "status": None},
    "breaking off at once": {"drop_after": 0},
}


REQUESTS = {"GET": "/_lfs/get/*", "HEAD": "*/resolve/*/model.safetensors"}
QUICK = ("refused", "refused for long", "hanging")
CASES = [
    pytest.param(method, trouble, marks=() if trouble in QUICK else pytest.mark.ci_long)
    for method in REQUESTS
    for trouble in LASTING
    if (method, trouble) != ("HEAD", "breaking off at once")  # the answer to a HEAD has no body
]


@pytest.mark.parametrize(("method", "trouble"), CASES)
def test_lasting_trouble_with_a_transfer_ends_in_time_and_names_the_file(hub, repo, method, trouble):
    hub.fail_next(method, REQUESTS[method], times=99, **LASTING[trouble])
    begin = time.monotonic()
    with pytest.raises(HubUnavailableError) as caught:
        pull(repo, cache_dir=hub.cache, timeout=3)
    assert time.monotonic() - begin < 4
    for part in (repo, "'main'", "model.safetensors"):
        assert part in str(caught.value)
    if trouble == "refused for long":
        assert "try again in 77 s" in str(caught.value)
        assert time.monotonic() - begin < 1
    assert not [p for p in hub.cache.rglob("*") if ".incomplete" in p.name or ".tmp-" in p.name]
    hub.server.faults.clear()
    assert pull(repo, cache_dir=hub.cache).files == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("trouble", [{"status": 429}, {"status": 503}, {"status": 0}])
def test_passing_trouble_with_a_transfer_is_waited_for(hub, repo, trouble):
    hub.fail_next("GET", "/_lfs/get/*", times=2, **trouble)
    assert pull(repo, cache_dir=hub.cache).files


def test_a_transfer_that_moves_may_take_longer_than_the_time_given(hub, repo, monkeypatch):
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 2**16)  # of less than this, the client keeps nothing
    for part in (1_000_000, 2_000_000, 3_000_000):
        hub.fail_next("GET", "/_lfs/get/*", drop_after=part)
    begin = time.monotonic()
    snapshot = pull(repo, cache_dir=hub.cache, timeout=2)
    assert time.monotonic() - begin > 2  # the client waits a second before each of the three times it goes on
    starts = [r.headers.get("range") for r in hub.requests if r.matches("GET", "/_lfs/get/*")]
    assert starts[0] is None
    assert len(starts) == 4
    assert all(start.startswith("bytes=") for start in starts[1:])
    data = (snapshot.folder / "model.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == snapshot.sha256["model.safetensors"]


@pytest.mark.parametrize(
    "trouble",
    [
        {"status": 429, "headers": {"Retry-After": "77"}},
        pytest.param({"status": 503}, marks=pytest.mark.ci_long),
        pytest.param({"status": 0}, marks=pytest.mark.ci_long),
        pytest.param({"delay": 60, "status": None}, marks=pytest.mark.ci_long),
    ],
)
def test_lasting_trouble_with_the_key_to_the_xet_store_ends_in_time(hub, repo, monkeypatch, trouble):
    if problem := xet_problem():
        pytest.skip(problem)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "0")
    commit(hub, repo, files({"w": torch.rand(100_000)}))
    hub.fail_next("GET", "*/xet-read-token/*", times=99, **trouble)
    begin = time.monotonic()
    with pytest.raises(HubUnavailableError, match=rf"model\.safetensors of '{repo}' at 'main'"):
        pull(repo, cache_dir=hub.cache, timeout=5)
    assert time.monotonic() - begin < 6
    assert hub.seen("GET", "*/xet-read-token/*")


@pytest.mark.parametrize("fail", [True, False])
def test_the_client_is_left_as_it_was(hub, repo, fail):
    client, before = get_session(), {k: list(v) for k, v in get_session().event_hooks.items()}
    if fail:
        hub.fail_next("GET", "/_lfs/get/*", status=404)
        with pytest.raises(OSError):  # noqa: PT011
            pull(repo, cache_dir=hub.cache)
    else:
        pull(repo, cache_dir=hub.cache)
    assert get_session() is client
    assert {k: list(v) for k, v in client.event_hooks.items()} == before


def test_the_time_that_the_user_asks_the_client_to_wait_is_kept(monkeypatch):
    assert transfer_seconds(8) == 8
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "60")
    assert transfer_seconds(8) == 60
    monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "soon")
    assert Patience(transfer_seconds(8)).left <= 8
