"""What a push asks before it begins: the owner of a bare name, and the files that are there."""

import shutil
import subprocess

import pytest
from huggingface_hub import HfApi

from zoo.errors import AccessDeniedError, HubUnavailableError
from zoo.weights.remote import check_ref, full_repo_id, read_text

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


GOOD = ["main", "v1.0", "trial/a", "refs/pr/1", "a_b-c", "a.locked", "ä", "f" * 39, "f" * 41, "deadbee"]
BAD = ["a b", "a~1", "a^", "a:b", "a?", "a*", "a[b", "a\\b", "a..b", "/a", "a/", "a//b", ".a", "a.", "a/.b", "a@{1}"]
BAD += ["a\tb", "a\x7f", "a\n", "a.lock", "a.lock/b", "-a", ""]


@pytest.mark.skipif(shutil.which("git") is None, reason="asks git")
@pytest.mark.parametrize(("names", "taken"), [(GOOD, True), (BAD, False)])
def test_the_names_below_are_git_s(names, taken):
    for name in names:
        done = subprocess.run(["git", "check-ref-format", "--branch", name], capture_output=True)
        assert (done.returncode == 0) is taken, name


@pytest.mark.parametrize("keyword", ["revision", "tag"])
def test_a_branch_or_tag_may_be_called_what_git_lets_it_be(keyword):
    check_ref(None, keyword)
    for name in GOOD:
        check_ref(name, keyword)
    kind = {"revision": "branch", "tag": "tag"}[keyword]
    for name in BAD:
        with pytest.raises(ValueError, match=rf"(?s){keyword}='.*' (cannot name a|names no) {kind}"):
            check_ref(name, keyword)
    with pytest.raises(ValueError, match="as there is '@' in it"):
        check_ref("a@b", keyword)  # git takes it, but user/repo@a@b names nothing
    for name in ("0123456789abcdef0123456789abcdef01234567", "A" * 40):
        with pytest.raises(ValueError, match=f"is the hash of a commit, and a {kind} of that name would hide"):
            check_ref(name, keyword)
    with pytest.raises(TypeError, match=f"{keyword} is the name of a {kind}, got 1"):
        check_ref(1, keyword)
