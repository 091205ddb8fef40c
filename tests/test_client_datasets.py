"""The client's data sets: one suite that each of them passes, a live table among them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.backends import FolderDataSet
from vanguard_client import (
    DataSet,
    Insertable,
    InvalidRecord,
    LiveTable,
    MemoryDataSet,
    Readable,
    ReadableValue,
    RecordNotFound,
    SqliteDataSet,
    Writable,
    WritableValue,
)

Record = dict[str, Any]
KINDS = (
    "memory",
    "sqlite",
    "folder",
    "live over memory",
    "live over sqlite in sqlite",
    "live over folder",
    "live over live",
)


@pytest.fixture(params=KINDS)
async def data(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[DataSet[Record]]:
    """An empty data set of each kind."""
    async with AsyncExitStack() as stack:

        async def sqlite(name: str) -> SqliteDataSet[Record]:
            return await stack.enter_async_context(SqliteDataSet(tmp_path / "records.db", name))

        async def live(backend: DataSet[Record], cache: Any = None) -> LiveTable[Record]:
            return await stack.enter_async_context(LiveTable(backend, MemoryDataSet() if cache is None else cache))

        made: dict[str, Callable[[], Any]] = {
            "memory": MemoryDataSet,
            "folder": lambda: FolderDataSet(tmp_path),
        }
        match request.param:
            case "sqlite":
                yield await sqlite("records")
            case "live over memory":
                yield await live(MemoryDataSet())
            case "live over sqlite in sqlite":
                yield await live(await sqlite("backend"), await sqlite("cache"))
            case "live over folder":
                yield await live(FolderDataSet(tmp_path))
            case "live over live":
                yield await live(await live(MemoryDataSet()))
            case kind:
                yield made[kind]()


async def test_it_has_every_protocol(data: DataSet[Record]) -> None:
    for protocol in (Readable, ReadableValue, Writable, WritableValue, Insertable):
        assert isinstance(data, protocol)


async def test_an_empty_one_has_nothing(data: DataSet[Record]) -> None:
    assert await data.list() == {}
    assert await data.get("A") is None
    assert await data.get_some() is None
    assert await data.get_some_value() is None


async def test_what_is_inserted_is_there(data: DataSet[Record]) -> None:
    assert await data.insert("A", {"name": "Anna's", "rate": Decimal("0.25")}) == {
        "name": "Anna's",
        "rate": Decimal("0.25"),
    }
    assert await data.get("A") == {"name": "Anna's", "rate": Decimal("0.25")}
    assert await data.list() == await data.list_values() == {"A": {"name": "Anna's", "rate": Decimal("0.25")}}
    assert await data.get_some() == await data.get_some_value() == ("A", {"name": "Anna's", "rate": Decimal("0.25")})


async def test_inserting_what_is_there_returns_the_original_and_writes_nothing(data: DataSet[Record]) -> None:
    await data.insert("A", {"name": "first"})
    assert await data.insert("A", {"name": "second", "more": 1}) == {"name": "first"}
    assert await data.get("A") == {"name": "first"}


async def test_replacing_writes_all_and_sets_absent_fields_to_null(data: DataSet[Record]) -> None:
    assert await data.replace("A", {"name": "new"}) == {"name": "new"}
    assert await data.replace("A", {"rate": 2}) == {"name": None, "rate": 2}
    assert await data.get("A") == {"name": None, "rate": 2}


async def test_a_patch_merges_top_level_fields_only(data: DataSet[Record]) -> None:
    await data.insert("A", {"name": "n", "address": {"street": "s", "city": "c"}})
    assert await data.patch("A", {"address": {"city": "d"}}) == {"name": "n", "address": {"city": "d"}}
    assert await data.patch("A", {"name": None}) == {"name": None, "address": {"city": "d"}}
    assert await data.get("A") == {"name": None, "address": {"city": "d"}}


async def test_a_patch_of_what_is_not_there_fails(data: DataSet[Record]) -> None:
    with pytest.raises(RecordNotFound, match="'A'"):
        await data.patch("A", {"name": "n"})
    assert await data.list() == {}


async def test_only_what_differs_is_patched(data: DataSet[Record]) -> None:
    await data.insert("A", {"name": "n", "rate": 1, "other": 1})
    await data.patch("A", {"other": 2})
    await data.patch_changed("A", {"name": "n", "rate": 1, "other": 1}, {"name": "m", "other": 1})
    assert await data.get("A") == {"name": "m", "rate": None, "other": 2}
    with pytest.raises(RecordNotFound):
        await data.patch_changed("B", {"name": "n"}, {"name": "m"})


async def test_deleting_twice_is_deleting_once(data: DataSet[Record]) -> None:
    await data.insert("A", {"name": "n"})
    await data.delete("A")
    await data.delete("A")
    assert await data.get("A") is None
    assert await data.list() == {}


async def test_what_is_added_has_an_id(data: DataSet[Record]) -> None:
    one, other = await data.add({"name": "n"}), await data.add({"name": "m"})
    assert one != other
    assert await data.list() == {one: {"name": "n"}, other: {"name": "m"}}


async def test_values_are_the_data_sets_own(data: DataSet[Record]) -> None:
    given = {"tags": ["a"]}
    await data.insert("A", given)
    given["tags"].append("b")
    read = await data.get("A")
    assert read is not None
    read["tags"].append("c")
    assert await data.get("A") == {"tags": ["a"]}


@pytest.mark.parametrize("id", ["a/b", "ä ö", "\u2028", "' OR 1=1", "x" * 100, "."])
async def test_an_id_is_any_text(data: DataSet[Record], id: str) -> None:
    await data.insert(id, {"name": "n"})
    assert await data.patch(id, {"name": "m"}) == {"name": "m"}
    assert list(await data.list()) == [id]
    await data.delete(id)
    assert await data.list() == {}


async def test_every_digit_and_character_comes_back(data: DataSet[Record]) -> None:
    record = {
        "money": Decimal("19000.50"), "many": 10**29 + 1, "tiny": Decimal("0.00000000000000000001"),
        "text": "\u2028\x7f\"\\ ẞ 𝄞", "null": None, "yes": True, "nested": [{"a": [1, Decimal("1.10")]}],
    }  # fmt: skip
    await data.insert("A", record)
    read = await data.get("A")
    assert read == record
    assert str(read["money"]) == "19000.50"


# --- records of a type


class Bakery(msgspec.Struct, rename="camel"):
    """A struct whose fields have other names on the wire."""

    name: str = ""
    profit_margin: float = 0.0
    founded_on: date | None = None


TYPED: list[Callable[[Path], Any]] = [
    lambda path: MemoryDataSet(record=Bakery),
    lambda path: SqliteDataSet(path / "bakery.db", record=Bakery),
]


@pytest.mark.parametrize("make", TYPED, ids=["memory", "sqlite"])
async def test_records_are_structs_and_values_have_their_names_on_the_wire(
    make: Callable[[Path], DataSet[Bakery]], tmp_path: Path
) -> None:
    data = make(tmp_path)
    record = Bakery(name="Anna's", profit_margin=0.25, founded_on=date(1999, 1, 2))
    assert await data.insert("A", record) == record
    assert await data.get_value("A") == {"name": "Anna's", "profitMargin": Decimal("0.25"), "foundedOn": "1999-01-02"}
    assert await data.patch("A", {"profit_margin": 0.5}) == Bakery(
        name="Anna's", profit_margin=0.5, founded_on=date(1999, 1, 2)
    )
    async with LiveTable(data, MemoryDataSet()) as table:
        assert await table.list() == {"A": Bakery(name="Anna's", profit_margin=0.5, founded_on=date(1999, 1, 2))}
        await table.patch_changed("A", Bakery(name="x"), Bakery(name="y"))
    assert (await data.get_value("A") or {})["name"] == "y"


async def test_an_absent_field_is_null_and_null_is_the_default_where_a_field_cannot_be_null() -> None:
    data = MemoryDataSet({"A": {"name": None, "foundedOn": None, "unknown": 1}}, record=Bakery)
    assert await data.get("A") == Bakery()


async def test_a_row_that_fits_no_record_is_told_with_its_id() -> None:
    data = MemoryDataSet({"A": {"name": 7}}, record=Bakery)
    with pytest.raises(InvalidRecord, match=r"'A' is no Bakery"):
        await data.get("A")


async def test_what_json_cannot_say_is_refused() -> None:
    data = MemoryDataSet()
    for value in (object(), "\ud800", {1j: 1}):
        with pytest.raises(InvalidRecord):
            await data.insert("A", {"x": value})
    assert await data.list() == {}


# --- SQLite


async def test_a_file_holds_several_data_sets_and_keeps_them(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    async with SqliteDataSet(file, "one") as one, SqliteDataSet(file, "other") as other:
        await one.insert("A", {"name": "n"})
        assert await other.list() == {}
    async with SqliteDataSet(file, "one") as one:
        assert await one.list() == {"A": {"name": "n"}}


async def test_many_writes_are_all_or_nothing(tmp_path: Path) -> None:
    async with SqliteDataSet(tmp_path / "records.db") as data:
        await data.apply({"A": {"v": 1}, "B": {"v": 1}}, [])
        with pytest.raises(InvalidRecord):
            await data.apply({"A": {"v": 2}, "B": {"v": object()}}, ["A"])
        assert await data.list() == {"A": {"v": 1}, "B": {"v": 1}}
