"""Previews: made of a question, kept for a while, read again by who made them."""

import uuid
from datetime import datetime, timedelta
from typing import Any

import msgspec

from app.base import exact_json
from app.base.clock import Clock
from app.base.database import Connection
from app.base.errors import PreviewExpired, PreviewNotFound, QuotaExceeded
from app.base.settings import Settings
from app.base.statements import statement
from app.contracts.values import write_datetime
from app.engine.desk import Desk
from app.engine.query.composing import Asker
from app.engine.query.model import Query
from app.english import read_sentence, write_sentence
from app.query_previews.catalogue import read_whole
from app.query_previews.look import Look, begin, hold, look_at
from app.query_previews.values import match_values
from app.query_previews.wire import (
    Estimated,
    QueryPreviewAnswer,
    aggregations_in_words,
    assumptions_of,
    columns_of,
    confidence_of,
    filters_in_words,
    joins_of,
    tables_of,
)
from app.web.runtime import Runtime

ADD_PREVIEW = statement("query_previews/add_preview")
FORGET_PREVIEWS = statement("query_previews/forget_previews")
READ_PREVIEW = statement("query_previews/read_preview")

LIFE = timedelta(minutes=15)


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """One that was kept. `sentence`: as it was asked, None where the question was structured."""

    id: uuid.UUID
    query: Query
    sentence: str | None
    digest: bytes


async def understand(runtime: Runtime, asker: Asker, asked: Query | str) -> Look:
    """What a question would do, in a snapshot of its own; raises what reading it does."""
    async with runtime.database.snapshot() as connection:
        await begin(connection, runtime.settings)
        whole = await read_whole(runtime, connection, asker.organization)
        query = asked
        if not isinstance(query, Query):
            query = await match_values(connection, whole, asker, read_sentence(query, whole))
        look = await look_at(connection, asker, await hold(runtime, connection, asker, query))
    # Its sentence is read against all datasets, and written so.
    datasets = {**whole.datasets, **look.catalogue.datasets}
    return msgspec.structs.replace(look, catalogue=msgspec.structs.replace(whole, datasets=datasets))


async def keep(
    desk: Desk, asker: Asker, look: Look, sentence: str | None, at: datetime, settings: Settings
) -> QueryPreviewAnswer:
    """Keep a preview, and what is answered of it; raises QuotaExceeded."""
    connection, id_ = desk.connection, uuid.uuid4()
    await connection.rows(FORGET_PREVIEWS, organization=asker.organization, user=asker.user, before=at)
    kept = await connection.value(
        ADD_PREVIEW,
        organization=asker.organization,
        id=id_,
        user=asker.user,
        query=look.question.query,
        sentence=sentence,
        digest=look.digest,
        at=at,
        expires_at=at + LIFE,
        most=settings.max_previews,
    )
    if kept is None:
        raise QuotaExceeded(
            f"You have {settings.max_previews} previews (VANGUARD_MAX_PREVIEWS), each for 15 minutes. Wait for some to "
            "expire."
        )
    return answer_of(look, id_, at + LIFE)


def answer_of(look: Look, id_: uuid.UUID, expires_at: datetime) -> QueryPreviewAnswer:
    """A preview on the wire."""
    question = look.question
    return QueryPreviewAnswer(
        preview_id=str(id_),
        digest=look.digest.hex(),
        expires_at=write_datetime(expires_at),
        sentence=write_sentence(question.query, look.catalogue),
        query=question.query,
        sql=look.sql,
        columns=columns_of(question),
        tables=tables_of(question, look.rows),
        joins=joins_of(question),
        filters=filters_in_words(question),
        aggregations=aggregations_in_words(question),
        assumptions=assumptions_of(question),
        confidence=confidence_of(question),
        estimated=Estimated(
            rows=look.plan.rows, greatest=look.plan.greatest, cost=look.plan.cost, seconds=look.seconds
        ),
        warnings=look.guards,
        requires_override=look.requires_override,
    )


async def read(connection: Connection, asker: Asker, id_: str, clock: Clock) -> Preview:
    """The caller's preview; raises PreviewNotFound, and PreviewExpired."""
    try:
        wanted = uuid.UUID(id_)
    except ValueError:
        raise _no_preview(id_) from None
    row = await connection.row(READ_PREVIEW, organization=asker.organization, user=asker.user, id=wanted)
    if row is None:
        raise _no_preview(id_)
    if row["expires_at"] <= clock():
        raise PreviewExpired("A preview lives 15 minutes, and this one's are over. Preview the question again.")
    return Preview(id=wanted, query=query_of(row["query"]), sentence=row["sentence"], digest=row["digest"])


def query_of(stored: Any) -> Query:
    """A question as it was kept."""
    return msgspec.convert(exact_json.decode(stored) if isinstance(stored, str) else stored, Query)


def _no_preview(id_: str) -> PreviewNotFound:
    return PreviewNotFound(f"You have no preview {id_[:80]!r}. Somebody else's cannot be run, and old ones are gone.")
