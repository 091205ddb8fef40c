"""ETags of a view: dataset revision, workspace revision, and whose view it is."""

from hashlib import sha256
from typing import Any

from litestar import Response

from app.base.database import Connection
from app.base.statements import statement
from app.contracts import Contract
from app.web.auth import VanguardRequest
from app.web.runtime import Runtime

READ_STANDING = statement("etags/read_revisions")


async def unchanged(
    connection: Connection, request: VanguardRequest, runtime: Runtime, contract: Contract, organization: str
) -> str | None:
    """The ETag of the caller's view where If-None-Match still holds: neither dataset nor workspace has moved."""
    if "If-None-Match" not in request.headers:
        return None
    standing = await connection.row(READ_STANDING, organization, contract.name, request.user.user_id)
    if standing is None:
        return None
    etag = etag_of(runtime, organization, request.user.user_id, contract, standing)
    return etag if _matches(request.headers["If-None-Match"], etag) else None


def etag_of(runtime: Runtime, organization: str, user: str, contract: Contract, standing: Any) -> str:
    """Weak, since queryTime varies. It holds the user: two of them may stand at the same revisions."""
    whose = f"{organization} {user} {contract.name} {contract.version} {runtime.version}"
    digest = sha256(whose.encode()).hexdigest()[:16]
    return f'W/"{standing["revision"]}.{standing["workspace_revision"]}.{digest}"'


def _matches(header: str, etag: str) -> bool:
    """Weak comparison of If-None-Match (RFC 9110, 13.1.2)."""
    return header.strip() == "*" or etag.removeprefix("W/") in (
        tag.strip().removeprefix("W/") for tag in header.split(",")
    )


def not_modified(etag: str) -> Response[bytes]:
    """304, with the tag that still holds."""
    return Response(b"", status_code=304, headers={"ETag": etag, "Cache-Control": "private, no-cache"})
