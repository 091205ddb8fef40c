"""Idempotency-Key: the same request sent again gets the first answer again, also when it was a refusal.

Of a large refusal only status and digest are kept. The request sent again is then tried, and all of it taken back: what
is wrong is told anew, and nothing that was refused passes under its old key.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from asyncpg import Record
from litestar import Response

from app.base import exact_json
from app.base.database import Connection, Database
from app.base.errors import (
    Code,
    Culprit,
    IdempotencyKeyReused,
    Kind,
    MalformedRequest,
    RefusedBefore,
    TooManyKeys,
    VanguardError,
)
from app.base.settings import Settings
from app.base.statements import statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.engine.feed import reached
from app.engine.positions import read_position
from app.web.paths import instance
from app.web.problems import MEDIA_TYPE, problem, request_id
from app.web.runtime import Runtime, VanguardRequest

CLAIM_KEY = statement("idempotency/claim_key")
READ_ANSWER = statement("idempotency/read_answer")
KEEP_ANSWER = statement("idempotency/keep_answer")
FORGET_OLD = statement("idempotency/forget_old")
MAKE_ROOM = statement("idempotency/make_room")
SUM_KEPT = statement("idempotency/sum_kept")
READ_OLDEST = statement("idempotency/read_oldest")
AT_ONCE = 100  # refusals that are forgotten where there is no room
SHARE = 1000  # of an organization's bytes: who has less than such a part of them is not asked about the others
RETENTION = timedelta(days=1)
MOST_WAIT = 3600  # seconds that Retry-After says: refusals can make room any time
HEADER = "Idempotency-Key"
KEY = re.compile(r"[\x21-\x7e]{1,200}")

# An error that work returns, and does not raise, is the answer, too, and what it has written is kept.
Answer = bytes | VanguardError
Work = Callable[[Desk], Awaitable[Answer]]


async def answer_once(
    request: VanguardRequest,
    runtime: Runtime,
    contract: Contract,
    organization: str,
    work: Work,
    *,
    status: int = 200,
    database: Database | None = None,
) -> Response[bytes]:
    """Run `work` at a desk, in one transaction, and answer `status` with the JSON that it returns, or with the problem.
    `database`: another pool than that of requests.

    The answer tells the feed's position, too. With a key it runs the first time only. A deadlock or a serialization
    failure runs it once more. Raises what `work` raises, with nothing saved; with a key TooManyKeys, before anything is
    done, where no further answer can be kept.
    """

    async def at_desk(connection: Connection) -> Answer:
        desk = Desk(connection, contract, organization)
        answer = await work(desk)
        if isinstance(answer, VanguardError):
            return answer
        return placed(answer, await reached(desk, request.user.user_id))

    def told(error: VanguardError) -> tuple[int, bytes]:
        status, body, _ = problem(error, instance(request.scope), request_id(request))
        return status, body

    pool = runtime.database if database is None else database
    keeper = await _keeper(request, runtime, organization)
    if keeper is None:
        answer = await pool.run(at_desk)
        if isinstance(answer, VanguardError):
            raise answer
        return _response(status, answer)
    try:
        try:
            status, body = await pool.run(lambda connection: keeper.run(connection, at_desk, status, told))
        except _Full:
            await runtime.database.run(keeper.make_room)
            status, body = await pool.run(lambda connection: keeper.run(connection, at_desk, status, told))
    except VanguardError as error:
        status, body, headers = problem(error, instance(request.scope), request_id(request))
        # Whoever is told to come again, for load or a lack of room, is to find the key free.
        if status >= 500 or error.kind is Kind.THROTTLED or isinstance(error, IdempotencyKeyReused | RefusedBefore):
            raise
        await runtime.database.run(lambda connection: keeper.keep_refusal(connection, status, body))
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)
    return _response(status, body)


async def repeated(request: VanguardRequest, runtime: Runtime, organization: str) -> Response[bytes] | None:
    """The answer that is kept under the request's key, None where there is none: for a route that, before it comes to
    `answer_once`, looks at what can be another by now. The body has been read. Raises IdempotencyKeyReused.
    """
    keeper = await _keeper(request, runtime, organization)
    if keeper is None:
        return None
    async with runtime.database.connection() as connection:
        kept = await keeper.read(connection)
    return None if kept is None or kept["answer"] is None else _response(kept["status"], kept["answer"])


async def answer_rehearsal(request: VanguardRequest, organization: str, answer: Any) -> Response[bytes]:
    """Answer what a dry run came to, whose transaction is taken back, with the feed's position as it is."""
    async with request.runtime.database.connection() as connection:
        position = await read_position(connection, organization, request.user.user_id)
    return Response(placed(exact_json.encode(answer), position), status_code=200, media_type="application/json")


def placed(answer: bytes, position: str) -> bytes:
    """The answer, a JSON object, with the feed's position behind what was written."""
    return b'%b%b"position":"%b"}' % (answer[:-1], b"," if len(answer) > 2 else b"", position.encode())


def _response(status: int, body: bytes) -> Response[bytes]:
    return Response(body, status_code=status, media_type="application/json" if status < 400 else MEDIA_TYPE)


async def _keeper(request: VanguardRequest, runtime: Runtime, organization: str) -> "_Keeper | None":
    """None without a key; raises MalformedRequest."""
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not KEY.fullmatch(key):
        culprit = Culprit(code=Code.INVALID_PARAMETER, parameter=HEADER, message="1 to 200 visible characters.")
        raise MalformedRequest("The Idempotency-Key has 1 to 200 visible ASCII characters.", errors=[culprit])
    owner = (organization, request.user.user_id, key)
    return _Keeper(*owner, await _digest(request), runtime.clock(), runtime.settings)


async def _digest(request: VanguardRequest) -> bytes:
    head = f"{request.method} {request.url.path}".encode()
    if query := request.scope["query_string"]:
        head += b"?" + query
    if request.digest is None:
        # Read as JSON, whatever it is called.
        return hashlib.sha256(head + b"\n" + await request.body()).digest()
    return hashlib.sha256(head + f"\n{request.content_type[0].lower()}\n".encode() + request.digest).digest()


class _Full(TooManyKeys):
    """There was no room for one more answer, before any was made."""


class _Keeper:
    """One key of one user: claims it, and keeps or repeats the answer."""

    def __init__(self, organization: str, user: str, key: str, digest: bytes, at: datetime, settings: Settings):
        self.user = {"organization": organization, "user": user}
        self.owner = self.user | {"idempotency_key": key}
        self.digest = digest
        self.at = at
        self.settings = settings
        self.has_made_room = False

    async def run(
        self,
        connection: Connection,
        work: Callable[[Connection], Awaitable[Answer]],
        status: int,
        told: Callable[[VanguardError], tuple[int, bytes]],
    ) -> tuple[int, bytes]:
        """The first answer: kept, or made now. A second request with the key waits here for the first to end."""
        claimed = await self._claim(connection)
        if claimed is None:
            return await self._repeat(connection, work)
        await self._check_room(connection, claimed)
        answer = await work(connection)
        status, body = told(answer) if isinstance(answer, VanguardError) else (status, answer)
        await self._keep(connection, claimed, status, body, refused=False)
        return status, body

    async def keep_refusal(self, connection: Connection, status: int, body: bytes) -> None:
        """Keep a refusal; its own transaction, since the one that was refused has left nothing behind."""
        claimed = await self._claim(connection)
        if claimed is not None:
            await self._keep(connection, claimed, status, body, refused=True)

    async def make_room(self, connection: Connection) -> None:
        """Forget what can be, in a transaction of its own; from then on a lack of room is final."""
        await connection.row(MAKE_ROOM, **self.user, before=self.at - RETENTION, limit=AT_ONCE)
        self.has_made_room = True

    async def read(self, connection: Connection) -> Record | None:
        """What is kept: status, and answer, None where that was too large. Raises IdempotencyKeyReused."""
        kept = await connection.row(READ_ANSWER, **self.owner, before=self.at - RETENTION)
        if kept is not None and kept["request_digest"] != self.digest:
            raise IdempotencyKeyReused("Use a new Idempotency-Key for each request; this one came with another body.")
        return kept

    async def _claim(self, connection: Connection) -> Record | None:
        before = self.at - RETENTION
        return await connection.row(CLAIM_KEY, **self.owner, digest=self.digest, at=self.at, before=before)

    async def _check_room(self, connection: Connection, claimed: Record) -> None:
        """Raises _Full where as much is kept as may be: by so much more as the requests at work may add to it."""
        keys, size = claimed["keys"], claimed["bytes"]
        most, most_bytes = self.settings.user_keys, self.settings.user_key_bytes
        most_of_all = self.settings.organization_key_bytes
        if keys >= most and claimed["expired"] is None:
            held = f"{keys:,} keys of yours are kept, of {most:,} (VANGUARD_USER_KEYS)"
        elif size >= most_bytes:
            held = f"{size:,} bytes of answers are kept for you, of {most_bytes:,} (VANGUARD_USER_KEY_BYTES)"
        elif size >= most_of_all // SHARE and await self._sum(connection) >= most_of_all:
            held = f"{most_of_all:,} bytes of answers are kept for the organization (VANGUARD_ORGANIZATION_KEY_BYTES)"
        else:
            return
        raise await self._refusal(connection, held)

    async def _sum(self, connection: Connection) -> int:
        return int(await connection.value(SUM_KEPT, organization=self.user["organization"]))

    async def _refusal(self, connection: Connection, held: str) -> TooManyKeys:
        if not self.has_made_room:
            return _Full(held)
        oldest = await connection.value(READ_OLDEST, **self.user)
        left = (oldest + RETENTION - self.at).total_seconds()
        return TooManyKeys(
            f"{held}, each for a day. Nothing was done. Wait, or send the request without an Idempotency-Key.",
            retry_after=min(max(int(left), 1), MOST_WAIT),
        )

    async def _keep(self, connection: Connection, claimed: Record, status: int, body: bytes, *, refused: bool) -> None:
        # What has written something is repeated to the byte, however large.
        kept = not refused or len(body) <= self.settings.max_refusal_bytes
        await connection.row(
            KEEP_ANSWER,
            **self.owner,
            status=status,
            body=body if kept else None,
            body_digest=None if kept else hashlib.sha256(body).digest(),
            refused=refused,
            more_keys=int(claimed["expired"] is None),
            more_bytes=(len(body) if kept else 0) - (claimed["expired"] or 0),
        )
        await connection.row(FORGET_OLD, organization=self.user["organization"], before=self.at - RETENTION)

    async def _repeat(
        self, connection: Connection, work: Callable[[Connection], Awaitable[Answer]]
    ) -> tuple[int, bytes]:
        kept = await self.read(connection)
        assert kept is not None, "a key that could not be claimed is there"
        if kept["answer"] is not None:
            return kept["status"], kept["answer"]
        answer = await work(connection)
        # Whatever that has written is taken back.
        if isinstance(answer, VanguardError):
            raise answer
        raise RefusedBefore(
            f"It was refused with {kept['status']}, by an answer too large to be kept. It would pass by now, but "
            "nothing was saved. Send it with a new Idempotency-Key if it is still meant."
        )
