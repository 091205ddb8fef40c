"""TPC-H as DuckDB makes it: its tables as datasets of an organization, its keys, the published answers.

Names are DuckDB's, as fields can have them: l_orderkey is lOrderkey.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from importlib.resources import files
from typing import Any

import duckdb

from app.base import exact_json
from app.contracts import Contract
from app.contracts.keys import row_id
from tests.support.own import moved, registered
from tests.support.world import User, World

Document = dict[str, Any]
Row = tuple[Any, ...]

SCALE = 0.01
KEYS = {
    "region": ("r_regionkey",),
    "nation": ("n_nationkey",),
    "supplier": ("s_suppkey",),
    "part": ("p_partkey",),
    "partsupp": ("ps_partkey", "ps_suppkey"),
    "customer": ("c_custkey",),
    "orders": ("o_orderkey",),
    "lineitem": ("l_orderkey", "l_linenumber"),
}
# The specification's foreign keys: child with its fields, and the parent, whose key they hold.
FOREIGN_KEYS = (
    ("nation", ("n_regionkey",), "region"),
    ("supplier", ("s_nationkey",), "nation"),
    ("partsupp", ("ps_partkey",), "part"),
    ("partsupp", ("ps_suppkey",), "supplier"),
    ("customer", ("c_nationkey",), "nation"),
    ("orders", ("o_custkey",), "customer"),
    ("lineitem", ("l_orderkey",), "orders"),
    ("lineitem", ("l_partkey",), "part"),
    ("lineitem", ("l_suppkey",), "supplier"),
    ("lineitem", ("l_partkey", "l_suppkey"), "partsupp"),
)
DATES = ("o_orderdate", "l_shipdate", "l_commitdate", "l_receiptdate")
TYPES = {"INTEGER": "integer", "BIGINT": "integer", "DATE": "date", "VARCHAR": "text"}
PORTION = 10_000  # rows that are written at a time


def wire(name: str) -> str:
    """A column's name as a field has it."""
    table, _, word = name.partition("_")
    return table + word.capitalize()


def chosen(name: str, values: Mapping[str, str], other: str) -> str:
    """An expression that says one literal for each literal of a field, so that it is known how long a number gets."""
    return "".join(f"{name} == {value} ? {result} : " for value, result in values.items()) + other


def year(name: str) -> str:
    """An expression for the year of a day: the language has no calendar."""
    return "".join(f'{name} < date("{each + 1}-01-01") ? {each} : ' for each in range(1992, 1998)) + "1998"


REDUCED = chosen("lDiscount", {f"0.{each:02}": str(Decimal(100 - each) / 100) for each in range(1, 11)}, "1")
TAXED = chosen("lTax", {f"0.{each:02}": str(Decimal(100 + each) / 100) for each in range(1, 9)}, "1")
COMPUTED: dict[str, list[Document]] = {
    "orders": [
        {"name": "oOrderyear", "type": "integer", "expression": year("oOrderdate")},
        {"name": "oUrgent", "type": "boolean", "expression": 'oOrderpriority in ["1-URGENT", "2-HIGH"]'},
    ],
    # What begins with PROMO stands between these two.
    "part": [{"name": "pPromo", "type": "boolean", "expression": 'pType >= "PROMO" && pType < "PROMP"'}],
    "lineitem": [
        {"name": "lShipyear", "type": "integer", "expression": year("lShipdate")},
        {"name": "lSold", "type": "number", "expression": f"lExtendedprice * ({REDUCED})"},
        {"name": "lCharged", "type": "number", "expression": f"lExtendedprice * ({REDUCED}) * ({TAXED})"},
        {"name": "lSaved", "type": "number", "expression": "lExtendedprice * lDiscount"},
        {"name": "lReceivedLate", "type": "boolean", "expression": "lCommitdate < lReceiptdate"},
        {"name": "lShippedEarly", "type": "boolean", "expression": "lShipdate < lCommitdate"},
    ],
}


# -- tables ------------------------------------------------------------------------------------------------------------


def generated() -> duckdb.DuckDBPyConnection:
    """A database of DuckDB's own with the eight tables; the extension is that of the package, none is downloaded."""
    connection = duckdb.connect()
    extension = files("duckdb_extension_tpch") / "extensions" / f"v{duckdb.__version__}" / "tpch.duckdb_extension"
    connection.execute(f"LOAD '{extension}'")
    connection.execute("CALL dbgen(sf = ?)", [SCALE])
    return connection


def contract_of(connection: duckdb.DuckDBPyConnection, table: str) -> Document:
    """A table's contract, of which keys, foreign keys and days are indexed."""
    keys = KEYS[table]
    looked_up = {*keys, *DATES, *(name for child, names, _ in FOREIGN_KEYS if child == table for name in names)}
    fields = [
        {
            "name": wire(name),
            "type": TYPES.get(kind, "number"),
            "editable": name not in keys,
            "indexed": name in looked_up,
        }
        for name, kind, *_ in connection.execute(f"DESCRIBE {table}").fetchall()
    ]
    key = [wire(name) for name in keys]
    return {
        "name": table,
        "version": "1.0",
        "title": table.capitalize(),
        "source": "/",
        "key": key,
        "fields": fields,
        "computed": COMPUTED.get(table, []),
        "ingestion": {
            "mode": "upsert",
            "idempotencyKey": key,
            "eventTimeColumn": "receivedAt",
            "processingTimeColumn": "receivedAt",
            "dedupeWindow": "0s",
            "conflictResolution": "latest_wins",
        },
    }


def documents(connection: duckdb.DuckDBPyConnection, table: str) -> Iterable[list[Document]]:
    """The rows of a table as documents, in portions."""
    found = connection.execute(f"SELECT * FROM {table}")
    names = [wire(name) for name, *_ in found.description or ()]
    while rows := found.fetchmany(PORTION):
        yield [dict(zip(names, map(written, row), strict=True)) for row in rows]


def written(value: Any) -> Any:
    """A value as a document has it."""
    return value.isoformat() if isinstance(value, date) else value


async def fill(world: World, connection: duckdb.DuckDBPyConnection, engineer: User, admin: User) -> None:
    """The eight tables as datasets in use, with their rows, which PostgreSQL has looked at."""
    for table in KEYS:
        await registered(engineer, contract_of(connection, table))
        await moved(admin.on(table), "promote")
        standing = await world.runtime.datasets.find("acme", table)
        assert standing is not None
        for portion in documents(connection, table):
            await put(world, standing.contract, portion)
        await world.db.execute(f"ANALYZE {standing.contract.schema}.mirror")


async def put(world: World, contract: Contract, rows: Sequence[Document]) -> None:
    """Rows into the mirror, as ingestion leaves them."""
    await world.db.execute(
        f"INSERT INTO {contract.schema}.mirror (organization_id, row_key, data, revision)"
        " SELECT 'acme', line.key, line.data::jsonb, 1 FROM unnest($1::text[], $2::text[]) AS line (key, data)",
        [row_id(contract, row) for row in rows],
        [exact_json.encode(row).decode() for row in rows],
    )


def answers(connection: duckdb.DuckDBPyConnection) -> dict[int, list[Row]]:
    """The published answers by their numbers."""
    found = connection.execute("SELECT query_nr, answer FROM tpch_answers() WHERE scale_factor = ?", [SCALE]).fetchall()
    return {number: [tuple(map(plain, line.split("|"))) for line in text.splitlines()[1:]] for number, text in found}


def plain(value: Any) -> Any:
    """A value to compare: numbers to six places, as averages have them."""
    try:
        return round(Decimal(str(value)), 6)
    except ArithmeticError:
        return value
