"""What a request may bring, in one place: how large its body is, how long it may take to come, and how much of bodies a
process holds together.

A route says by its `opt` what kind of body it takes; one that says nothing takes a small one.
"""

import asyncio
import time
from collections import Counter
from enum import Enum

import msgspec
from litestar.datastructures import Headers
from litestar.types import HTTPReceiveMessage, Receive, Scope, WebSocketReceiveMessage

from app.base.errors import BodiesBusy, BodyTimedOut, TooManyRequests
from app.base.settings import Settings
from app.web.problems import PayloadTooLarge

RETRY_AFTER = 5  # seconds: bodies come and go

Incoming = HTTPReceiveMessage | WebSocketReceiveMessage


class Body(Enum):
    """Kinds of bodies."""

    LOGIN = "login"
    SMALL = "small"
    BATCH = "batch"
    UPLOAD = "upload"


LOGIN, BATCH, UPLOAD = ({"body": kind} for kind in (Body.LOGIN, Body.BATCH, Body.UPLOAD))


class Allowance(msgspec.Struct, frozen=True):
    """Most bytes of a body, and the seconds in which all of it has to come, with the settings that say so."""

    most: int
    setting: str
    seconds: float
    time_setting: str = "VANGUARD_BODY_TIMEOUT"


def allowances(settings: Settings) -> dict[Body, Allowance]:
    """What each kind of body may be."""
    return {
        Body.LOGIN: Allowance(settings.max_login_bytes, "VANGUARD_MAX_LOGIN_BYTES", settings.body_timeout),
        Body.SMALL: Allowance(settings.max_small_body_bytes, "VANGUARD_MAX_SMALL_BODY_BYTES", settings.body_timeout),
        Body.BATCH: Allowance(settings.max_body_bytes, "VANGUARD_MAX_BODY_BYTES", settings.body_timeout),
        Body.UPLOAD: Allowance(
            settings.max_upload_bytes, "VANGUARD_MAX_UPLOAD_BYTES", settings.upload_timeout, "VANGUARD_UPLOAD_TIMEOUT"
        ),
    }


class Bodies:
    """The bodies that a process holds in memory: `held` bytes. What every request may have anyway, a small body, is not
    counted.
    """

    def __init__(self, settings: Settings):
        self.allowances = allowances(settings)
        self.pause = settings.body_pause
        self._most, self._most_of_user = settings.max_bodies_bytes, settings.user_bodies_bytes
        self._free_size = settings.max_small_body_bytes
        self.held = 0
        self._by_user = Counter[str]()

    def counted(self, size: int) -> int:
        """How much of a body of so many bytes counts."""
        return max(0, size - self._free_size)

    def hold(self, user: str, more: int) -> None:
        """Count more bytes of a user's; raises TooManyRequests and BodiesBusy."""
        if self._by_user[user] + more > self._most_of_user:
            raise TooManyRequests(
                f"Your requests have bodies of more than {self._most_of_user:,} bytes under way "
                "(VANGUARD_USER_BODIES_BYTES). Send them in turn.",
                retry_after=RETRY_AFTER,
            )
        if self.held + more > self._most:
            raise BodiesBusy(
                f"Bodies of {self._most:,} bytes are under way, as many as may be (VANGUARD_MAX_BODIES_BYTES). "
                "Try again later.",
                retry_after=RETRY_AFTER,
            )
        self.held += more
        self._by_user[user] += more

    def release(self, user: str, size: int) -> None:
        """They are not held any more."""
        self.held -= size
        self._by_user[user] -= size
        if not self._by_user[user]:
            del self._by_user[user]


class Intake:
    """The body of one request as it comes in, within its allowance."""

    def __init__(self, bodies: Bodies, kind: Body, user: str, scope: Scope):
        self._bodies, self._user = bodies, user
        self.allowance = bodies.allowances[kind]
        self._until = time.monotonic() + self.allowance.seconds
        self._size = self._held = 0
        self._in_memory = True
        announced = Headers.from_scope(scope).get("content-length", "0")
        if announced.isdecimal() and len(announced) < 20 and int(announced) > self.allowance.most:
            raise self._too_large()

    async def receive(self, receive: Receive) -> Incoming:
        """The next message. Raises BodyTimedOut, PayloadTooLarge, TooManyRequests and BodiesBusy."""
        seconds = min(self._bodies.pause, self._until - time.monotonic())
        try:
            async with asyncio.timeout(seconds):
                message = await receive()
        except TimeoutError:
            raise BodyTimedOut(
                f"A body comes within {self.allowance.seconds:g} seconds ({self.allowance.time_setting}), and each "
                f"piece of it within {self._bodies.pause:g} (VANGUARD_BODY_PAUSE). Send it again, or in parts."
            ) from None
        if message["type"] == "http.request":
            self._count(len(message["body"]))
        return message

    def put_down(self) -> None:
        """It goes to disk as it comes: nothing of it is held in memory."""
        self.release()
        self._in_memory = False

    def unpack(self, size: int) -> None:
        """Unpacked it has so many bytes. Raises TooManyRequests and BodiesBusy."""
        self._hold(size)

    def release(self) -> None:
        """The request is over."""
        if self._held:
            self._bodies.release(self._user, self._held)
            self._held = 0

    def _count(self, more: int) -> None:
        self._size += more
        if self._size > self.allowance.most:
            raise self._too_large()
        if self._in_memory:
            self._hold(self._size)

    def _hold(self, size: int) -> None:
        if (counted := self._bodies.counted(size) - self._held) > 0:
            self._bodies.hold(self._user, counted)
            self._held += counted

    def _too_large(self) -> PayloadTooLarge:
        most, setting = self.allowance.most, self.allowance.setting
        return PayloadTooLarge(f"A body has at most {most:,} bytes here ({setting}). Send less, or in parts.")
