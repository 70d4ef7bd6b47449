"""Users, repositories, branches and tags."""

from tests.hub.access import caller, key_of, visible, writable, writer
from tests.hub.errors import ApiError
from tests.hub.routes import Routes
from tests.hub.storage import Commit, Repo

routes = Routes()


@routes("GET", "/api/whoami-v2")
def whoami(hub, request):
    user = caller(request)
    if user is None:
        raise ApiError(401, "Invalid username or password.")
    token = {"displayName": "test", "role": user.role}
    auth = {"type": "access_token", "accessToken": token}
    name = user.name
    return {"type": "user", "id": name, "name": name, "fullname": name, "isPro": False, "orgs": [], "auth": auth}


@routes("POST", "/api/repos/create")
def create(hub, request):
    user = writer(request)
    wanted = request.json()
    owner = wanted.get("organization") or user.name
    if owner != user.name:
        raise ApiError(403, f"You don't have the rights to create a model under the namespace {owner}")
    repo_id = f"{owner}/{wanted['name']}"
    kind, sdk = wanted.get("type", "model"), wanted.get("sdk")
    if kind == "space" and sdk not in ("gradio", "docker", "static"):
        raise ApiError(400, f"Invalid value for sdk: {sdk}")
    key = key_of(repo_id, kind)
    url = f"{hub.endpoint}/{key}"
    private = wanted.get("visibility") == "private" or wanted.get("private") is True
    try:
        hub.storage.create(key, private=private, author=user.name, sdk=sdk)
    except ApiError as error:
        error.body["url"] = url  # with exist_ok the client reads it from the refusal
        raise
    return {"url": url, "name": repo_id, "id": repo_id}


@routes("DELETE", "/api/repos/delete")
def delete(hub, request):
    wanted = request.json()
    name = key_of(f"{wanted.get('organization') or writer(request).name}/{wanted['name']}", wanted.get("type", "model"))
    repo = writable(hub, request, name)
    hub.storage.delete(repo.id)
    return {}


@routes("PUT", "/api/models/{repo}/settings")
def settings(hub, request, repo_id):
    repo = writable(hub, request, repo_id)
    wanted = request.json()
    private = wanted.get("private", repo.private)
    if "visibility" in wanted:
        private = wanted["visibility"] == "private"
    hub.storage.update(repo, private=private, gated=wanted.get("gated", repo.gated))
    return {"private": repo.private, "gated": repo.gated}


@routes("GET", "/api/models/{repo}")
def info(hub, request, repo_id):
    return revision_info(hub, request, repo_id, "main")


@routes("GET", "/api/models/{repo}/revision/{revision}")
def revision_info(hub, request, repo_id, revision):
    repo = visible(hub, request, repo_id)
    commit = repo.commit(revision)
    blobs = request.query.get("blobs", "").lower() == "true"
    return {
        "_id": repo.id,
        "id": repo.name,
        **({"sdk": repo.sdk} if repo.sdk else {"modelId": repo.name}),
        "author": repo.owner,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": repo.created,
        "private": repo.private,
        "gated": repo.gated,
        "disabled": False,
        "downloads": 0,
        "likes": 0,
        "tags": [],
        **({"cardData": _card(hub, commit)} if request.kind == "dataset" else {}),
        "siblings": _siblings(commit, blobs),
    }


def _card(hub, commit: Commit) -> dict | None:
    """The metadata at the head of README.md."""
    import yaml  # huggingface_hub needs it too

    if "README.md" not in commit.files:
        return None
    text = hub.storage.blob(commit.files["README.md"].sha256).read_text("utf-8", errors="replace")
    header = text.removeprefix("---\n").partition("\n---")[0] if text.startswith("---\n") else ""
    try:
        metadata = yaml.safe_load(header)
    except yaml.YAMLError:
        return None
    return metadata if isinstance(metadata, dict) else None


def _siblings(commit: Commit, blobs: bool) -> list[dict]:
    found = []
    for path, file in commit.files.items():
        entry: dict = {"rfilename": path}
        if blobs:
            entry |= {"size": file.size, "blobId": file.oid}
        if blobs and file.lfs:
            entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        found.append(entry)
    return found


@routes("GET", "/api/models/{repo}/refs")
def refs(hub, request, repo_id):
    repo = visible(hub, request, repo_id)
    answer = {"branches": _refs(repo, "refs/heads/"), "converts": [], "tags": _refs(repo, "refs/tags/")}
    if request.query.get("include_prs") == "1":
        answer["pullRequests"] = _refs(repo, "refs/pr/")
    return answer


def _refs(repo: Repo, prefix: str) -> list[dict]:
    return [
        {"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid}
        for ref, oid in repo.refs.items()
        if ref.startswith(prefix)
    ]


@routes("POST", "/api/models/{repo}/tag/{revision}")
def create_tag(hub, request, repo_id, revision):
    hub.storage.add_ref(writable(hub, request, repo_id), f"refs/tags/{request.json()['tag']}", revision)
    return {}


@routes("DELETE", "/api/models/{repo}/tag/{name}")
def delete_tag(hub, request, repo_id, name):
    hub.storage.delete_ref(writable(hub, request, repo_id), f"refs/tags/{name}")
    return {}


@routes("POST", "/api/models/{repo}/branch/{name}")
def create_branch(hub, request, repo_id, name):
    start = request.json().get("startingPoint") or "main"
    hub.storage.add_ref(writable(hub, request, repo_id), f"refs/heads/{name}", start)
    return {}


@routes("DELETE", "/api/models/{repo}/branch/{name}")
def delete_branch(hub, request, repo_id, name):
    hub.storage.delete_ref(writable(hub, request, repo_id), f"refs/heads/{name}")
    return {}
