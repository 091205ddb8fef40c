"""RFC 9457 answers: the only place where a domain error, a framework error or an SQLSTATE meets an HTTP status."""

import traceback
from typing import Any

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.exceptions.http_exceptions import ClientException, RequestEntityTooLarge

from app.base import errors, exact_json
from app.base.errors import Code, Culprit, Kind, VanguardError

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE = "urn:vanguard:error:"

STATUS = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.MISSING: 404,
    Kind.NOT_ALLOWED: 405,
    Kind.CONFLICT: 409,
    Kind.PRECONDITION: 412,
    Kind.TOO_LARGE: 413,
    Kind.INVALID: 422,
    Kind.THROTTLED: 429,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
}

# SQLSTATE -> what to tell. Their own words never leave the house: DETAIL can hold another tenant's row.
SQLSTATES: dict[str, tuple[type[VanguardError], str]] = {
    "22P05": (errors.MalformedRequest, "Text may not hold the character NUL."),
    "22021": (errors.MalformedRequest, "Text may not hold the character NUL, and has to be valid UTF-8."),
    "22003": (errors.MalformedRequest, "A number is out of range."),
    "23505": (errors.AlreadyExists, "Somebody else has just created the same thing."),
    "40001": (errors.DatabaseBusy, "Others are changing the same rows. Try again."),
    "40P01": (errors.DatabaseBusy, "Others are changing the same rows. Try again."),
    "55P03": (errors.DatabaseBusy, "The rows are locked by a long operation. Try again in a moment."),
    "57014": (errors.DatabaseBusy, "The answer took too long. Narrow the filter, or try again in a moment."),
    "57P01": (errors.DatabaseUnavailable, "The database is restarting. Try again in a moment."),
    "53300": (errors.DatabaseBusy, "Too many connections. Try again in a moment."),
}


def problem(error: VanguardError, instance: str, request_id: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer for a domain error."""
    status = STATUS[error.kind]
    body: dict[str, Any] = {
        "type": f"{TYPE}{error.code}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "instance": instance,
        "code": error.code,
        "requestId": request_id,
    }
    if error.errors:
        body["errors"] = error.errors
    body |= error.extra
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return status, exact_json.encode(body), headers


def request_id(request: Request[Any, Any, Any]) -> str:
    """The id that web/middleware.py gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def answer(request: Request[Any, Any, Any], error: VanguardError) -> Response[bytes]:
    """Exception handler for domain errors."""
    status, body, headers = problem(error, request.url.path, request_id(request))
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def answer_database(request: Request[Any, Any, Any], error: asyncpg.PostgresError) -> Response[bytes]:
    """Exception handler for errors that PostgreSQL raised."""
    known = SQLSTATES.get(error.sqlstate or "")
    if known is None:
        return answer_unexpected(request, error)
    kind, detail = known
    return answer(request, kind(detail, retry_after=1 if kind.kind is Kind.UNAVAILABLE else None))


def answer_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Exception handler for what Litestar refuses by itself."""
    translated = _translate(error)
    status, body, headers = problem(translated, request.url.path, request_id(request))
    if status == 500 and error.status_code != 500:
        status = error.status_code
    headers |= {key: value for key, value in (error.headers or {}).items() if key.lower() == "allow"}
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


class MethodNotAllowed(VanguardError):
    """The path exists, the method does not."""

    code, title, kind = "METHOD_NOT_ALLOWED", "The path does not take this method", Kind.NOT_ALLOWED


class PayloadTooLarge(VanguardError):
    """The body is over `max_body_bytes`."""

    code, title, kind = "PAYLOAD_TOO_LARGE", "The body is too large", Kind.TOO_LARGE


def _translate(error: HTTPException) -> VanguardError:
    if isinstance(error, NotFoundException):
        return errors.NotFound("No route has this path. /schema lists them.")
    if isinstance(error, MethodNotAllowedException):
        return MethodNotAllowed("See /schema for the methods of this path.")
    if isinstance(error, RequestEntityTooLarge):
        return PayloadTooLarge("Send the rows in several smaller requests.")
    if isinstance(error, ValidationException):
        found = error.extra if isinstance(error.extra, list) else []
        if any(item.get("key") == "data" for item in found):
            return errors.MalformedRequest("The request needs a body.")
        culprits = [
            Culprit(
                code=Code.INVALID_PARAMETER, message=str(item.get("message", "")), parameter=str(item.get("key", ""))
            )
            for item in found
        ]
        names = ", ".join(culprit.parameter or "" for culprit in culprits)
        if names == "data":
            return errors.MalformedRequest("The request wants a JSON body.")
        return errors.MalformedRequest(
            f"A parameter is not usable: {names}." if names else "A parameter is not usable.", errors=culprits
        )
    if isinstance(error, ClientException):
        return errors.MalformedRequest(f"{error.detail.rstrip('.')}.")
    return VanguardError("The server has logged what happened under the request id.")


def answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Exception handler of last resort: logged with its traceback, told without it."""
    # The message of a foreign error can hold a row or a parameter, so the log keeps its kind and its place only.
    place = "".join(traceback.format_tb(error.__traceback__))
    sqlstate = getattr(error, "sqlstate", None)
    log.error("unexpected error", path=request.url.path, error=type(error).__name__, sqlstate=sqlstate, place=place)
    return answer(request, VanguardError("The server has logged what happened under the request id."))


class Problem(msgspec.Struct, kw_only=True, rename="camel", omit_defaults=True):
    """RFC 9457; `code` is stable, docs/errors.md lists all. Some bring members of their own, such as conflicts."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[Culprit] = []
