"""Writing commits, and the list of them."""

import base64
import json

from tests.hub.access import readable, writable, writer
from tests.hub.errors import ApiError
from tests.hub.routes import Routes
from tests.hub.storage import File, git_oid, goes_to_lfs, lfs_pointer

routes = Routes()


@routes("POST", "/api/validate-yaml")
def validate_card(hub, request):
    import yaml  # huggingface_hub needs it too

    _, fence, rest = request.json()["content"].lstrip("\ufeff").replace("\r\n", "\n").partition("---\n")
    header, closed, _ = rest.partition("\n---")
    if not fence or not closed:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        metadata = yaml.safe_load(header)
        problem = None if isinstance(metadata, dict) else "The metadata is not a mapping"
    except yaml.YAMLError as error:
        problem = str(error)
    if problem:
        raise ApiError(400, "Invalid metadata", errors=[{"message": problem}], warnings=[])
    return {"errors": [], "warnings": []}


@routes("POST", "/api/models/{repo}/preupload/{revision}")
def preupload(hub, request, repo_id, revision):
    present = writable(hub, request, repo_id).commit(revision).files
    answers = []
    for wanted in request.json()["files"]:
        path = wanted["path"]
        mode = "lfs" if goes_to_lfs(path, wanted["size"]) else "regular"
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False})
        if path in present:
            file = present[path]
            answers[-1]["oid"] = file.sha256 if file.lfs else file.oid
    return {"files": answers}


@routes("POST", "/api/models/{repo}/commit/{revision}")
def commit(hub, request, repo_id, revision):
    repo = writable(hub, request, repo_id)
    lines = [json.loads(line) for line in request.body.splitlines() if line.strip()]
    header = next((line["value"] for line in lines if line["key"] == "header"), {})

    def edit(files: dict[str, File]) -> None:
        for line in lines:
            _apply(hub, files, line["key"], line["value"])

    made, number = hub.storage.commit(
        repo,
        revision,
        edit,
        title=header.get("summary", ""),
        message=header.get("description", ""),
        author=writer(request).name,
        parent=header.get("parentCommit"),
        pull_request=request.query.get("create_pr") == "1",
    )
    url = f"{hub.endpoint}/{repo.id}"
    answer = {"success": True, "commitUrl": f"{url}/commit/{made.oid}", "commitOid": made.oid, "hookOutput": ""}
    if number is not None:
        answer["pullRequestUrl"] = f"{url}/discussions/{number}"
    return answer


def _apply(hub, files: dict[str, File], key: str, value: dict) -> None:
    path = value.get("path", "")
    if key == "file":
        files[path] = hub.storage.add_file(base64.b64decode(value["content"]))
    elif key == "lfsFile":
        if not hub.has_object(value["oid"]):
            raise ApiError(400, f"LFS object {value['oid']} of {path} has not been uploaded")
        pointer = lfs_pointer(value["oid"], value["size"])
        files[path] = File(git_oid(pointer), value["oid"], value["size"], lfs=True)
    elif key == "deletedFile":
        if files.pop(path, None) is None:
            raise ApiError(404, f"{path} does not exist", "EntryNotFound")
    elif key == "deletedFolder":
        for inside in [name for name in files if name.startswith(path.rstrip("/") + "/")]:
            del files[inside]
    elif key != "header":
        raise ApiError(400, f"Unknown operation {key}")


@routes("GET", "/api/models/{repo}/commits/{revision}")
def history(hub, request, repo_id, revision):
    return [
        {
            "id": made.oid,
            "title": made.title,
            "message": made.message,
            "authors": [{"user": made.author}],
            "date": made.date,
        }
        for made in readable(hub, request, repo_id).history(revision)
    ]
