"""The ids of rows: made of their keys, read back into them, and one for each key."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts import Contract
from app.contracts.keys import NoRowId, check_key, key_values, row_id
from app.contracts.model import Field, FieldType, IngestionSemantics
from app.contracts.values import write_datetime
from app.migrate import migrate
from tests.conftest import new_database
from tests.support.world import World, committed, ids, mirrored, open_world, refused
from tests.test_model import examples

TYPES: dict[str, FieldType] = {
    "place": "text", "kind": "enum", "year": "integer", "weight": "number", "day": "date", "at": "datetime",
}  # fmt: skip
APPENDED = IngestionSemantics(
    mode="append",
    idempotency_key=("place",),
    event_time_column="receivedAt",
    processing_time_column="receivedAt",
    dedupe_window="0s",
    conflict_resolution="error",
)


def contract(*key: str, appended: bool = False) -> Contract:
    """Harvests, by some of their fields."""
    return Contract(
        name="harvest",
        version="1.0",
        title="Harvests",
        schema="harvest",
        key=key if len(key) > 1 else key[0],
        fields=(
            *(
                Field(name=name, type=kind, editable=False, values=("a", "~", "") if kind == "enum" else ())
                for name, kind in TYPES.items()
            ),
            Field(name="note", type="text", indexed=True),
        ),
        ingestion=APPENDED if appended else None,
    )


@pytest.mark.parametrize(
    ("names", "document", "expected"),
    [
        ("place", {"place": "North/1 ~ 100%"}, "North/1 ~ 100%"),
        ("place year", {"place": "North", "year": 2026}, "North~2026"),
        ("place year", {"place": "North", "year": Decimal("2026.0")}, "North~2026"),
        ("place year", {"place": "", "year": -1}, "~-1"),
        ("place kind", {"place": "", "kind": ""}, "~"),
        ("place kind", {"place": ".", "kind": "~"}, ".~%7E"),
        ("place kind", {"place": "a/b%c~d", "kind": "a"}, "a%2Fb%25c%7Ed~a"),
        ("place kind", {"place": "a\nb\u200b", "kind": "a"}, "a%0Ab%E2%80%8B~a"),
        ("place kind", {"place": "Ä ö", "kind": "a"}, "Ä ö~a"),
        ("weight", {"weight": Decimal("1.50")}, "1.5"),
        ("weight", {"weight": Decimal("1E+2")}, "100"),
        ("weight", {"weight": Decimal("-0.0")}, "0"),
        ("weight", {"weight": 5}, "5"),
        ("year", {"year": 7}, "7"),
        ("day at", {"day": "2026-01-31", "at": "2026-01-31T08:30:00.500Z"}, "2026-01-31~2026-01-31T08:30:00.5Z"),
    ],
)
def test_an_id_is_made_of_the_key(names: str, document: dict[str, Any], expected: str) -> None:
    of = contract(*names.split())
    assert row_id(of, document) == expected
    values = key_values(of, expected)
    assert values is not None
    assert values.keys() == document.keys()
    assert row_id(of, values) == expected


def test_what_is_appended_has_its_event_time_and_a_counter_behind_the_key() -> None:
    of, at = contract("place", appended=True), datetime(2026, 1, 31, 8, 30, 0, 500_000, UTC)
    assert row_id(of, {"place": "a~b"}, at, 7) == "a%7Eb~2026-01-31T08:30:00.5Z~7"
    assert key_values(of, "a%7Eb~2026-01-31T08:30:00.5Z~7") == {"place": "a~b"}
    for none in ("a", "a~7", "a~2026-01-31T08:30:00.50Z~7", "a~2026-01-31T08:30:00.5Z~07", "a~2026-01-31~7", "a~b~c~d"):
        assert key_values(of, none) is None, none


@pytest.mark.parametrize(
    ("names", "document", "message"),
    [
        ("place year", {"place": "a"}, "year belongs to the key, and it is missing."),
        ("place year", {"place": "a", "year": None}, "year belongs to the key, and it is missing."),
        ("place year", {"place": "a", "year": "2026"}, "year belongs to the key, and it is no integer."),
        ("place year", {"place": "a", "year": True}, "year belongs to the key, and it is no integer."),
        ("place year", {"place": "a", "year": Decimal("1.5")}, "year belongs to the key, and it is no integer."),
        ("weight day", {"weight": Decimal("1e30")}, "weight belongs to the key, and it is no number."),
        ("place", {"place": ""}, "An id cannot be empty."),
        ("place", {"place": "a\nb"}, "An id has printable characters only."),
        ("place year", {"place": "x" * 196, "year": 2026}, "An id has at most 200 bytes."),
        ("place year", {"place": "/" * 66, "year": 2026}, "An id has at most 200 bytes."),
        ("place year", {"place": "\ud800", "year": 2026}, "Half of a surrogate pair is no character."),
    ],
)  # fmt: skip
def test_a_document_without_an_id_says_why(names: str, document: dict[str, Any], message: str) -> None:
    with pytest.raises(NoRowId) as caught:
        row_id(contract(*names.split()), document)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "key",
    ["", "a", "a~", "a~2026~1", "a~02026", "a~-0", "a~+1", "a~2026.0", "a~1e3", "a~9007199254740992", "%~1", "a%2~1",
     "%41~1", "%2f~1", "%C3~1", "a/b~1", "a\n~1", "a~\uff11", "%ED%A0%80~1", "\ud800~1"],
)  # fmt: skip
def test_what_is_no_id_of_the_contract_is_none(key: str) -> None:
    assert key_values(contract("place", "year"), key) is None


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=12) | st.text("~%./a7E\n\0\u200b ", max_size=12),
    "enum": st.sampled_from(["a", "~", ""]),
    "integer": st.integers(-(2**53) + 1, 2**53 - 1),
    "number": st.decimals(-(10**12), 10**12, places=6) | st.integers(-5, 5).map(Decimal),
    "date": st.dates().map(lambda day: day.isoformat()),
    "datetime": st.datetimes().map(lambda moment: write_datetime(moment.replace(tzinfo=UTC))),
}  # fmt: skip
NAMES = st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=3, unique=True)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Contract, list[tuple[dict[str, Any], datetime | None, int | None]]]:
    """A contract, and two rows of it, often nearly the same."""
    names = draw(NAMES)
    appended = draw(st.booleans())
    rows = []
    for _ in range(2):
        at = draw(st.datetimes()).replace(tzinfo=UTC) if appended else None
        count = draw(st.integers(0, 3)) if appended else None
        rows.append(({name: draw(VALUES[TYPES[name]]) for name in names}, at, count))
    if draw(st.booleans()):
        rows[1] = ({**rows[0][0], names[0]: rows[1][0][names[0]]}, *rows[0][1:])
    return contract(*names, appended=appended), rows


@examples(500)
@given(cases())
def test_an_id_is_read_back_and_is_of_one_key_alone(
    case: tuple[Contract, list[tuple[dict[str, Any], datetime | None, int | None]]],
) -> None:
    of, rows = case
    made = []
    for document, at, count in rows:
        try:
            key = row_id(of, document, at, count)
        except NoRowId:
            continue
        assert check_key(key) is None
        assert of.id_field or not ({*"/"} & {*key} or key in (".", ".."))
        assert key_values(of, key) == document
        made.append((key, (document, at, count)))
    if len(made) == 2:
        assert (made[0][0] == made[1][0]) == (made[0][1] == made[1][1])


# -- rows --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def harvest() -> Contract:
    """By place and year, with a rule about the year."""
    made = contract("place", "year")
    rules = [{"type": "expression", "id": "year", "expression": "year > 1900", "message": "Too early."}]
    return msgspec.convert(msgspec.to_builtins(made) | {"rules": rules}, Contract)


@pytest.fixture(scope="module")
def harvest_template(server_url: str, harvest: Contract) -> Iterator[str]:
    with new_database(server_url) as url:
        migrate(url, (harvest,))
        yield url


@pytest.fixture
def harvest_url(server_url: str, harvest_template: str) -> Iterator[str]:
    with new_database(server_url, harvest_template) as url:
        yield url


@pytest.fixture
async def world(harvest_url: str, harvest: Contract) -> AsyncIterator[World]:
    async with open_world(harvest_url, (harvest,)) as world:
        await world.organization("acme", (harvest,))
        yield world


async def test_a_new_row_has_the_key_that_its_id_is_made_of(world: World, harvest: Contract) -> None:
    """Given a key of two fields, when a row is drafted, committed and exported, then they are in its document."""
    ann = (await world.user("ann")).on("harvest")
    assert (await ann.get("/api/v1/orgs/acme/datasets/harvest")).json()["key"] == ["place", "year"]
    key = "North%2F1~2026"
    await ann.draft(key, {"note": "good", "year": Decimal("2026.0")}, op="insert", unset=["place"])
    row = (await ann.rows())[0]
    assert (row["id"], row["data"]) == (key, {"place": "North/1", "year": Decimal("2026.0"), "note": "good"})
    await ann.draft("South~2025", {"note": "bad"}, op="insert")
    assert ids(await ann.rows(place="South", year="2025")) == ["South~2025"]
    await committed(ann)
    assert await mirrored(world, "South~2025", harvest) == {"place": "South", "year": 2025, "note": "bad"}
    await ann.draft(key, {"note": "better"})
    text = (await ann.get("export", {"format": "csv", "fields": "note", "sort": "id"})).text
    assert text == "place,year,note\r\nNorth/1,2026.0,better\r\nSouth,2025,bad\r\n"
    refused(
        await ann.post("drafts", {"modifications": [{"id": key, "delta": {"year": 2027}}]}), 422, "VALIDATION_FAILED"
    )


@pytest.mark.parametrize(
    ("key", "delta", "code", "message"),
    [
        ("North", {}, "INVALID_ID", "The id of a new row is made of its key: place~year."),
        ("North~MMXX", {}, "INVALID_ID", "The id of a new row is made of its key: place~year."),
        ("North~02026", {}, "INVALID_ID", "The id of a new row is made of its key: place~year."),
        ("North~2026~1", {}, "INVALID_ID", "The id of a new row is made of its key: place~year."),
        ("No%00~2026", {}, "INVALID_ID", "place may not hold the character NUL."),
        ("North~2026", {"year": 2027}, "READ_ONLY_FIELD", "year cannot be edited."),
        ("North~1", {"year": True}, "READ_ONLY_FIELD", "year cannot be edited."),
        ("North~2026", {"place": None}, "READ_ONLY_FIELD", "place cannot be edited."),
    ],
)
async def test_an_id_that_is_not_made_of_the_key_is_refused(
    world: World, key: str, delta: dict[str, Any], code: str, message: str
) -> None:
    ann = (await world.user("ann")).on("harvest")
    body = {"modifications": [{"id": key, "op": "insert", "delta": delta}]}
    problem = refused(await ann.post("drafts", body), 422, "VALIDATION_FAILED")
    assert [(error["code"], error["message"]) for error in problem["errors"]] == [(code, message)]


async def test_a_rule_knows_the_key_of_a_new_row(world: World) -> None:
    ann = (await world.user("ann")).on("harvest")
    await ann.draft("North~1900", {"note": "x"}, op="insert")
    problem = refused(await ann.commit(), 422, "VALIDATION_FAILED")
    assert [error["message"] for error in problem["errors"]] == ["Too early."]
