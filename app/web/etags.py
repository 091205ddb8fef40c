"""ETags of a view: dataset revision, workspace revision, and whose view it is."""

from functools import lru_cache
from hashlib import sha256
from typing import Any

from litestar.response.base import ASGIResponse

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
    return etag if _matches(request.headers["If-None-Match"], etag) else None


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


def _matches(header: str, etag: str) -> bool:
    """Weak comparison of If-None-Match (RFC 9110, 13.1.2)."""
    return header.strip() == "*" or etag.removeprefix("W/") in (
        tag.strip().removeprefix("W/") for tag in header.split(",")
    )


def not_modified(etag: str) -> ASGIResponse:
    """304, with the tag that still holds."""
    return ASGIResponse(status_code=304, headers={"ETag": etag, **PRIVATE})
