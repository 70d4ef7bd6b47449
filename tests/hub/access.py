"""Who is asking, and may they?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.hub.errors import ApiError
from tests.hub.storage import Repo
from tests.hub.transport import Request

if TYPE_CHECKING:
    from tests.hub.server import HubServer


@dataclass(frozen=True)
class User:
    name: str
    role: str  # of the token: "write" or "read"


ALICE, ALICE_READ, BOB, BAD_TOKEN = "alice-write", "alice-read", "bob-write", "nobody"
TOKENS = {ALICE: User("alice", "write"), ALICE_READ: User("alice", "read"), BOB: User("bob", "write")}


def caller(request: Request) -> User | None:
    """The owner of the token, None if there is no token; 401 if the token is unknown."""
    header = request.headers.get("authorization")
    if header is None:
        return None
    user = TOKENS.get(header.removeprefix("Bearer "))
    if user is None:
        raise ApiError(401, "Invalid credentials in Authorization header")
    return user


def writer(request: Request) -> User:
    user = caller(request)
    if user is None:
        raise ApiError(401, "Invalid username or password.")
    if user.role != "write":
        raise ApiError(403, "Forbidden: pass a write token")
    return user


def key_of(repo_id: str, kind: str) -> str:
    """Under which name the storage keeps a repository: a model and a Space may have the same id."""
    return repo_id if kind == "model" else f"{kind}s/{repo_id}"


def visible(hub: "HubServer", request: Request, repo_id: str) -> Repo:
    """The repository, if the caller may know that it exists. A hidden one looks like a missing one."""
    user = caller(request)
    repo = hub.storage.repos.get(key_of(repo_id, request.kind))
    if repo is None or (repo.private and (user is None or user.name != repo.owner)):
        raise ApiError(401 if user is None else 404, "Repository not found", "RepoNotFound")
    return repo


def readable(hub: "HubServer", request: Request, repo_id: str) -> Repo:
    """The repository, if the caller may read its files."""
    repo = visible(hub, request, repo_id)
    user = caller(request)
    if repo.gated and (user is None or user.name not in (repo.owner, *repo.granted)):
        message = f"Access to model {repo_id} is restricted and you are not in the authorized list."
        raise ApiError(401 if user is None else 403, message, "GatedRepo")
    return repo


def writable(hub: "HubServer", request: Request, repo_id: str) -> Repo:
    """The repository, if the caller may write to it; anybody with a write token may open a pull request."""
    repo = visible(hub, request, repo_id)
    user = writer(request)
    if user.name != repo.owner and request.query.get("create_pr") != "1":
        raise ApiError(403, f"Forbidden: you do not have write access to {repo_id}")
    return repo
