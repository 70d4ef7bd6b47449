"""The real huggingface_hub client against the test hub: if the client is content here, so are we."""

import hashlib
import warnings

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = b"---\nlicense: mit\n---\n# a model\n"
WEIGHTS = bytes(range(256)) * 500  # not repeated on a chunk border, 128,000 bytes


@pytest.fixture
def api(hub) -> HfApi:
    return HfApi(endpoint=hub.endpoint, token=hub.token)


def push(api: HfApi, repo: str, files: dict[str, bytes], **options):
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    return api.create_commit(repo, operations, commit_message=options.pop("message", "Add model"), **options)


def read(hub, repo: str, path: str, **options) -> bytes:
    with open(hf_hub_download(repo, path, cache_dir=hub.cache, **{"token": hub.token, **options}), "rb") as file:
        return file.read()


@pytest.fixture
def repo(hub, api) -> str:
    """A repository with config, weights and card on main."""
    repo = hub.repo_id()
    api.create_repo(repo)
    push(api, repo, {"config.json": b"{}", "model.safetensors": WEIGHTS, "README.md": CARD, "train/args.json": b"[]"})
    return repo


# --- who, and which repositories ---


def test_whoami_names_the_owner_of_the_token_and_its_role(hub):
    for token, name, role in [(hub.token, "alice", "write"), (hub.read_token, "alice", "read")]:
        answer = HfApi(token=token).whoami()
        assert (answer["name"], answer["auth"]["accessToken"]["role"]) == (name, role)
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        HfApi(token=hub.bad_token).whoami()


def test_create_once_again_and_not_for_others(hub, api):
    repo = hub.repo_id()
    assert api.create_repo(repo).repo_id == repo
    assert api.create_repo(repo, exist_ok=True).url == f"{hub.endpoint}/{repo}"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(repo)
    for token in (hub.read_token, hub.other_token):
        with pytest.raises(HfHubHTTPError, match="403"):
            HfApi(token=token).create_repo(hub.repo_id())


def test_delete_repo(hub, api, repo):
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token=hub.other_token).delete_repo(repo)
    api.delete_repo(repo)
    assert not api.repo_exists(repo)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)


def test_private_repo_is_missing_for_everybody_else(hub, api):
    repo = hub.repo_id()
    api.create_repo(repo, private=True)
    assert api.model_info(repo).private
    for token, status in [(hub.other_token, 404), (False, 401)]:
        with pytest.raises(RepositoryNotFoundError) as caught:
            api.model_info(repo, token=token)
        assert caught.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            read(hub, repo, ".gitattributes", token=token)
    assert read(hub, repo, ".gitattributes")
    api.update_repo_settings(repo, visibility="public")
    assert not api.model_info(repo, token=False).private


def test_gated_repo_shows_itself_but_not_its_files(hub, api, repo):
    api.update_repo_settings(repo, gated="manual")
    assert api.model_info(repo, token=False).gated == "manual"
    for token in (hub.other_token, False):
        with pytest.raises(GatedRepoError):
            read(hub, repo, "config.json", token=token)
    hub.server.storage.update(hub.server.storage.repos[repo], granted=["bob"])
    assert read(hub, repo, "config.json", token=hub.other_token) == b"{}"


# --- commits and files ---


def test_push_and_pull_are_bit_equal(hub, api, repo, transfer):
    again = hub.repo_id()
    api.create_repo(again)
    weights = WEIGHTS + transfer.encode()
    commit = push(api, again, {"config.json": b"{}", "model.safetensors": weights, "b/model.safetensors": WEIGHTS})
    api.create_tag(again, tag="v1")
    push(api, again, {"config.json": b'{"newer": true}', "model.safetensors": b"newer"})
    for revision in ("v1", commit.oid):
        assert read(hub, again, "model.safetensors", revision=revision) == weights
        assert read(hub, again, "config.json", revision=revision) == b"{}"
    assert read(hub, again, "model.safetensors") == read(hub, again, "model.safetensors", revision="main") == b"newer"
    folder = snapshot_download(again, revision="v1", cache_dir=hub.cache / "snapshot", token=hub.token)
    with open(f"{folder}/b/model.safetensors", "rb") as file:
        assert file.read() == WEIGHTS
    by_xet = [line for line in hub.seen(path="*/xet-*-token/*") if again in line]
    by_lfs = [line for line in hub.seen(path="*/objects/batch") if again in line]
    assert (bool(by_xet), bool(by_lfs)) == (transfer == "xet", transfer == "lfs")


@pytest.mark.parametrize("transfer", ["xet"], indirect=True)
def test_what_came_by_xet_can_be_read_without_it(hub, api, transfer, monkeypatch):
    repo = hub.repo_id()
    api.create_repo(repo)
    push(api, repo, {"model.safetensors": WEIGHTS})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    assert read(hub, repo, "model.safetensors") == WEIGHTS
    assert hub.seen("GET", "/_lfs/get/*")


def test_listings_know_sizes_and_both_kinds_of_oid(hub, api, repo):
    assert api.list_repo_files(repo) == [
        ".gitattributes", "README.md", "config.json", "model.safetensors", "train/args.json",
    ]  # fmt: skip
    entries = {entry.path: entry for entry in api.list_repo_tree(repo)}
    assert list(entries) == [".gitattributes", "README.md", "config.json", "model.safetensors", "train"]
    assert [entry.path for entry in api.list_repo_tree(repo, "train")] == ["train/args.json"]
    assert entries["config.json"].blob_id == hashlib.sha1(b"blob 2\0{}").hexdigest()
    lfs = entries["model.safetensors"].lfs
    assert (lfs.sha256, lfs.size) == (hashlib.sha256(WEIGHTS).hexdigest(), len(WEIGHTS))
    found = api.get_paths_info(repo, ["train", "model.safetensors", "absent"])
    assert [entry.path for entry in found] == ["train", "model.safetensors"]
    sizes = {file.rfilename: file.size for file in api.model_info(repo, files_metadata=True).siblings}
    assert sizes["model.safetensors"] == len(WEIGHTS)
    snapshot_download(repo, cache_dir=hub.cache, token=hub.token)
    assert api.verify_repo_checksums(repo, cache_dir=hub.cache).mismatches == []


def test_unchanged_files_are_not_sent_again(hub, api, repo):
    head = api.model_info(repo).sha
    hub.requests.clear()
    assert push(api, repo, {"config.json": b"{}", "model.safetensors": WEIGHTS}).oid == head
    assert not hub.seen("POST", "*/commit/*")
    assert not hub.seen("PUT")


def test_delete_files_and_folders(api, repo):
    operations = [CommitOperationDelete("config.json"), CommitOperationDelete("train/", is_folder=True)]
    api.create_commit(repo, operations, commit_message="Tidy up")
    assert api.list_repo_files(repo) == [".gitattributes", "README.md", "model.safetensors"]
    with pytest.raises(RemoteEntryNotFoundError):
        api.delete_file("config.json", repo)
    assert [made.title for made in api.list_repo_commits(repo)] == ["Tidy up", "Add model", "initial commit"]


def test_large_files_go_up_in_parts(hub, api, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub.server.lfs_part_size = 50_000
    repo = hub.repo_id()
    api.create_repo(repo)
    push(api, repo, {"model.safetensors": WEIGHTS})
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    assert hub.seen("PUT") == [f"PUT /_lfs/part/{oid}/{number}" for number in (1, 2, 3)]
    assert read(hub, repo, "model.safetensors") == WEIGHTS


def test_a_commit_that_fails_changes_nothing(hub, api, repo):
    head = api.model_info(repo).sha
    operations = [CommitOperationAdd("new.json", b"{}"), CommitOperationDelete("absent")]
    with pytest.raises(RemoteEntryNotFoundError):
        api.create_commit(repo, operations, commit_message="Half of it")
    assert api.model_info(repo).sha == head
    assert "new.json" not in api.list_repo_files(repo)


def test_stale_parent_is_refused(api, repo):
    head = api.model_info(repo).sha
    push(api, repo, {"a.txt": b"1"}, parent_commit=head)
    with pytest.raises(HfHubHTTPError, match="412"):
        push(api, repo, {"a.txt": b"2"}, parent_commit=head)


def test_only_the_owner_with_a_write_token_commits(hub, repo):
    for token in (hub.read_token, hub.other_token):
        with pytest.raises(HfHubHTTPError, match="403"):
            push(HfApi(token=token), repo, {"a.txt": b"1"})


def test_broken_card_is_refused_and_a_bare_one_warned_about(api, repo):
    with pytest.raises(ValueError, match=r"Invalid metadata in README\.md"):
        push(api, repo, {"README.md": b"---\nlicense: [mit\n---\n"})
    with pytest.warns(UserWarning, match="empty or missing yaml metadata"):
        push(api, repo, {"README.md": b"# no metadata"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        push(api, repo, {"README.md": b"---\nlicense: mit\ntags: [a]\n---\n"})


# --- refs ---


def test_tags_and_branches(hub, api, repo):
    first = api.model_info(repo).sha
    api.create_tag(repo, tag="v1", tag_message="first")
    api.create_branch(repo, branch="dev/1", revision=first)
    second = push(api, repo, {"config.json": b"[2]"}, revision="dev/1").oid
    refs = api.list_repo_refs(repo)
    assert {ref.name: ref.target_commit for ref in refs.branches} == {"main": first, "dev/1": second}
    assert {ref.ref: ref.target_commit for ref in refs.tags} == {"refs/tags/v1": first}
    assert read(hub, repo, "config.json", revision="dev/1") == b"[2]"
    for again in (lambda: api.create_tag(repo, tag="v1"), lambda: api.create_branch(repo, branch="dev/1")):
        with pytest.raises(HfHubHTTPError, match="409"):
            again()
    api.create_tag(repo, tag="v1", exist_ok=True)
    api.delete_tag(repo, tag="v1")
    api.delete_branch(repo, branch="dev/1")
    for revision in ("v1", "dev/1"):
        with pytest.raises(RevisionNotFoundError):
            api.model_info(repo, revision=revision)
    with pytest.raises(RevisionNotFoundError):
        api.delete_tag(repo, tag="v1")


def test_pull_requests_leave_main_alone(hub, api, repo, transfer):
    stranger = HfApi(token=hub.other_token)
    made = push(stranger, repo, {"config.json": b"[3]", "better.safetensors": WEIGHTS + b"pr"}, create_pr=True)
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert push(api, repo, {"config.json": b"[4]"}, create_pr=True).pr_num == 2
    assert read(hub, repo, "config.json", revision="refs/pr/1") == b"[3]"
    assert read(hub, repo, "better.safetensors", revision="refs/pr/1") == WEIGHTS + b"pr"
    assert read(hub, repo, "config.json") == b"{}"
    push(api, repo, {"config.json": b"[5]"}, revision="refs/pr/2")
    assert read(hub, repo, "config.json", revision="refs/pr/2") == b"[5]"
    refs = api.list_repo_refs(repo, include_pull_requests=True)
    assert [ref.ref for ref in refs.pull_requests] == ["refs/pr/1", "refs/pr/2"]


def test_missing_things_are_told_apart(hub, api, repo):
    with pytest.raises(RemoteEntryNotFoundError):
        read(hub, repo, "absent.bin")
    with pytest.raises(RevisionNotFoundError):
        read(hub, repo, "config.json", revision="absent")
    with pytest.raises(RepositoryNotFoundError):
        read(hub, "alice/absent", "config.json")
    with pytest.raises(RemoteEntryNotFoundError):
        list(api.list_repo_tree(repo, "absent"))


# --- the wire ---


def test_the_token_never_goes_to_the_cdn(hub, api, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    repo = hub.repo_id()
    api.create_repo(repo)
    push(api, repo, {"model.safetensors": WEIGHTS})
    read(hub, repo, "model.safetensors")
    at_cdn = [request for request in hub.requests if request.origin == "cdn"]
    assert {request.method for request in at_cdn} == {"PUT", "GET"}
    assert not [request.path for request in at_cdn if "authorization" in request.headers]
    at_hub = [request for request in hub.requests if request.origin == "hub"]
    assert all(request.headers["authorization"] == f"Bearer {hub.token}" for request in at_hub)


def test_uploads_of_unknown_length_arrive_in_chunks(hub):
    import http.client

    content = WEIGHTS * 20
    oid = hashlib.sha256(content).hexdigest()
    connection = http.client.HTTPConnection(hub.cdn.removeprefix("http://"))
    for chunk in (1000, 70_000):  # twice on one connection: nothing of the first body may be left over
        body = (content[start : start + chunk] for start in range(0, len(content), chunk))
        connection.request("PUT", f"/_lfs/put/{oid}", body, encode_chunked=True)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"{}")
    assert hub.server.storage.blob(oid).read_bytes() == content
    connection.request("PUT", f"/_lfs/put/{oid}", content[1:])
    answer = connection.getresponse()
    assert answer.status == 400
    assert b"not " + oid.encode() in answer.read()
    connection.close()


def test_ranges(hub, repo):
    import http.client

    connection = http.client.HTTPConnection(hub.endpoint.removeprefix("http://"))
    headers = {"Authorization": f"Bearer {hub.token}"}
    path = f"/{repo}/resolve/main/README.md"
    for asked, status, content in [
        ("bytes=2-4", 206, CARD[2:5]),
        ("bytes=5-", 206, CARD[5:]),
        ("bytes=-3", 206, CARD[-3:]),
        ("bytes=0-9999", 200, CARD),
        ("bytes=999-", 416, None),
    ]:
        connection.request("GET", path, headers=headers | {"Range": asked})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == status, asked
        assert content in (None, body), asked
    assert answer.getheader("Content-Range") == f"bytes */{len(CARD)}"
    connection.close()


def test_a_fresh_process_sees_the_same_hub(hub, api, repo, transfer):
    done = hub.run_python(
        """
        import sys
        from huggingface_hub import HfApi, hf_hub_download
        print(HfApi().whoami()["name"], len(open(hf_hub_download(sys.argv[1], "model.safetensors"), "rb").read()))
        """,
        repo,
    )
    assert done.stdout.split() == ["alice", str(len(WEIGHTS))]
    assert (hub.cache / f"models--{repo.replace('/', '--')}").is_dir()


# --- Spaces ---


def test_a_space_is_a_repository_of_its_own_beside_the_model_of_that_name(hub, api, repo, transfer):
    made = api.create_repo(repo, repo_type="space", space_sdk="gradio")
    assert (made.repo_type, made.repo_id, made.url) == ("space", repo, f"{hub.endpoint}/spaces/{repo}")
    before = api.model_info(repo).sha
    done = push(api, repo, {"app.py": b"print(1)", "picture.png": WEIGHTS}, repo_type="space")
    assert done.commit_url == f"{hub.endpoint}/spaces/{repo}/commit/{done.oid}"
    info = api.space_info(repo)
    assert (info.id, info.sdk, info.sha) == (repo, "gradio", done.oid)
    assert {s.rfilename for s in info.siblings} == {".gitattributes", "app.py", "picture.png"}
    assert read(hub, repo, "app.py", repo_type="space") == b"print(1)"
    assert read(hub, repo, "picture.png", repo_type="space") == WEIGHTS
    assert api.model_info(repo).sha == before
    with pytest.raises(RemoteEntryNotFoundError):
        read(hub, repo, "app.py")
    api.create_tag(repo, tag="v1", repo_type="space")
    assert [t.name for t in api.list_repo_refs(repo, repo_type="space").tags] == ["v1"]
    assert api.list_repo_refs(repo).tags == []
    api.delete_repo(repo, repo_type="space")
    assert api.repo_exists(repo)
    assert not api.repo_exists(repo, repo_type="space")
    with pytest.raises(RepositoryNotFoundError):
        HfApi(token=hub.other_token).space_info(repo)
