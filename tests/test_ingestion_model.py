"""Ingestion against a plain model: random records, early and late, in random portions, come to the same rows."""

import uuid
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.base import exact_json
from app.contracts import Contract
from app.engine.desk import Desk
from app.records.records import Raw
from app.web.auth import Role
from app.worker.semantics import Ingester, Record
from tests.support.own import SEMANTICS, customers, ready, registered
from tests.support.world import World
from tests.test_model import examples

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

Document = dict[str, Any]

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, MICROSECOND = timedelta(seconds=1), timedelta(microseconds=1)
# Moments on both sides of windows of 2 and 5 seconds, a microsecond away, and some that are equal.
MOMENTS = [START + SECOND * seconds + MICROSECOND * more for seconds in (0, 1, 2, 4, 5, 7, 9) for more in (-1, 0, 1)]
FIELDS = [
    {"name": "customerId", "type": "text", "editable": False},
    {"name": "company", "type": "text", "indexed": True},
    {"name": "tier", "type": "enum", "values": ["gold", "silver"], "indexed": True},
    {"name": "revenue", "type": "number"},
    {"name": "seenAt", "type": "datetime", "editable": False},
    {"name": "writtenAt", "type": "datetime", "editable": False},
    {"name": "isRanked", "type": "boolean", "editable": False, "derivedFrom": ["company", "tier"]},
]
VALUES: dict[str, list[Any]] = {
    "company": ["Acme", "Beta", None],
    "tier": ["gold", "silver", None, "bronze"],
    "revenue": [1, 2, None, "much"],
    "writtenAt": [None, *(moment.isoformat() for moment in MOMENTS[:4])],
}


def record_of(parts: tuple[str, int, dict[str, Any]]) -> Document:
    key, moment, rest = parts
    return {"customerId": key, "seenAt": MOMENTS[moment].isoformat()} | rest


RECORDS = st.builds(
    record_of,
    st.tuples(
        st.sampled_from(["K1", "K2", "K~3"]),
        st.integers(0, len(MOMENTS) - 1),
        st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in VALUES.items()}),
    ),
)
CUTS = st.lists(st.integers(1, 7), min_size=1, max_size=20)


# -- the model ---------------------------------------------------------------------------------------------------------


class Model:
    """One record after another, as docs/ingestion.md says."""

    def __init__(self, contract: Contract):
        assert contract.ingestion is not None
        self.semantics = contract.ingestion
        self.rows: dict[str, Document] = {}
        self.times: dict[str, tuple[datetime, datetime]] = {}
        self.events: list[tuple[str, datetime, Document]] = []
        self.counts: Counter[str] = Counter()

    def take(self, record: Document, received_at: datetime) -> None:
        if record.get("tier") == "bronze" or record.get("revenue") == "much":
            self.counts["quarantined"] += 1
            return
        processed = received_at if record.get("writtenAt") is None else moment_of(record["writtenAt"])
        named = record | {"writtenAt": text_of(processed), "seenAt": text_of(moment_of(record["seenAt"]))}
        times = (moment_of(record["seenAt"]), processed)
        self.counts[self.append(named, times) if self.semantics.mode == "append" else self.upsert(named, times)] += 1

    def upsert(self, named: Document, times: tuple[datetime, datetime]) -> str:
        key = named["customerId"]
        if key not in self.rows:
            self.rows[key], self.times[key] = derived(named), times
            return "inserted"
        if times < self.times[key]:
            return "skipped"
        merged = derived(self.rows[key] | named)
        if without_nulls(merged) == without_nulls(self.rows[key]):
            self.times[key] = times
            return "unchanged"
        if self.semantics.conflict_resolution == "error":
            return "quarantined"
        self.rows[key], self.times[key] = merged, times
        return "updated"

    def append(self, named: Document, times: tuple[datetime, datetime]) -> str:
        key, at = named["customerId"], times[0]
        if any(other == key and abs(at - then) < self.semantics.window for other, then, _ in self.events):
            return "skipped"
        self.events.append((key, at, derived(named)))
        return "inserted"

    def documents(self) -> dict[str, Document]:
        if self.semantics.mode == "upsert":
            return {key: without_nulls(row) for key, row in self.rows.items()}
        found: dict[str, Document] = {}
        for key, at, row in self.events:
            prefix = f"{key.replace('~', '%7E')}~{text_of(at)}~"
            found[f"{prefix}{sum(other.startswith(prefix) for other in found)}"] = without_nulls(row)
        return found


def derived(row: Document) -> Document:
    return row | {"isRanked": row.get("company") is not None and row.get("tier") is not None}


def without_nulls(row: Document) -> Document:
    return {name: value for name, value in row.items() if value is not None}


def moment_of(text: str) -> datetime:
    return datetime.fromisoformat(text)


def text_of(moment: datetime) -> str:
    """As a document has it."""
    text = moment.isoformat().removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "Z"


# -- the comparison ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def contracts(world: World) -> dict[str, Contract]:
    """A dataset of each mode."""
    await ready(world)
    bob = await world.user("bob", role=Role.ADMIN)
    found = {}
    for mode in ("upsert", "append"):
        semantics = SEMANTICS | {"mode": mode, "eventTimeColumn": "seenAt", "processingTimeColumn": "writtenAt"}
        contract = customers(name=mode, fields=FIELDS, hot=[], measures=[], ingestion=semantics)
        await registered(bob, contract)
        standing = await world.runtime.datasets.find("acme", f"{mode}@1")
        assert standing is not None
        found[mode] = standing.contract
    return found


class _TakenBack(Exception):
    """Ends an example's transaction."""


async def compare(world: World, contract: Contract, records: Sequence[Document], cuts: Sequence[int]) -> None:
    """Given records in these portions, then rows, counts, history and quarantine are as the model has them."""
    model = Model(contract)
    try:
        async with world.runtime.database.transaction() as connection:
            desk = Desk(connection, contract, "acme")
            await hold(desk, model, records, cuts)
            raise _TakenBack
    except _TakenBack:
        pass


async def hold(desk: Desk, model: Model, records: Sequence[Document], cuts: Sequence[int]) -> None:
    run, begin, counts = uuid.uuid4(), 0, Counter[str]()
    for turn in range(len(records)):
        portion = records[begin : begin + cuts[turn % len(cuts)]]
        taken = []
        for line, record in enumerate(portion, start=begin + 1):
            # Each moment of receipt is another one, but for some that are equal.
            received_at = START + SECOND * (line // 2)
            model.take(record, received_at)
            taken.append(Record(run, received_at, False, Raw(line, exact_json.encode(record), record)))
        # What is new in each portion: an Ingester keeps nothing.
        counts.update(msgspec.to_builtins(await Ingester(desk).take(taken, START)))
        begin += len(portion)
        if begin >= len(records):
            break
    raw, schema = desk.connection.raw, desk.contract.schema
    found = {row["row_key"]: row for row in await raw.fetch(f"SELECT * FROM {schema}.mirror")}
    assert {key: without_nulls(row["data"]) for key, row in found.items()} == model.documents()
    if model.semantics.mode == "upsert":
        assert {key: (row["event_at"], row["processed_at"]) for key, row in found.items()} == model.times
    assert {name: counts[name] for name in model.counts} == model.counts
    assert counts["rows_read"] == len(records) == sum(model.counts.values())
    assert await raw.fetchval("SELECT count(*) FROM quarantine") == model.counts["quarantined"]
    writings = await raw.fetchval(f"SELECT count(*) FROM {schema}.history WHERE source = 'ingest'")
    assert len(found) <= writings <= model.counts["inserted"] + model.counts["updated"]


def timed(contract: Contract, window: str, resolution: str) -> Contract:
    """The same dataset by other semantics."""
    assert contract.ingestion is not None
    changed = msgspec.structs.replace(contract.ingestion, dedupe_window=window, conflict_resolution=resolution)
    return msgspec.structs.replace(contract, ingestion=changed)


@examples(60)
@given(st.lists(RECORDS, min_size=1, max_size=20), CUTS, st.sampled_from(["latest_wins", "error"]))
async def test_upserts_come_to_the_same_rows_however_they_are_cut(
    world: World, contracts: dict[str, Contract], records: list[Document], cuts: list[int], resolution: str
) -> None:
    await compare(world, timed(contracts["upsert"], "0s", resolution), records, cuts)


@examples(60)
@given(st.lists(RECORDS, min_size=1, max_size=20), CUTS, st.sampled_from(["0s", "2s", "5s"]))
async def test_events_come_to_the_same_rows_however_they_are_cut(
    world: World, contracts: dict[str, Contract], records: list[Document], cuts: list[int], window: str
) -> None:
    await compare(world, timed(contracts["append"], window, "latest_wins"), records, cuts)
