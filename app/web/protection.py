"""What every answer says to browsers, whoever made it: what may be done with it, and who may keep it.

A handler that has said so itself is right: a file may be kept, a page may run its own scripts.
"""

from litestar.types import HTTPResponseStartEvent, HTTPScope

from app.base.settings import Settings
from app.web.addresses import is_https

# Nobody guesses at types, learns by links where somebody was, or has our answers in pictures, scripts and frames.
ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
# Data loads nothing and runs nothing, should a browser ever show it as a page.
POLICY = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
# What has a tag is asked about by it; anything else is answered anew each time, and lies in no cache.
REVALIDATED = (b"cache-control", b"private, no-cache")
NO_STORE = (b"cache-control", b"no-store")
BY_ORIGIN = (b"vary", b"Origin")

# The pages at /schema: scripts from files of this host alone, none that stands in the page.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def protect(start: HTTPResponseStartEvent, scope: HTTPScope, settings: Settings) -> None:
    """Add to the head of an answer what it does not say itself."""
    headers = list(start["headers"])
    said = {name for name, _ in headers}
    headers += ALWAYS
    if b"content-security-policy" not in said:
        headers.append(POLICY)
    if b"cache-control" not in said:
        headers.append(REVALIDATED if b"etag" in said else NO_STORE)
    if settings.cors_origin and BY_ORIGIN not in headers:
        headers.append(BY_ORIGIN)
    if settings.hsts_seconds and is_https(scope, settings.trusted_proxies):
        headers.append((b"strict-transport-security", b"max-age=%d" % settings.hsts_seconds))
    start["headers"] = headers
