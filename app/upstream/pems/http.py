"""How PEMS is reached: with which credentials, how often, and what its refusals mean."""

import asyncio
import os
import ssl
from collections.abc import Generator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import httpx
import msgspec
from aiolimiter import AsyncLimiter

from app.base import exact_json
from app.base.clock import Clock, now
from app.base.errors import ConfigurationError
from app.upstream.pems.config import Auth, PemsConfig
from app.upstream.protocol import Failed, OutcomeUnknown, Refused, Stale, Unavailable, UpstreamError

CONNECTIONS = 20
IDLE_SECONDS = 15
LONGEST_MESSAGE = 500
REFUSED_SECONDS = 300.0  # between logins that are refused: an account is locked after a few of them
LOGIN_SECONDS = 120.0  # while a login page stands in PEMS's place
PAGES = ("text/html", "application/xhtml+xml")
BOM = b"\xef\xbb\xbf"
NOT_FOUND = "record not found"
UNAUTHORIZED = "authorization failed"
INVALID = "is not a valid"
MODIFIED = "modified by another user"
ADDED = "already exists"


class _Header(httpx.Auth):
    """A secret in a header. Among the client's headers it would be printed with them."""

    def __init__(self, name: str, value: str):
        self._name, self._value = name, value

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers[self._name] = self._value
        yield request


class PemsClient:
    """Requests to one PEMS, with its credentials; at most so many a second, evenly spaced."""

    def __init__(
        self, config: PemsConfig, *, folder: Path, environment: Mapping[str, str] = os.environ, clock: Clock = now
    ):
        """Read the secret; raises ConfigurationError. A relative file is looked for in `folder`."""
        self._read_secret = partial(_secret, config.auth, folder, environment)
        self._config = config
        self._secret = self._read_secret()
        headers = {"Accept": "application/json", "Content-Type": "application/json", "tenant": config.tenant}
        headers |= {} if config.role is None else {"role": config.role}
        self._client = httpx.AsyncClient(
            base_url=config.url,
            auth=_auth(config.auth, self._secret),
            headers=headers,
            timeout=httpx.Timeout(config.timeout, connect=min(config.connect_timeout, config.timeout)),
            limits=httpx.Limits(
                max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=IDLE_SECONDS
            ),
            # Credentials go where the file says and nowhere else: no redirects, no proxies out of the environment.
            follow_redirects=False,
            trust_env=False,
            # The system's authorities, or those that SSL_CERT_FILE names.
            verify=ssl.create_default_context(),
        )
        self._timeout = config.timeout
        rate = config.requests_per_second
        # One at a time, not a second's worth at once: two bursts would meet within one second.
        self._limiter = AsyncLimiter(1, 1 / rate) if rate else None
        self._clock = clock

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def post(self, path: str, body: Any, *, organization: str, writing: bool = False) -> bytes:
        """The envelope, of an answer with 200 or 400; raises Unavailable, Failed, and of a write OutcomeUnknown.

        What alerts say is in the envelope of either status.
        """
        content, shown = exact_json.encode(body), self._secret
        response = await self._limited(path, content, organization, writing)
        if response.status_code in (401, 403) and self._renew_secret(shown):
            response = await self._limited(path, content, organization, writing)
        return _envelope(response) if response.status_code in (200, 400) else self._refuse(response, writing)

    async def _limited(self, path: str, content: bytes, organization: str, writing: bool) -> httpx.Response:
        if self._limiter is not None:
            await self._limiter.acquire()
        response = await self._send(path, content, organization, writing)
        # Raised here and not where it was caught: httpx's errors carry the request, and with it the credentials.
        if isinstance(response, UpstreamError):
            raise response
        return response

    def _renew_secret(self, refused: str) -> bool:
        """Read the secret again; False where it is still the one that was refused, or cannot be read."""
        try:
            secret = self._read_secret()
        except ConfigurationError:
            return False
        if secret == refused:
            return False
        self._secret = secret
        self._client.auth = _auth(self._config.auth, secret)
        return True

    async def _send(self, path: str, body: bytes, organization: str, writing: bool) -> httpx.Response | UpstreamError:
        try:
            async with asyncio.timeout(self._timeout):
                return await self._client.post(path, content=body, headers={"organization": organization})
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Unavailable(f"PEMS cannot be reached ({type(error).__name__}).")
        except (TimeoutError, httpx.TimeoutException):
            reason = f"PEMS did not answer within {self._timeout:g} seconds."
        except httpx.DecodingError:
            reason = "The answer of PEMS cannot be read: its compression is broken."
            return OutcomeUnknown(reason) if writing else Failed(reason)
        except httpx.HTTPError as error:
            reason = f"The connection to PEMS was lost ({type(error).__name__})."
        return OutcomeUnknown(reason) if writing else Unavailable(reason)

    def _refuse(self, response: httpx.Response, writing: bool) -> NoReturn:
        status = response.status_code
        message = f"PEMS answered {status}."
        if status in (401, 403):
            message = f"PEMS answered {status}: it refuses this account."
            raise Unavailable(message, retry_after=self._retry_after(response) or REFUSED_SECONDS, refused=True)
        if response.is_redirect:
            message = f"PEMS answered {status}: it sends us elsewhere, such as to a login page."
            raise Unavailable(message, retry_after=LOGIN_SECONDS)
        if status in (408, 429, 503) or (status in (502, 504) and not writing):
            raise Unavailable(message, retry_after=self._retry_after(response))
        if status >= 500 and writing:
            raise OutcomeUnknown(message)
        words = words_of(_alerts(response.content))
        raise Failed(f"{message} {words}" if words else message)

    def _retry_after(self, response: httpx.Response) -> float | None:
        """Seconds; the header says them, or a date. None where it does not say how long, or a time that has passed."""
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9]) or None
        try:
            moment = parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - self._clock()).total_seconds()
        return seconds if seconds > 0 else None


def _envelope(response: httpx.Response) -> bytes:
    """The body, which is JSON; raises Unavailable for a web page in its place."""
    body = response.content.removeprefix(BOM)
    html = response.headers.get("Content-Type", "").partition(";")[0].strip().lower() in PAGES
    if html or body.lstrip()[:1] == b"<":
        message = f"PEMS answered {response.status_code} with a web page, such as a login page."
        raise Unavailable(message, retry_after=LOGIN_SECONDS)
    if response.status_code == 400 and not _alerts(body):
        raise Failed("PEMS answered 400 and does not say why.")
    return body


# -- alerts ------------------------------------------------------------------------------------------------------------


def words_of(alerts: Any) -> str | None:
    """PEMS's own words out of ErrorAlert: `name: message`; None where there is no alert."""
    if not alerts:
        return None
    listed = alerts if isinstance(alerts, list) else [alerts]
    said = []
    for alert in listed:
        parts = [alert.get("Name"), alert.get("Message")] if isinstance(alert, dict) else [alert]
        said.append(": ".join(str(part) for part in parts if part))
    return "; ".join(filter(None, said))[:LONGEST_MESSAGE].replace("\0", "") or "An error without words."


def read_refused(words: str) -> UpstreamError:
    """What an alert says about a read: what is not valid now will not be at the next attempt."""
    if UNAUTHORIZED in words.lower():
        return Unavailable(words, retry_after=REFUSED_SECONDS, refused=True)
    return Refused(words) if INVALID in words.lower() else Failed(words)


def write_refused(words: str) -> UpstreamError:
    """What an alert says about a write: nothing was written. A row that came or went has changed, too."""
    return Stale(words) if any(sign in words.lower() for sign in (MODIFIED, NOT_FOUND, ADDED)) else Refused(words)


def is_not_found(words: str | None) -> bool:
    """Whether the words say that there is no such row."""
    return words is not None and NOT_FOUND in words.lower()


def _alerts(body: bytes) -> Any:
    """What an envelope says beside its result; None where there is none, or no envelope."""
    try:
        answer = exact_json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError):
        return None
    return answer.get("ErrorAlert") or answer.get("ConfirmationAlert") if isinstance(answer, dict) else None


# -- secrets -----------------------------------------------------------------------------------------------------------


def _secret(auth: Auth, folder: Path, environment: Mapping[str, str]) -> str:
    """The password or key; messages name where it should be, never what is there."""
    variable, file = auth.variable, auth.file
    place = f"the variable {variable}" if variable else f"the file {file}"
    try:
        secret = environment.get(variable, "") if variable else (folder / (file or "")).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"auth: {place} cannot be read ({type(error).__name__}).") from None
    if not secret:
        raise ConfigurationError(f"auth: {place} is empty or not there.")
    if auth.user is None and not (secret.isascii() and secret.isprintable()):
        raise ConfigurationError(f"auth: {place} holds characters that no key or token has.")
    return secret


def _auth(auth: Auth, secret: str) -> httpx.Auth:
    if auth.user is not None:
        return httpx.BasicAuth(auth.user, secret)
    if auth.bearer_env or auth.bearer_file:
        return _Header("Authorization", f"Bearer {secret}")
    return _Header("X-API-Key", secret)
