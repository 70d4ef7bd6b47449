"""What a push asks before it begins: the owner of a bare name, and the files that are there."""

import pytest
from huggingface_hub import HfApi

from zoo.errors import AccessDeniedError, HubUnavailableError
from zoo.weights.remote import full_repo_id, read_text

CARD = b"---\r\nlicense: mit\r\n---\r\n# m\r\n"


def test_a_file_of_a_repository_is_read_byte_for_byte_or_known_to_be_missing(hub, monkeypatch):
    repo, api = hub.repo_id(), HfApi(token=hub.token)
    assert read_text(repo, token=hub.token) is None
    api.create_repo(repo)
    assert read_text(repo, token=hub.token) is None
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=repo)
    assert read_text(repo).encode() == CARD
    assert read_text(repo, revision="nowhere").encode() == CARD  # a new branch begins as main
    assert read_text(repo, "app.py") is None
    assert read_text(repo, repo_type="space") is None
    with pytest.raises(AccessDeniedError):
        read_text(repo, token=hub.bad_token)
    monkeypatch.setattr("zoo.weights.retry.pause", lambda *_: 0.01)
    with hub.down(), pytest.raises(HubUnavailableError, match=f"cannot be reached for '{repo}'"):
        read_text(repo)


def test_a_space_that_cannot_be_read_is_named_as_one(hub):
    repo = hub.repo_id()
    HfApi(token=hub.token).create_repo(repo, repo_type="space", space_sdk="gradio")
    hub.fail_next("GET", f"/api/spaces/{repo}", status=403)
    with pytest.raises(AccessDeniedError, match=f"not allowed to read 'spaces/{repo}'"):
        read_text(repo, "app.py", repo_type="space")


@pytest.mark.parametrize("status", [503, 429, 0])
def test_a_stumble_is_passed_over_as_often_as_allowed(hub, monkeypatch, status):
    monkeypatch.setattr("zoo.weights.retry.pause", lambda *_: 0.01)
    repo, api = hub.repo_id(), HfApi(token=hub.token)
    api.create_repo(repo)
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=repo)
    hub.fail_next("GET", f"/api/models/{repo}", status=status, times=4)
    assert read_text(repo).encode() == CARD
    hub.fail_next("GET", f"/api/models/{repo}", status=status)
    with pytest.raises(HubUnavailableError):
        read_text(repo, attempts=1)


def test_a_bare_name_belongs_to_the_owner_of_the_token(hub):
    assert full_repo_id("mine", hub.token) == "alice/mine"
    assert full_repo_id("mine", hub.other_token) == "bob/mine"
    assert full_repo_id("any/body") == "any/body"
    with pytest.raises(AccessDeniedError, match="does not accept the token"):
        full_repo_id("mine", hub.bad_token)
    with pytest.raises(ValueError, match="user/repo"):
        full_repo_id("a b")
