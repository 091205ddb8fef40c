"""A look at a question: read, held against what is there, and planned, without being run."""

import hashlib
from typing import NamedTuple

import msgspec

from app.base import exact_json
from app.base.database import Connection
from app.base.errors import InvalidQuery, NotFound, PreviewStale, SchemaChanged
from app.base.settings import Settings
from app.base.statements import statement
from app.contracts import Contract
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.engine.query.catalogue import Catalogue
from app.engine.query.composing import Asker, compose, explain
from app.engine.query.model import Query
from app.engine.query.plans import Plan, read_plan
from app.engine.query.question import Question, leaves
from app.engine.query.reading import read_query
from app.query_previews.catalogue import read_named
from app.query_previews.guards import Guard, guards
from app.web.runtime import Runtime

BEGIN = statement("query_previews/begin_query")
ESTIMATE_ROWS = statement("query_previews/estimate_rows")
HAS_MODIFICATIONS = statement("query_previews/has_modifications")
COUNT_ROWS = statement("query_previews/count_rows")
READ_PACE = statement("query_previews/read_pace")

FEW = 10_000  # rows
MARGIN = 5.0  # seconds: whoever is slower than may be is told so before the database ends it
PACE = 8e-6  # seconds for a unit of cost, until five questions were run: docs/queries.md tells how it was measured


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What there is to see. `rows`: about how many the mirror of each source has."""

    question: Question
    catalogue: Catalogue
    digest: bytes
    sql: str
    plan: Plan
    seconds: float
    rows: list[int]
    guards: list[Guard]

    @property
    def requires_override(self) -> bool:
        """Whether a guard holds it."""
        return any(each.requires_override for each in self.guards)


class Held(NamedTuple):
    """A question that can be run: read, and held against the datasets as they are in this snapshot."""

    question: Question
    catalogue: Catalogue
    digest: bytes


async def begin(connection: Connection, settings: Settings) -> None:
    """Prepare a snapshot for one question."""
    seconds = min(settings.query_timeout, settings.statement_timeout)
    await connection.row(
        BEGIN,
        seconds=seconds,
        memory_mb=settings.query_memory_mb,
        files_mb=settings.query_files_mb,
        idle=settings.stall_timeout + MARGIN,
    )


async def hold(runtime: Runtime, connection: Connection, asker: Asker, query: Query) -> Held:
    """Read the question; raises what read_query does, and SchemaChanged."""
    organization = asker.organization
    catalogue = await read_named(runtime, connection, organization, query)
    question = read_query(query, catalogue, runtime.bounds, runtime.settings.max_query_rows)
    drafted = set[str]()
    for contract in contracts_of(question):
        desk = Desk(connection, contract, organization)
        await read_dataset(desk)
        if await desk.value(HAS_MODIFICATIONS, user=asker.user):
            drafted.add(contract.name)
    question = msgspec.structs.replace(question, drafted=frozenset(drafted))
    return Held(question, catalogue, digest_of(question))


async def hold_again(runtime: Runtime, connection: Connection, asker: Asker, query: Query) -> Held:
    """The same of a question that was previewed; raises PreviewStale where it cannot be asked any more."""
    try:
        return await hold(runtime, connection, asker, query)
    except (InvalidQuery, NotFound, SchemaChanged) as error:
        raise PreviewStale(
            f"What the question reads has changed since it was previewed. {error.detail} Preview it again."
        ) from error


async def look_at(connection: Connection, asker: Asker, held: Held) -> Look:
    """Look at a question, in a snapshot that was begun."""
    question, catalogue, digest = held
    plan = read_plan(await connection.value(explain(_expected(question), asker)))
    estimates = {
        contract.name: await _estimate(Desk(connection, contract, asker.organization))
        for contract in contracts_of(question)
    }
    rows = [estimates[source.of.contract.name] for source in question.sources]
    pace = await connection.value(READ_PACE, organization=asker.organization)
    return Look(
        question=question,
        catalogue=catalogue,
        digest=digest,
        sql=_shown(compose(question, asker).text),
        plan=plan,
        seconds=round(plan.cost * (PACE if pace is None else float(pace)), 3),
        rows=rows,
        guards=guards(question, plan, rows, await _asked(connection, question, asker, rows)),
    )


def _expected(question: Question) -> Question:
    """What the planner can weigh. Of merged rows in two arms it has no statistics: it takes a join of them for one of
    almost any two, a thousand times what it is. Few rows are drafted, so a join is weighed as of the mirrors.
    """
    return msgspec.structs.replace(question, drafted=frozenset()) if len(question.sources) > 1 else question


async def _estimate(desk: Desk) -> int:
    """Few rows are counted: of a dataset that is new the planner knows nothing."""
    counted = int(await desk.value(COUNT_ROWS, most=FEW))
    return counted if counted < FEW else max(counted, read_plan(await desk.value(ESTIMATE_ROWS)).rows)


async def _asked(connection: Connection, question: Question, asker: Asker, rows: list[int]) -> int:
    """About how many rows of the first dataset pass its own filters; asked where that matters."""
    if not question.listing or not question.branches:
        return rows[0]
    own = tuple(each for each in question.filters if all(leaf.column.source == 0 for leaf in leaves(each)))
    alone = msgspec.structs.replace(question, sources=question.sources[:1], columns=(), order=(), filters=own)
    return read_plan(await connection.value(explain(alone, asker))).widest


def _shown(text: str) -> str:
    """Without the comment at its head."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("--")).strip()


def contracts_of(question: Question) -> list[Contract]:
    """Those of its datasets, each once."""
    return list({source.of.contract.name: source.of.contract for source in question.sources}.values())


def digest_of(question: Question) -> bytes:
    """Of the question, and of the versions of contracts and joins that it reads."""
    versions = sorted((each.name, each.schema, each.version) for each in contracts_of(question))
    joins = sorted({(each.join.id, each.join.version) for each in question.sources if each.join})
    return hashlib.sha256(exact_json.encode([question.query, versions, joins])).digest()
