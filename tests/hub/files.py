"""Listing files, and reading them: small ones from the hub itself, LFS ones from the CDN."""

import hashlib

from tests.hub.access import readable, visible
from tests.hub.errors import ApiError
from tests.hub.routes import Routes
from tests.hub.storage import Commit, folders
from tests.hub.transport import Answer

routes = Routes()


@routes("GET", "/api/models/{repo}/tree/{revision}")
def tree(hub, request, repo_id, revision):
    return subtree(hub, request, repo_id, revision, "")


@routes("GET", "/api/models/{repo}/tree/{revision}/{path}")
def subtree(hub, request, repo_id, revision, folder):
    commit = visible(hub, request, repo_id).commit(revision)
    prefix = folder.rstrip("/") + "/" if folder else ""
    below = [path for path in (*folders(commit.files), *commit.files) if path.startswith(prefix)]
    if not below:
        raise ApiError(404, f"{folder} does not exist on {revision}", "EntryNotFound")
    if request.query.get("recursive", "").lower() != "true":
        below = [path for path in below if "/" not in path.removeprefix(prefix)]
    return [_entry(hub, commit, path) for path in sorted(below)]


@routes("POST", "/api/models/{repo}/paths-info/{revision}")
def paths_info(hub, request, repo_id, revision):
    commit = visible(hub, request, repo_id).commit(revision)
    known = folders(commit.files) | set(commit.files)
    return [_entry(hub, commit, path) for path in request.json()["paths"] if path in known]


def _entry(hub, commit: Commit, path: str) -> dict:
    file = commit.files.get(path)
    if file is None:
        inside = [(name, file.oid) for name, file in commit.files.items() if name.startswith(path + "/")]
        return {"type": "directory", "oid": hashlib.sha1(repr(inside).encode()).hexdigest(), "size": 0, "path": path}
    entry = {"type": "file", "oid": file.oid, "size": file.size, "path": path}
    if file.lfs:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": file.pointer_size}
        if xet_hash := hub.xet.file_hash(file.sha256):
            entry["xetHash"] = xet_hash
    return entry


@routes("GET", "/{repo}/resolve/{revision}/{path}")
def resolve(hub, request, repo_id, revision, path):
    commit = readable(hub, request, repo_id).commit(revision)
    headers = {"X-Repo-Commit": commit.oid}
    file = commit.files.get(path)
    if file is None:
        error = ApiError(404, "Entry not found", "EntryNotFound")
        error.headers |= headers
        raise error
    if not file.lfs:
        return Answer.of_bytes(hub.storage.blob(file.sha256), request, headers | {"ETag": f'"{file.oid}"'})
    headers |= {
        "ETag": f'"{file.sha256}"',
        "X-Linked-Etag": f'"{file.sha256}"',
        "X-Linked-Size": str(file.size),
        # On another origin, as in reality: a client that followed it with HEAD would miss the headers above.
        "Location": f"{hub.cdn}/_lfs/get/{file.sha256}",
    }
    if xet_hash := hub.xet.file_hash(file.sha256):
        auth = f"{hub.endpoint}/api/{request.kind}s/{repo_id}/xet-read-token/{commit.oid}?sha256={file.sha256}"
        headers |= {"X-Xet-Hash": xet_hash, "Link": f'<{auth}>; rel="xet-auth"'}
    return Answer(status=302, headers=headers)
