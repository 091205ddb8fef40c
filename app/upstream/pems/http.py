"""How PEMS is reached: with which credentials, how often, and what its refusals mean."""

import asyncio
import os
import ssl
from collections.abc import Generator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

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
NOT_FOUND = "record not found"
UNAUTHORIZED = "authorization failed"
MODIFIED = "modified by another user"
ADDED = "already exists"


class _KeyAuth(httpx.Auth):
    """An API key. Among the client's headers it would be printed with them."""

    def __init__(self, key: str):
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["X-API-Key"] = self._key
        yield request


class PemsClient:
    """Requests to one PEMS, with its credentials; at most so many a second, evenly spaced."""

    def __init__(
        self, config: PemsConfig, *, folder: Path, environment: Mapping[str, str] = os.environ, clock: Clock = now
    ):
        """Read the secret; raises ConfigurationError. A relative file is looked for in `folder`."""
        secret = _secret(config.auth, folder, environment)
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        headers |= {"tenant": config.tenant, "role": config.role}
        user = config.auth.user
        self._client = httpx.AsyncClient(
            base_url=config.url,
            auth=_KeyAuth(secret) if user is None else httpx.BasicAuth(user, secret),
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
        """The answer's body; raises Unavailable, Failed, and of a write OutcomeUnknown, Refused, Stale."""
        if self._limiter is not None:
            await self._limiter.acquire()
        response = await self._send(path, exact_json.encode(body), organization, writing)
        # Raised here and not where it was caught: httpx's errors carry the request, and with it the credentials.
        if isinstance(response, UpstreamError):
            raise response
        if response.is_success:
            return response.content
        raise self._refusal(response, writing)

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

    def _refusal(self, response: httpx.Response, writing: bool) -> UpstreamError:
        status = response.status_code
        message = f"PEMS answered {status}."
        if status in (401, 403):
            message = f"PEMS answered {status}: it refuses this account."
            return Unavailable(message, retry_after=self._retry_after(response) or REFUSED_SECONDS)
        if status in (408, 429, 503) or (status in (502, 504) and not writing):
            return Unavailable(message, retry_after=self._retry_after(response))
        if status >= 500:
            return OutcomeUnknown(message) if writing else Failed(message)
        words = words_of(_alerts(response.content))
        if writing and words:
            return write_refused(words)
        return Failed(f"{message} {words}" if words else message)

    def _retry_after(self, response: httpx.Response) -> float | None:
        """Seconds; the header says them, or a date."""
        text = response.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdigit():
            return float(text[:9])
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - self._clock()).total_seconds())


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
    """What an alert says about a read."""
    return Unavailable(words) if UNAUTHORIZED in words.lower() else Failed(words)


def write_refused(words: str) -> UpstreamError:
    """What an alert says about a write: nothing was written. A row that came or went has changed, too."""
    return Stale(words) if any(sign in words.lower() for sign in (MODIFIED, NOT_FOUND, ADDED)) else Refused(words)


def _alerts(body: bytes) -> Any:
    try:
        answer = exact_json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError):
        return None
    return answer.get("ErrorAlert") if isinstance(answer, dict) else None


# -- secrets -----------------------------------------------------------------------------------------------------------


def _secret(auth: Auth, folder: Path, environment: Mapping[str, str]) -> str:
    """The password or key; messages name where it should be, never what is there."""
    variable, file = auth.password_env or auth.api_key_env, auth.password_file or auth.api_key_file
    place = f"the variable {variable}" if variable else f"the file {file}"
    try:
        secret = environment.get(variable, "") if variable else (folder / (file or "")).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"auth: {place} cannot be read ({type(error).__name__}).") from None
    if not secret:
        raise ConfigurationError(f"auth: {place} is empty or not there.")
    if auth.user is None and not (secret.isascii() and secret.isprintable()):
        raise ConfigurationError(f"auth: {place} holds characters that no API key has.")
    return secret
