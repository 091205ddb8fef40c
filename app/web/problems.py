"""RFC 9457 answers: the only place where a domain error, a framework error or an SQLSTATE meets an HTTP status."""

import traceback
from collections.abc import Mapping
from typing import Any, Final

import asyncpg
import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException, InternalServerException, LitestarException, ValidationException
from litestar.types import Scope

from app.base import errors, exact_json
from app.base.errors import Code, Culprit, Kind, Unauthenticated, VanguardError
from app.web.paths import instance

log = structlog.get_logger(__name__)
MEDIA_TYPE = "application/problem+json"
TYPE = "urn:vanguard:error:"
LOGGED = "The server has logged what happened under the request id."
RETRY_AFTER = 2  # seconds, where nothing better is known
CHALLENGE = 'Bearer realm="vanguard"'
BROKEN_OFF: Final = "client disconnected prematurely"  # Litestar's words for a body that has no end

STATUS = {
    Kind.MALFORMED: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.FORBIDDEN: 403,
    Kind.MISSING: 404,
    Kind.NOT_ALLOWED: 405,
    Kind.CONFLICT: 409,
    Kind.BODY_TIMED_OUT: 408,
    Kind.GONE: 410,
    Kind.PRECONDITION: 412,
    Kind.TOO_LARGE: 413,
    Kind.TARGET_TOO_LONG: 414,
    Kind.UNSUPPORTED: 415,
    Kind.INVALID: 422,
    Kind.THROTTLED: 429,
    Kind.HEADERS_TOO_LARGE: 431,
    Kind.INTERNAL: 500,
    Kind.UNAVAILABLE: 503,
    Kind.TIMED_OUT: 504,
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


def problem(
    error: VanguardError, instance: str, request_id: str, status: int | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of the answer for a domain error; `status` where its kind has several."""
    status = status or STATUS[error.kind]
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
    headers = error.taken if isinstance(error, UnsupportedMediaType) else {}
    if error.retry_after is not None or status in (429, 503, 504):
        headers["Retry-After"] = str(error.retry_after or RETRY_AFTER)
    if status == 401:
        headers["WWW-Authenticate"] = _challenge(error)
    return status, exact_json.encode(body), headers


def _challenge(error: VanguardError) -> str:
    """What a client should send (RFC 6750, 3). `error` tells an expired or invalid token from none."""
    if isinstance(error, Unauthenticated) and error.challenge:
        return f'{CHALLENGE}, error="{error.challenge}", error_description="{error.title}"'
    return CHALLENGE


def request_id(request: Request[Any, Any, Any]) -> str:
    """The id that web/middleware.py gave the request."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def answer(request: Request[Any, Any, Any], error: VanguardError, status: int | None = None) -> Response[bytes]:
    """Exception handler for domain errors."""
    status, body, headers = problem(error, instance(request.scope), request_id(request), status)
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def answer_database(request: Request[Any, Any, Any], error: asyncpg.PostgresError) -> Response[bytes]:
    """Exception handler for errors that PostgreSQL raised."""
    known = SQLSTATES.get(error.sqlstate or "")
    if known is None:
        return answer_unexpected(request, error)
    kind, detail = known
    return answer(request, kind(detail, retry_after=1 if kind.kind is Kind.UNAVAILABLE else None))


class MethodNotAllowed(VanguardError):
    """The path exists, the method does not."""

    code, title, kind = "METHOD_NOT_ALLOWED", "The path does not take this method", Kind.NOT_ALLOWED


class PayloadTooLarge(VanguardError):
    """The body is over `max_body_bytes`."""

    code, title, kind = "PAYLOAD_TOO_LARGE", "The body is too large", Kind.TOO_LARGE


class TargetTooLong(VanguardError):
    """Path and query are."""

    code, title, kind = "TARGET_TOO_LONG", "The address is too long", Kind.TARGET_TOO_LONG


class UnsupportedMediaType(VanguardError):
    """The body is compressed, or in another format; `taken` is the header that says what would be taken."""

    code, title, kind = "UNSUPPORTED_MEDIA_TYPE", "Bodies of this form are not taken", Kind.UNSUPPORTED

    def __init__(self, detail: str, *, taken: Mapping[str, str] | None = None):
        super().__init__(detail)
        self.taken = dict(taken or {})


class HeadersTooLarge(VanguardError):
    """Too many headers, or too much in them."""

    code, title, kind = "HEADERS_TOO_LARGE", "The headers are too large", Kind.HEADERS_TOO_LARGE


class ServiceUnavailable(VanguardError):
    """For another reason than the database or the identity provider."""

    code, title, kind = "SERVICE_UNAVAILABLE", "Not now", Kind.UNAVAILABLE


class TimedOut(VanguardError):
    """Somebody behind us has not answered in time."""

    code, title, kind = "TIMED_OUT", "The answer took too long", Kind.TIMED_OUT


# Status -> what it is called when the framework gives it. Another one keeps its status, and is MALFORMED_REQUEST, or
# INTERNAL_ERROR from 500 on.
FRAMEWORKS: dict[int, tuple[type[VanguardError], str]] = {
    401: (errors.TokenMissing, "Send a token: `Authorization: Bearer <token>`."),
    403: (errors.Forbidden, "You may not do this."),
    404: (errors.NotFound, "No route has this path. /schema lists them."),
    405: (MethodNotAllowed, "`Allow` has the methods of this path; see /schema."),
    413: (PayloadTooLarge, "Send the rows in several smaller requests."),
    414: (TargetTooLong, "Shorten the path or the query."),
    415: (UnsupportedMediaType, "Send application/json."),
    429: (errors.TooManyRequests, "Try again after as many seconds as `Retry-After` says."),
    431: (HeadersTooLarge, "Send fewer or smaller headers."),
    503: (ServiceUnavailable, LOGGED),
    504: (TimedOut, LOGGED),
}
KEPT = ("Allow", "Retry-After", "WWW-Authenticate")  # headers of the framework that an answer needs


def answer_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """Exception handler for what Litestar refuses by itself."""
    if isinstance(error, InternalServerException) and error.detail == BROKEN_OFF:
        return answer(request, errors.MalformedRequest("The body breaks off before its end."))
    if error.status_code >= 500:
        log_unexpected(error, route_of(request.scope))
    response = answer(request, _translate(error), error.status_code)
    given = {name.lower(): value for name, value in (error.headers or {}).items()}
    response.headers.update({name: given[name.lower()] for name in KEPT if name.lower() in given})
    if "Allow" in response.headers:
        response.headers["Allow"] = every_method(response.headers["Allow"])
    return response


def every_method(allow: str) -> str:
    """An Allow header with HEAD where it has GET: whatever answers that answers HEAD, see edges.py."""
    methods = {method.strip() for method in allow.split(",")}
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _translate(error: HTTPException) -> VanguardError:
    if known := FRAMEWORKS.get(error.status_code):
        kind, detail = known
        return kind(detail)
    if error.status_code >= 500:
        return VanguardError(LOGGED)
    if isinstance(error, ValidationException):
        return _invalid(error)
    return errors.MalformedRequest(f"{error.detail.rstrip('.')}.")


def _invalid(error: ValidationException) -> VanguardError:
    found = error.extra if isinstance(error.extra, list) else []
    if any(item.get("key") == "data" for item in found):
        return errors.MalformedRequest("The request needs a body.")
    culprits = [
        Culprit(code=Code.INVALID_PARAMETER, message=str(item.get("message", "")), parameter=str(item.get("key", "")))
        for item in found
    ]
    names = ", ".join(culprit.parameter or "" for culprit in culprits)
    return errors.MalformedRequest(
        f"A parameter is not usable: {names}." if names else "A parameter is not usable.", errors=culprits
    )


def answer_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Exception handler of last resort: logged with its traceback, told without it."""
    log_unexpected(error, route_of(request.scope))
    return answer(request, VanguardError(LOGGED))


def route_of(scope: Scope) -> str:
    """The template of its path, never the path: that can hold an email, or a row's id."""
    return str(scope.get("path_template", "unknown"))


def log_unexpected(error: BaseException, route: str) -> None:
    """A line with the error's kind and place only: the message of a foreign error can hold a row or a parameter."""
    place = traceback.format_tb(error.__traceback__)
    while inner := _inside(error):
        error, place = inner, place + traceback.format_tb(inner.__traceback__)
    sqlstate = getattr(error, "sqlstate", None)
    log.error("unexpected error", route=route, error=type(error).__name__, sqlstate=sqlstate, place="".join(place))


def _inside(error: BaseException) -> BaseException | None:
    """What an error stands for: a stream's come in groups, and in one of Litestar where an answer had begun."""
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ if type(error) is LitestarException else None


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
