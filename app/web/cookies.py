"""The login's cookie, and whose pages may bring it or have it set.

A browser sends a cookie along unasked, and keeps one that any answer brings. So where the cookie counts, and where it
is set, the page that asks has to be one of ours, or of an origin that is allowed.
"""

from typing import Any

from litestar import Request
from litestar.datastructures import Cookie

from app.base.errors import Forbidden
from app.base.settings import Settings
from app.web.addresses import is_https
from app.web.problems import UnsupportedMediaType

AnyRequest = Request[Any, Any, Any]

NAME = "vanguard_token"
# A browser takes a cookie of this name over TLS only, for all paths of one host: no neighbour under the same domain,
# and nobody who answers in the service's stead over plain HTTP, can plant another one (RFC 6265bis, 4.1.3.2).
SECURE_NAME = f"__Host-{NAME}"
JSON = "application/json"

# What the `opt` of a route says that sets the cookie without having been sent a token.
SETS_COOKIE = {"sets_cookie": True}


def cookie_name(settings: Settings) -> str:
    """What the cookie is called here. The other name is never looked at."""
    return SECURE_NAME if settings.cookie_secure else NAME


def token_cookie(settings: Settings, token: str, seconds: int) -> Cookie:
    """The cookie that brings the token back for so many seconds; none: it is to be forgotten."""
    return Cookie(
        key=cookie_name(settings),
        value=token,
        max_age=seconds,
        path="/" if settings.cookie_secure else "/api/v1",
        httponly=True,
        samesite="strict",
        secure=settings.cookie_secure,
    )


def check_sender(request: AnyRequest, settings: Settings) -> None:
    """Whether a request may have the cookie set: it is JSON, which the forms of no page send, and of a page of ours; or
    it brings a token in its header, which no browser does by itself.

    Raises UnsupportedMediaType and Forbidden.
    """
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return
    media_type, parameters = request.content_type
    if media_type.lower() != JSON or parameters.get("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType(
            "Send the header Content-Type: application/json, and the body as such.", taken={"Accept-Post": JSON}
        )
    check_site(request, settings)


def check_site(request: AnyRequest, settings: Settings) -> None:
    """Raises Forbidden for the page of another site."""
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "same-origin")
    if origin is not None and origin in settings.cors_origin:
        return
    if (origin is not None and not _is_ours(origin, request, settings)) or site not in ("same-origin", "none"):
        raise Forbidden(
            "A page of another site can neither log in here nor listen with your cookie. Its origin has to be allowed "
            "(VANGUARD_CORS_ORIGIN)."
        )


def _is_ours(origin: str, request: AnyRequest, settings: Settings) -> bool:
    """Whether the origin is where the request went to. Over TLS, the page of the same host without it is not."""
    scheme, _, host = origin.partition("://")
    schemes = ("https",) if is_https(request.scope, settings.trusted_proxies) else ("http", "https")
    return scheme in schemes and host == request.headers.get("host", "").lower()
