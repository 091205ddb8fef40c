"""Attempts to log in: bounded before they cost.

A hash is dear and anybody can ask for one. So whoever has to wait is told before, few are worked out at a time, and the
attempt is reserved in the database before its hash: it counts as a failure until it turns out to be right, whatever
becomes of this process. docs/operations.md#logins-under-attack tells who waits for what.
"""

import asyncio
import hashlib
import hmac
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import msgspec
import structlog
from asyncpg import Record
from prometheus_client import Counter, Gauge, Histogram

from app import accounts, passwords
from app.base.database import Connection
from app.base.errors import DatabaseUnavailable, InvalidCredentials, LoginsBusy, TooManyAttempts, VanguardError
from app.base.origin import tell_whose
from app.base.settings import Settings
from app.base.statements import statement
from app.base.turns import Full, Work
from app.engine import audit
from app.web.auth import Account
from app.web.runtime import Runtime

log = structlog.get_logger(__name__)

HOLD_PASSWORD = statement("accounts/hold_password")
READ_ATTEMPTS = statement("login/read_attempts")
COUNT_ATTEMPTS = statement("login/count_attempts")
SETTLE_ATTEMPTS = statement("login/settle_attempts")
REMEMBER_ADDRESS = statement("login/remember_address")
FORGET_ATTEMPTS = statement("login/forget_attempts")

LOGINS = Counter("vanguard_logins_total", "Attempts to log in by what became of them", ["outcome"])
QUEUED = Gauge("vanguard_login_queue", "Attempts to log in that wait for their turn")
WAITED = Histogram("vanguard_login_wait_seconds", "Time that an attempt to log in waited for its turn")

# What is counted: an email from an address, an email, an address; and what comes to an email from an address where it
# was let in before, while strangers there are refused.
PAIR, EMAIL, ADDRESS, HOME = KINDS = (1, 2, 3, 4)
FIRST_WAIT = 10
# Seconds, by kind. A wait is no longer than the quiet time after which counting starts anew.
LONGEST_WAITS, WINDOWS = (900, 300, 900, 900), (900, 3600, 900, 900)
ADDRESSES_OF_ACCOUNT = 20
FORGOTTEN_AT_ONCE = 20  # rows; an attempt adds four at most
DIGITS = 16  # of the digest of an unknown email
# Seconds from a request on, after which all refusals come that a stranger would get, where somebody is at home.
MASKED = 1.0

# The password of nobody, with the hasher's parameters: an unknown account takes as long as a wrong password.
NOBODY = "$argon2id$v=19$m=65536,t=3,p=4$C/GsvxF8116hGgVBlZitNA$T99VCaAUHviTDGWTP+NlmOCUFQCCbIBti8ukWZ1NyhU"


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Who says who they are, from where: keyed digests, so that the tables tell nobody's email or address."""

    address: bytes
    pair: bytes
    digests: tuple[bytes, bytes, bytes, bytes]

    @classmethod
    def of(cls, secret: str, email: str, address: str) -> "Attempt":
        """The attempt for a normalized email."""

        def digest(kind: int, *words: str) -> bytes:
            # No email is an email, too.
            return hmac.digest(secret.encode(), "\0".join(("login", str(kind), *words)).encode(), hashlib.sha256)

        digests = (digest(PAIR, email, address), digest(EMAIL, email), digest(ADDRESS, address))
        return cls(address=digests[2], pair=digests[0], digests=(*digests, digest(HOME, email, address)))

    def counted(self, *kinds: int) -> dict[str, Any]:
        """Digests of these kinds, as count_attempts takes them."""
        return {"digests": [self.digests[kind - 1] for kind in kinds], "kinds": list(kinds)}


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about an attempt before its turn; waits are in seconds.

    `at_home`: the email was let in from the address before; `inhabited`: somebody was.
    """

    pair_wait: int
    shared_wait: int
    at_home: bool
    inhabited: bool


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Who was let in, and when: while the password by which they were, whose hash is `stored`, could not change."""

    account: Account
    at: datetime
    stored: str


async def identify(
    runtime: Runtime, email: str, password: str, address: str, act: audit.Act | None = audit.Act.LOGIN_SUCCEEDED
) -> Entry:
    """The account of a normalized email and a password, recorded as this act, None for what is one of its own; raises
    InvalidCredentials, TooManyAttempts or LoginsBusy.
    """
    attempt = Attempt.of(runtime.settings.secret, email, address)
    try:
        found = await _enter(runtime, password, email, address, attempt, act)
    except InvalidCredentials:
        _tell("wrong")
        raise
    except TooManyAttempts:
        _tell("slowed_down")
        raise
    except LoginsBusy:
        _tell("busy")
        raise
    _tell("let_in")
    return found


async def change_password(runtime: Runtime, email: str, old: str, new: str, address: str) -> datetime:
    """Give the account another password, which ends its tokens of before the moment that is returned; raises what
    `identify` does.
    """
    entry = await identify(runtime, email, old, address, act=None)
    try:
        async with runtime.hashing.turn(address, email, at_home=True) as work:
            hashed = await work(passwords.hash_password, new)
    except Full:
        raise busy(runtime.settings) from None
    async with _connection(runtime) as connection, connection.transaction():
        at = await accounts.replace_password(connection, runtime.auth, entry.account.id, hashed, replaced=entry.stored)
        told = audit.Entry(at=at, actor=entry.account.id, action=audit.Act.PASSWORD_CHANGED)
        await audit.record_everywhere(connection, entry.account.roles, told)
    return at


def _tell(outcome: str) -> None:
    LOGINS.labels(outcome).inc()
    log.info("login", outcome=outcome)


async def _enter(
    runtime: Runtime, password: str, email: str, address: str, attempt: Attempt, act: audit.Act | None
) -> Entry:
    """Somebody at home is let in where a stranger would be refused, with the right password. With a wrong one they get
    what a stranger gets, and as late: else a neighbour at the same address could learn who is at home there.
    """
    started = asyncio.get_running_loop().time()
    async with _connection(runtime) as connection:
        standing = await _read_standing(runtime, connection, attempt)
    if standing.pair_wait:
        raise _slow_down(standing.pair_wait, "from your address for this email")
    refusal: VanguardError | None = None
    if standing.shared_wait:
        refusal = _slow_down(standing.shared_wait, "for this email or from your address")
    elif not runtime.hashing.has_room(address, email):
        refusal = busy(runtime.settings)
    try:
        if refusal is not None and not standing.at_home:
            raise refusal
        return await _prove(runtime, password, email, address, attempt, standing, refusal, act)
    except (TooManyAttempts, LoginsBusy):
        if standing.inhabited:
            await asyncio.sleep(started + MASKED - asyncio.get_running_loop().time())
        raise


async def _prove(
    runtime: Runtime,
    password: str,
    email: str,
    address: str,
    attempt: Attempt,
    standing: Standing,
    refusal: VanguardError | None,
    act: audit.Act | None,
) -> Entry:
    """Wait for a turn, reserve the attempt, look at the password; `refusal` is what a stranger would get by now."""
    try:
        async with runtime.hashing.turn(address, email, at_home=standing.at_home) as work:
            # No connection is held while somebody waits, nor while passwords are hashed.
            async with _connection(runtime) as connection:
                refusal = await _reserve(runtime, connection, attempt, standing, refusal)
                row = await connection.row(accounts.READ_ACCOUNT, account=None, email=email)
            stored = row["password_hash"] if row is not None else None
            right: bool = await work(passwords.matches, stored or NOBODY, password)
            right = right and not _everybody_knows(runtime, password)
            renewed = await _renew(work, stored, password) if right and stored is not None else None
    except Full:
        raise busy(runtime.settings) from None
    if row is None or stored is None or not right:
        await _record_failure(runtime, row, attempt)
        raise refusal or InvalidCredentials("Check both and try again.")
    try:
        at = await _let_in(runtime, row, attempt, stored, renewed, KINDS if refusal is None else (PAIR, HOME), act)
    except InvalidCredentials:
        await _record_failure(runtime, row, attempt)
        raise
    tell_whose(row["id"])
    return Entry(account=accounts.account_of(row), at=at, stored=renewed or stored)


async def _let_in(
    runtime: Runtime,
    row: Record,
    attempt: Attempt,
    stored: str,
    renewed: str | None,
    counted: tuple[int, ...],
    act: audit.Act | None,
) -> datetime:
    """Take back what was `counted`, and tell it as this act; from when on the account was let in. Raises
    InvalidCredentials.
    """
    async with _connection(runtime) as connection, connection.transaction():
        if await connection.value(HOLD_PASSWORD, account=row["id"]) != stored:
            raise InvalidCredentials("Check both and try again.")  # somebody changed it meanwhile
        at = runtime.clock()
        await connection.value(
            SETTLE_ATTEMPTS,
            digests=attempt.counted(*counted)["digests"], free=_free(runtime.settings),
        )  # fmt: skip
        await connection.value(
            REMEMBER_ADDRESS,
            account=row["id"], address=attempt.address, pair=attempt.pair, at=at, most=ADDRESSES_OF_ACCOUNT,
        )  # fmt: skip
        if renewed is not None:
            await connection.value(accounts.SAVE_PASSWORD, account=row["id"], password_hash=renewed, replaced=stored)
        if act is not None:
            entry = audit.Entry(at=at, actor=row["id"], action=act)
            await audit.record_everywhere(connection, row["roles"], entry)
    return at


def _everybody_knows(runtime: Runtime, password: str) -> bool:
    """A demonstration's database may have come into production."""
    known = runtime.settings.is_production and passwords.is_demonstration(password)
    if known:
        log.warning("password of the demonstration refused")
    return known


async def _record_failure(runtime: Runtime, row: Record | None, attempt: Attempt) -> None:
    """Of an account that there is, and of an email that nobody has: one statement each, which takes as long.

    What somebody types for an email may be a password, so that only its digest is kept: it says which entries are of
    the same one.
    """
    at = runtime.clock()
    if row is not None:
        tell_whose(row["id"])
        entry = audit.Entry(at=at, actor=row["id"], action=audit.Act.LOGIN_FAILED)
    else:
        details = {"email": attempt.digests[EMAIL - 1].hex()[:DIGITS]}
        entry = audit.Entry(at=at, actor=None, action=audit.Act.LOGIN_FAILED, details=details)
    async with _connection(runtime) as connection, connection.transaction():
        await audit.record_everywhere(connection, row["roles"] if row is not None else (), entry)


async def _renew(work: Work, stored: str, password: str) -> str | None:
    """The hash by which an older one is replaced, in the same turn."""
    return await work(passwords.HASHER.hash, password) if passwords.HASHER.check_needs_rehash(stored) else None


async def _reserve(
    runtime: Runtime, connection: Connection, attempt: Attempt, standing: Standing, refusal: VanguardError | None
) -> VanguardError | None:
    """Count the attempt as a failure before it costs, and return what a wrong password gets, None for the usual; raises
    TooManyAttempts.

    What a stranger would have been refused is not counted with strangers' attempts, so that these tell nothing.
    """
    if refusal is not None:
        if not await _count(runtime, connection, attempt, HOME):
            raise refusal
    elif not await _count(runtime, connection, attempt, PAIR):
        standing = await _read_standing(runtime, connection, attempt)
        raise _slow_down(max(standing.pair_wait, 1), "from your address for this email")
    now = runtime.clock()
    await connection.value(
        FORGET_ATTEMPTS,
        before=now - timedelta(seconds=max(WINDOWS)), since=_since(runtime, now), limit=FORGOTTEN_AT_ONCE,
    )  # fmt: skip
    if refusal is None and not await _count_shared(runtime, connection, attempt):
        shared = await _read_standing(runtime, connection, attempt)
        refusal = _slow_down(max(shared.shared_wait, 1), "for this email or from your address")
        if not standing.at_home:
            raise refusal
    return refusal


async def _count(runtime: Runtime, connection: Connection, attempt: Attempt, *kinds: int) -> bool:
    """Whether all of these could be counted: none of them has to wait."""
    counted = await connection.rows(
        COUNT_ATTEMPTS,
        **attempt.counted(*kinds), free=_free(runtime.settings), longest=LONGEST_WAITS, windows=WINDOWS,
        first=FIRST_WAIT, at=runtime.clock(),
    )  # fmt: skip
    return len(counted) == len(kinds)


class _NotAll(Exception):
    """One of several could not be counted: none is."""


async def _count_shared(runtime: Runtime, connection: Connection, attempt: Attempt) -> bool:
    try:
        async with connection.transaction():
            if not await _count(runtime, connection, attempt, EMAIL, ADDRESS):
                raise _NotAll
    except _NotAll:
        return False
    return True


async def _read_standing(runtime: Runtime, connection: Connection, attempt: Attempt) -> Standing:
    now = runtime.clock()
    row = await connection.row(
        READ_ATTEMPTS,
        digests=list(attempt.digests[:3]), address=attempt.address, pair=attempt.pair, at=now,
        since=_since(runtime, now),
    )  # fmt: skip
    assert row is not None, "the statement always answers with one row"
    shared = max(_wait(row["account_opens"], now), _wait(row["address_opens"], now))
    return Standing(
        pair_wait=_wait(row["pair_opens"], now),
        shared_wait=shared,
        at_home=row["at_home"],
        inhabited=row["inhabited"],
    )


def _wait(opens: datetime | None, now: datetime) -> int:
    return max(math.ceil((opens - now).total_seconds()), 0) if opens is not None else 0


def _since(runtime: Runtime, now: datetime) -> datetime:
    return now - timedelta(days=runtime.settings.keep_login_addresses_days)


def _free(settings: Settings) -> tuple[int, ...]:
    """Failures without a wait, by kind."""
    pair, account, address = settings.login_failures, settings.login_account_failures, settings.login_address_failures
    return pair, account, address, pair


def _slow_down(wait: int, where: str) -> TooManyAttempts:
    return TooManyAttempts(f"Too many attempts failed {where}. Try again in {wait} seconds.", retry_after=wait)


def busy(settings: Settings) -> LoginsBusy:
    """The error for whoever finds the queue full."""
    return LoginsBusy(
        f"{settings.login_hashes} logins are looked at at a time (VANGUARD_LOGIN_HASHES), and {settings.login_queue} "
        "wait already (VANGUARD_LOGIN_QUEUE). Try again in a moment.",
        retry_after=2,
    )


@asynccontextmanager
async def _connection(runtime: Runtime) -> AsyncIterator[Connection]:
    """One of the reserve. Logins leave one of these to the guards of all other requests; raises DatabaseUnavailable."""
    try:
        async with asyncio.timeout(runtime.settings.pool_timeout):
            await runtime.logins.acquire()
    except TimeoutError:
        raise DatabaseUnavailable("Nothing was saved. Try again in a moment.", retry_after=2) from None
    try:
        async with runtime.reserve.connection() as connection:
            yield connection
    finally:
        runtime.logins.release()
