"""git-LFS: where to send large files, in one piece or in parts, and the CDN that hands them out."""

import io

from tests.hub.access import key_of, visible, writer
from tests.hub.errors import ApiError
from tests.hub.routes import Routes
from tests.hub.transport import Answer

routes = Routes()
cdn_routes = Routes()


@routes("POST", "/{repo}.git/info/lfs/objects/batch")
def batch(hub, request, repo_id):
    _may_upload(hub, request, repo_id)
    wanted = request.json()
    if wanted.get("operation") != "upload":
        raise ApiError(400, f"Unsupported operation {wanted.get('operation')}")
    parts_allowed = hub.lfs_part_size is not None and "multipart" in wanted.get("transfers", [])
    transfer, objects = "basic", []
    for item in wanted["objects"]:
        oid, size = item["oid"], item["size"]
        objects.append({"oid": oid, "size": size})
        if hub.has_object(oid):
            continue  # no actions: there is nothing to send
        upload: dict = {"href": f"{hub.cdn}/_lfs/put/{oid}"}
        if parts_allowed and size > hub.lfs_part_size:
            transfer = "multipart"
            count = -(-size // hub.lfs_part_size)
            upload["href"] = f"{hub.cdn}/_lfs/complete/{oid}"
            upload["header"] = {"chunk_size": str(hub.lfs_part_size)}
            upload["header"] |= {f"{n:05d}": f"{hub.cdn}/_lfs/part/{oid}/{n}" for n in range(1, count + 1)}
        verify = {"href": f"{hub.endpoint}/{key_of(repo_id, request.kind)}.git/info/lfs/objects/verify"}
        objects[-1]["actions"] = {"upload": upload, "verify": verify}
    return {"transfer": transfer, "objects": objects}


@routes("POST", "/{repo}.git/info/lfs/objects/verify")
def verify(hub, request, repo_id):
    _may_upload(hub, request, repo_id)
    oid, size = request.json()["oid"], request.json()["size"]
    blob = hub.storage.blob(oid)
    if not blob.is_file() or blob.stat().st_size != size:
        raise ApiError(404, f"No object {oid} of {size} bytes")
    return {}


def _may_upload(hub, request, repo_id):
    visible(hub, request, repo_id)  # not writable: this request does not say whether a pull request will follow
    writer(request)


@cdn_routes("PUT", "/_lfs/put/{oid}")
def put(hub, request, oid):
    request.stream.seek(0)
    hub.storage.add_blob(request.stream, oid)
    return {}


@cdn_routes("PUT", "/_lfs/part/{oid}/{number}")
def put_part(hub, request, oid, number):
    etag = f'"{oid[:8]}-{number}"'
    hub.lfs_parts[oid, int(number)] = (etag, request.body)
    return Answer({}, headers={"ETag": etag})


@cdn_routes("POST", "/_lfs/complete/{oid}")
def complete(hub, request, oid):
    content = io.BytesIO()
    for part in request.json()["parts"]:
        etag, chunk = hub.lfs_parts.pop((oid, part["partNumber"]), (None, b""))
        if etag != part["etag"]:
            raise ApiError(400, f"Part {part['partNumber']} of {oid} has not been uploaded")
        content.write(chunk)
    content.seek(0)
    hub.storage.add_blob(content, oid)
    return {}


@cdn_routes("GET", "/_lfs/get/{oid}")
def get(hub, request, oid):
    blob = hub.storage.blob(oid)
    if not blob.is_file():
        if not hub.has_object(oid):
            raise ApiError(403, f"No object {oid}")
        hub.xet.restore(oid, blob)
    return Answer.of_bytes(blob, request)
