"""Idempotency-Key: the same request sent again gets the first answer again, also when it was a refusal."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

from litestar import Response

from app.base import exact_json
from app.base.database import Connection, Database
from app.base.errors import Code, Culprit, IdempotencyKeyReused, MalformedRequest, VanguardError
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
RETENTION = timedelta(days=1)
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
    failure runs it once more. Raises what `work` raises, with nothing saved.
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
    key = request.headers.get("Idempotency-Key")
    if key is None:
        answer = await pool.run(at_desk)
        if isinstance(answer, VanguardError):
            raise answer
        return Response(answer, status_code=status, media_type="application/json")
    if not KEY.fullmatch(key):
        culprit = Culprit(
            code=Code.INVALID_PARAMETER, parameter="Idempotency-Key", message="1 to 200 visible characters."
        )
        raise MalformedRequest("The Idempotency-Key has 1 to 200 visible ASCII characters.", errors=[culprit])
    keeper = _Keeper(organization, request.user.user_id, key, await _digest(request), runtime.clock())
    try:
        status, body = await pool.run(lambda connection: keeper.run(connection, at_desk, status, told))
    except VanguardError as error:
        status, body, headers = problem(error, instance(request.scope), request_id(request))
        if status >= 500 or isinstance(error, IdempotencyKeyReused):
            raise
        await runtime.database.run(lambda connection: keeper.keep_refusal(connection, status, body))
        return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)
    return Response(body, status_code=status, media_type="application/json" if status < 400 else MEDIA_TYPE)


async def answer_rehearsal(request: VanguardRequest, organization: str, answer: Any) -> Response[bytes]:
    """Answer what a dry run came to, whose transaction is taken back, with the feed's position as it is."""
    async with request.runtime.database.connection() as connection:
        position = await read_position(connection, organization, request.user.user_id)
    return Response(placed(exact_json.encode(answer), position), status_code=200, media_type="application/json")


def placed(answer: bytes, position: str) -> bytes:
    """The answer, a JSON object, with the feed's position behind what was written."""
    return b'%b%b"position":"%b"}' % (answer[:-1], b"," if len(answer) > 2 else b"", position.encode())


async def _digest(request: VanguardRequest) -> bytes:
    body = request.digest if request.digest is not None else await request.body()
    return hashlib.sha256(f"{request.method} {request.url.path}\n".encode() + body).digest()


class _Keeper:
    """One key of one user: claims it, and keeps or repeats the answer."""

    def __init__(self, organization: str, user: str, key: str, digest: bytes, at: datetime):
        self.owner = {"organization": organization, "user": user, "idempotency_key": key}
        self.digest = digest
        self.at = at

    async def run(
        self,
        connection: Connection,
        work: Callable[[Connection], Awaitable[Answer]],
        status: int,
        told: Callable[[VanguardError], tuple[int, bytes]],
    ) -> tuple[int, bytes]:
        """The first answer: kept, or made now. A second request with the key waits here for the first to end."""
        if not await self._claim(connection):
            return await self._repeat(connection)
        answer = await work(connection)
        status, body = told(answer) if isinstance(answer, VanguardError) else (status, answer)
        await connection.row(KEEP_ANSWER, **self.owner, status=status, body=body)
        await self._forget_old(connection)
        return status, body

    async def keep_refusal(self, connection: Connection, status: int, body: bytes) -> None:
        """Keep a refusal; its own transaction, since the one that was refused has left nothing behind."""
        if await self._claim(connection):
            await connection.row(KEEP_ANSWER, **self.owner, status=status, body=body)
        await self._forget_old(connection)

    async def _claim(self, connection: Connection) -> bool:
        before = self.at - RETENTION
        claimed = await connection.value(CLAIM_KEY, **self.owner, digest=self.digest, at=self.at, before=before)
        return claimed is not None

    async def _forget_old(self, connection: Connection) -> None:
        await connection.row(FORGET_OLD, organization=self.owner["organization"], before=self.at - RETENTION)

    async def _repeat(self, connection: Connection) -> tuple[int, bytes]:
        kept = await connection.row(READ_ANSWER, **self.owner)
        assert kept is not None, "a key that could not be claimed is there"
        if kept["request_digest"] != self.digest:
            raise IdempotencyKeyReused("Use a new Idempotency-Key for each request; this one came with another body.")
        return kept["status"], kept["answer"]
