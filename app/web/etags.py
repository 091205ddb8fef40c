"""ETags of a view: dataset revision, workspace revision, and whose view it is."""

import re
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import sha256
from typing import Any

from litestar.response.base import ASGIResponse

from app.base.errors import PreconditionFailed
from app.base.statements import statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.web.headers import listed
from app.web.runtime import Runtime, VanguardRequest

# Only for whoever asked, and to be asked about again each time.
PRIVATE = {"Cache-Control": "private, no-cache"}

# A tag, or nothing, up to the next comma: one between quotes belongs to the tag. Blanks are not tried twice.
ELEMENT = re.compile(r"""[ \t]*+((?:W/)?"[\x21\x23-\x7e\x80-\xff]*+")?[ \t]*+(?:,|\Z)""")

READ_REVISIONS = statement("etags/read_revisions")


async def unchanged(desk: Desk, request: VanguardRequest, runtime: Runtime, known: str | None = None) -> str | None:
    """The ETag of the caller's view where one of `known`, by default those of If-None-Match, still holds: neither
    dataset nor workspace has moved.
    """
    known = listed(request.scope, b"if-none-match") if known is None else known
    if not known:
        return None
    user = request.user.user_id
    revisions = await desk.row(READ_REVISIONS, user=user)
    if revisions is None:
        return None
    etag = etag_of(runtime, desk.contract, desk.organization, user, revisions)
    return etag if _names(known, etag) else None


def etag_of(runtime: Runtime, contract: Contract, organization: str, user: str, revisions: Any) -> str:
    """Weak, since queryTime varies. It holds the user: two of them may stand at the same revisions; and what may show
    the same state in another form. A restored database goes on from other revisions (migrate.begin_incarnation).
    """
    form = f"{contract.edition} {contract.version} {runtime.version} {runtime.migration}"
    digest = _digest(f"{organization} {user} {form}")
    return f'W/"{revisions["revision"]}.{revisions["workspace_revision"]}.{digest}"'


@lru_cache(maxsize=4096)
def _digest(whose: str) -> str:
    return sha256(whose.encode()).hexdigest()[:16]


def row_etag(body: str, more: str = "") -> str:
    """Strong: a digest of all that one row's answer shows, and behind a point one of what is shown on request besides.
    If-Match asks for what stands before the point: who else is there is no state of the row.
    """
    if not more:
        return f'"{_digest_of(body)}"'
    return f'"{_digest_of(body)}.{_digest_of(more)}"'


def body_etag(body: bytes) -> str:
    """Weak, so that the answer may be packed: a digest of all that it shows."""
    return f'W/"{_digest_of(body.decode())}"'


def _digest_of(text: str) -> str:
    return urlsafe_b64encode(sha256(text.encode()).digest()[:18]).decode()


def entity_tags(header: str) -> tuple[str, ...]:
    """The tags of If-Match or If-None-Match (RFC 9110, 8.8.3) with their quotes, or `*`; none of what is no such list.

    A weak one begins with W/, so that none equals a strong one: that is how If-Match compares.
    """
    found, place = [], 0
    while place < len(header):
        element = ELEMENT.match(header, place)
        if element is None:
            return ("*",) if header.strip() == "*" else ()
        found.append(element[1])
        place = element.end()
    return tuple(tag for tag in found if tag)


def matches(request: VanguardRequest, etag: str) -> bool:
    """Whether If-None-Match holds, by weak comparison (RFC 9110, 13.1.2)."""
    return _names(listed(request.scope, b"if-none-match") or "", etag)


def _names(header: str, etag: str) -> bool:
    tags = entity_tags(header)
    return tags == ("*",) or etag.removeprefix("W/") in (tag.removeprefix("W/") for tag in tags)


def require_match(request: VanguardRequest, etag: str, version: int) -> None:
    """Raises PreconditionFailed where If-Match (RFC 9110, 13.1.1) names other states of the row than this one."""
    header = listed(request.scope, b"if-match")
    tags = ("*",) if header is None else entity_tags(header)
    if tags == ("*",) or etag in (tag.partition(".")[0].rstrip('"') + '"' for tag in tags):
        return
    raise PreconditionFailed("The row is not as you read it any more. Read it again.", version=version)


def not_modified(etag: str) -> ASGIResponse:
    """304, with the tag that still holds."""
    return ASGIResponse(status_code=304, headers={"ETag": etag, **PRIVATE})
