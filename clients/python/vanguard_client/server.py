"""A Vanguard server over HTTP: the token, answers and refusals, another try where that is worth it."""

import asyncio
import hashlib
import inspect
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import httpx

from vanguard_client.backoff import Backoff
from vanguard_client.errors import (
    Conflicted,
    FeedExpired,
    Forbidden,
    InvalidRecord,
    Refused,
    Unauthorized,
    Unavailable,
)
from vanguard_client.feed import FeedMessage, Stream, check_answer
from vanguard_client.records import decode, encode
from vanguard_client.wire import conflicts_of, segment

Token = Callable[[], str | Awaitable[str]]
Params = Iterable[tuple[str, str]]

BUSY = {408, 425, 429, 500, 502, 503, 504}
HEARTBEAT = 15.0  # seconds in which a stream sends something
log = logging.getLogger("vanguard_client")


class Vanguard:
    """A server at an address, open between `async with`.

    `token` is called for an access token: when there is none yet, at each connection of a stream, and when the server
    does not take the one that was last given. It may be asynchronous. `timeout`: seconds for each step of a request.
    `heartbeat`: seconds in which a stream sends something at least; it is dead after two. `attempts`: how often a
    request is tried that meets nobody, or somebody too busy, before it is Unavailable. `http`: a client of one's own,
    for proxies, certificates and the like; it is not closed then.
    """

    def __init__(
        self,
        url: str,
        token: Token,
        *,
        timeout: float = 30.0,
        heartbeat: float = HEARTBEAT,
        attempts: int = 5,
        backoff: Backoff | None = None,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._ask, self._token = token, ""
        self._asking = asyncio.Lock()
        self._timeout = httpx.Timeout(timeout)
        self._stream_timeout = httpx.Timeout(timeout, read=2 * heartbeat)
        self.attempts, self.backoff = attempts, backoff or Backoff()
        self._owned = http is None
        self._http = http or httpx.AsyncClient(follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._owned:
            await self._http.aclose()

    def events(self, organization: str, since: str = "now") -> AsyncGenerator[FeedMessage, None]:
        """The feed of an organization, after a position, `earliest` or `now`, over as many connections as it takes.

        Raises Refused when the caller may not listen any more.
        """
        return Stream(self, f"/api/v1/orgs/{segment(organization)}/events", since).messages()

    # --- requests

    async def call(self, method: str, path: str, params: Params = (), body: Any = None, key: str = "") -> Any:
        """The answer's JSON. `key` makes a POST safe to repeat, which a lost answer makes necessary.

        Raises Refused, and Unavailable when all attempts are over.
        """
        headers = {"Idempotency-Key": key} if key else {}
        content = None
        if body is not None:
            headers["Content-Type"], content = "application/json", encode(body)
        renewed = False
        attempt = 0
        while True:
            token = await self._known_token()
            try:
                return await self._once(method, path, params, content, {**headers, **_bearer(token)})
            except Unauthorized:
                if renewed:
                    raise
                renewed = True
                await self._new_token(token)
                continue
            except _Busy as busy:
                attempt += 1
                if attempt >= self.attempts:
                    raise busy.last from None
                await self.backoff.pause(attempt - 1, busy.retry_after)

    async def _once(
        self, method: str, path: str, params: Params, content: bytes | None, headers: dict[str, str]
    ) -> Any:
        try:
            response = await self._http.request(
                method, self._url + path, params=list(params), content=content, headers=headers, timeout=self._timeout
            )  # fmt: skip
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL) as error:
            raise Refused(f"This cannot be sent: {error}", code="MALFORMED_REQUEST") from error
        except httpx.RequestError as error:
            raise _Busy(Unavailable(f"No answer: {type(error).__name__} {error}".rstrip())) from error
        if not response.is_success:
            raise _refusal(response)
        try:
            return decode(response.content)
        except InvalidRecord:
            raise _Busy(Unavailable("The answer is no JSON: something stands between.")) from None

    @asynccontextmanager
    async def connect(self, path: str, since: str) -> AsyncIterator[httpx.Response]:
        """A stream's answer, from a position on, with a new token. Raises Refused, Unavailable, and httpx's errors."""
        token = await self._new_token(None)
        words = since in ("now", "earliest")
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store", "Accept-Encoding": "identity"}
        headers |= _bearer(token) | ({} if words else {"Last-Event-ID": since})
        params = {"since": since} if words else {}
        async with self._http.stream(
            "GET", self._url + path, params=params, headers=headers, timeout=self._stream_timeout
        ) as response:
            if not response.is_success:
                await response.aread()
                refusal = _refusal(response)
                raise refusal.last if isinstance(refusal, _Busy) else refusal
            check_answer(response)
            yield response

    # --- the token

    async def _known_token(self) -> str:
        return self._token or await self._new_token("")

    async def _new_token(self, used: str | None) -> str:
        """Ask for a token, unless somebody has while `used` was tried; None: in any case."""
        async with self._asking:
            if used is None or used == self._token:
                try:
                    given = self._ask()
                    self._token = await given if inspect.isawaitable(given) else given
                except Exception as error:
                    log.warning("no token: %s", error)
                    raise Unavailable(f"No token was given: {type(error).__name__}: {error}") from error
            return self._token


class _Busy(Exception):
    """Worth another try; `last` is what to raise when there is none."""

    def __init__(self, last: Unavailable | Refused, retry_after: float | None = None) -> None:
        super().__init__(str(last))
        self.last, self.retry_after = last, retry_after


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def key_of(*parts: str) -> str:
    """An Idempotency-Key for what these words name."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _refusal(response: httpx.Response) -> Refused | _Busy:
    """What an answer that is none says."""
    status = response.status_code
    try:
        problem = decode(response.content)
    except InvalidRecord:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    message = str(problem.get("detail") or problem.get("title") or f"The server answered {status}.")
    errors = [each for each in problem.get("errors") or () if isinstance(each, dict)]
    if len(errors) == 1 and errors[0].get("message"):
        message = f"{message} {errors[0]['message']}"
    told: dict[str, Any] = {
        "code": str(problem.get("code") or f"HTTP_{status}"),
        "status": status,
        "errors": errors,
        "request_id": problem.get("requestId"),
    }
    if status in BUSY:
        after = _retry_after(response)
        # A defect of the server's is none that waiting mends.
        last = Refused(message, **told) if status == 500 else Unavailable(message, after)
        return _Busy(last, after)
    if status == 401:
        return Unauthorized(message, **told)
    if status == 403:
        return Forbidden(message, **told)
    if told["code"] == "MERGE_CONFLICT":
        return Conflicted(conflicts_of(problem.get("conflicts") or ()), **told)
    if told["code"] == "FEED_EXPIRED":
        place = {"reason": str(problem.get("reason")), "position": str(problem.get("position"))}
        return FeedExpired(message, **place, **told)
    return Refused(message, **told)


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds, from a number or a date; None where nothing sensible is said."""
    given = response.headers.get("Retry-After", "")
    if given.isascii() and given.isdigit():
        return float(given[:6])
    try:
        return max(0.0, (parsedate_to_datetime(given) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
