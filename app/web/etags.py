"""ETags of a view: dataset revision, workspace revision, and whose view it is."""

from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Any

from litestar.response.base import ASGIResponse

from app.base.errors import PreconditionFailed
from app.base.statements import statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.web.runtime import Runtime, VanguardRequest

# Only for whoever asked, and to be asked about again each time.
PRIVATE = {"Cache-Control": "private, no-cache"}

READ_REVISIONS = statement("etags/read_revisions")


async def unchanged(desk: Desk, request: VanguardRequest, runtime: Runtime) -> str | None:
    """The ETag of the caller's view where If-None-Match still holds: neither dataset nor workspace has moved."""
    if "If-None-Match" not in request.headers:
        return None
    user = request.user.user_id
    revisions = await desk.row(READ_REVISIONS, user=user)
    if revisions is None:
        return None
    etag = etag_of(runtime, desk.contract, desk.organization, user, revisions)
    return etag if matches(request, etag) else None


def etag_of(runtime: Runtime, contract: Contract, organization: str, user: str, revisions: Any) -> str:
    """Weak, since queryTime varies. It holds the user: two of them may stand at the same revisions; and what may show
    the same state in another form. A restored database goes on from other revisions (migrate.begin_incarnation).
    """
    form = f"{contract.version} {runtime.version} {runtime.migration}"
    digest = _digest(f"{organization} {user} {contract.name} {form}")
    return f'W/"{revisions["revision"]}.{revisions["workspace_revision"]}.{digest}"'


@lru_cache(maxsize=4096)
def _digest(whose: str) -> str:
    return sha256(whose.encode()).hexdigest()[:16]


def row_etag(body: str, overlap: str = "") -> str:
    """Strong: a digest of all that one row's answer shows, and behind a point one of the overlap, where that is shown,
    too. If-Match asks for what stands before the point: who else is there is no state of the row.
    """
    return f'"{_digest_of(body)}{"." if overlap else ""}{_digest_of(overlap) if overlap else ""}"'


def _digest_of(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()[:18]).decode()


def matches(request: VanguardRequest, etag: str) -> bool:
    """Whether If-None-Match holds, by weak comparison (RFC 9110, 13.1.2)."""
    header = request.headers.get("If-None-Match")
    if header is None:
        return False
    return header.strip() == "*" or etag.removeprefix("W/") in (
        tag.strip().removeprefix("W/") for tag in header.split(",")
    )


def require_match(request: VanguardRequest, etag: str, version: int) -> None:
    """Raises PreconditionFailed where If-Match (RFC 9110, 13.1.1) names other states of the row than this one."""
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return
    if etag not in (tag.strip().partition(".")[0].rstrip('"') + '"' for tag in header.split(",")):
        raise PreconditionFailed("The row is not as you read it any more. Read it again.", version=version)


def not_modified(etag: str) -> ASGIResponse:
    """304, with the tag that still holds."""
    return ASGIResponse(status_code=304, headers={"ETag": etag, **PRIVATE})
