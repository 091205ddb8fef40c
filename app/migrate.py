"""`vanguard migrate`: Alembic for the control tables, then the shared functions and the built-in contracts.

Runs as the owner of the schema, over psycopg, which takes whole scripts. Two runs at once wait for each other.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, Engine, create_engine, pool

from app.base.migrations import ROOT
from app.base.statements import statement
from app.contracts import BUILT_IN, Contract, stored_contract
from app.contracts.ddl import Generated, Storage, shared_ddl, stale_columns, storage_digest, storage_steps
from app.contracts.images import qualified

IMAGE_MODIFICATIONS = statement("modifications/image_modifications")
READ_KEYS = statement("migrate/read_keys")
READ_GENERATED = statement("migrate/read_generated")
READ_SHAPE = statement("migrate/read_shape")
READ_FOLDING = statement("migrate/read_folding")
ESTIMATE_ROWS = statement("migrate/estimate_rows")
BEGIN_INCARNATION = statement("migrate/begin_incarnation")
RAISE_COUNTERS = statement("migrate/raise_counters")
RAISE_CHANGES = statement("migrate/raise_changes")
RAISE_REVISIONS = statement("migrate/raise_revisions")
FIND_OUTDATED = statement("migrate/find_outdated")
LIST_SCHEMAS = statement("migrate/list_schemas")
NOTE_STORAGE = statement("migrate/note_storage")
SAVE_RETENTION = statement("migrate/save_retention")
RETIRED = statement("schema/retired")

Tell = Callable[[str], None]
NOTHING: Mapping[str, int] = MappingProxyType({})

PORTION = 5_000  # rows whose drafts are imaged at a time
LOCK = 8_266_264  # any number that nobody else locks: one migration at a time


def alembic_config() -> Config:
    """Alembic's configuration, wherever the current directory is."""
    return Config(ROOT / "alembic.ini")


def sqlalchemy_url(url: str) -> str:
    """The same address for SQLAlchemy over psycopg."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return f"postgresql+psycopg://{url.removeprefix(prefix)}"
    return url


def migrate(
    url: str,
    contracts: Sequence[Contract] = BUILT_IN,
    tell: Tell = lambda _: None,
    *,
    restored: bool = False,
    retention: Mapping[str, int] = NOTHING,
) -> str:
    """Bring the database to the newest revision and make the contracts' schemas, all or nothing; returns it.

    `tell` hears a line before each step that takes its time with the rows that are there, and what else an operator
    should know. `restored`: the database was put back to an earlier state, whether or not that can be seen in it.
    `retention`: days within which nothing of a kind can be forgotten from now on; a kind that is not named stays.
    """
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        run(connection, f"SELECT pg_advisory_xact_lock({LOCK})")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        run(connection, shared_ddl())
        remade = [contract for contract in contracts if migrate_dataset(connection, contract, tell)]
        run(connection, RETIRED.text)
        begin_incarnation(connection, contracts, restored, tell)
        with psycopg.RawCursor(driver(connection)) as cursor:
            cursor.execute(SAVE_RETENTION.text, [list(retention), list(retention.values())])
        revision = MigrationContext.configure(connection).get_current_revision() or ""
    remade += migrate_own(engine, tell)
    if remade:
        vacuum(engine, remade, tell)
    return revision


def migrate_own(engine: Engine, tell: Tell) -> list[Contract]:
    """Bring the schemas of organizations' own datasets up to date that another release made, each in a transaction of
    its own: all at once would take more locks than a server has. Returns those whose columns were made anew.
    """
    with engine.begin() as connection, psycopg.RawCursor(driver(connection)) as cursor:
        digest = storage_digest(how_text_is_folded(connection))
        cursor.execute(FIND_OUTDATED.text, [digest])
        found = [stored_contract(document, schema=schema, name=name) for name, schema, document in cursor.fetchall()]
    remade = []
    for number, contract in enumerate(found, start=1):
        tell(f"{contract.name}: dataset {number} of {len(found)} of organizations' own")
        with engine.begin() as connection:
            run(connection, f"SELECT pg_advisory_xact_lock({LOCK})")
            if migrate_dataset(connection, contract, tell):
                remade.append(contract)
            with psycopg.RawCursor(driver(connection)) as cursor:
                cursor.execute(NOTE_STORAGE.text, [contract.schema, digest])
    return remade


def begin_incarnation(connection: Connection, contracts: Sequence[Contract], restored: bool, tell: Tell) -> None:
    """After a restore all counters go on beyond whatever they had reached before it: docs/operations.md."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(BEGIN_INCARNATION.text, [restored])
        begun = cursor.fetchone()
        if begun is None:
            return
        tell("the database was restored or copied: its counters go on from a new number")
        cursor.execute(RAISE_COUNTERS.text, begun)
        cursor.execute(LIST_SCHEMAS.text)
        for schema in [*(contract.schema for contract in contracts), *(row[0] for row in cursor.fetchall())]:
            cursor.execute(RAISE_CHANGES.within(schema).text, begun)


def vacuum(engine: Engine, contracts: Sequence[Contract], tell: Tell) -> None:
    """What pages are planned and read by, where columns were made anew: statistics, and the map of visible rows."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for contract in contracts:
            tell(f"{contract.name}: statistics")
            run(connection, f"VACUUM (ANALYZE) {contract.schema}.mirror, {contract.schema}.modification")


def migrate_dataset(connection: Connection, contract: Contract, tell: Tell) -> bool:
    """Make or complete the dataset's schema; whether columns of rows that were there are made anew."""
    before = generated(connection, contract)
    there = Storage(before, kpi_comment(connection, contract), how_text_is_folded(connection))
    for step in storage_steps(contract, there):
        if step.told:
            tell(f"{contract.name}: {step.told} of about {row_count(connection, contract):,} rows")
        run(connection, step.script)
    if before and generated(connection, contract) != before:
        image_everything(connection, contract, tell)
        # What filters and sorts find is another now: nobody may go on with an answer of before.
        with psycopg.RawCursor(driver(connection)) as cursor:
            cursor.execute(RAISE_REVISIONS.text, [contract.name, contract.schema if contract.own else None])
    return bool(stale_columns(contract, there))


def generated(connection: Connection, contract: Contract) -> dict[str, Generated]:
    """The mirror's generated columns; none where there is no such table."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_GENERATED.text, [contract.schema])
        return {name: Generated(type_name, made_of) for name, type_name, made_of in cursor.fetchall()}


def row_count(connection: Connection, contract: Contract) -> int:
    """About how many rows the mirror has."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(ESTIMATE_ROWS.within(contract.schema).text)
        found = cursor.fetchone()
        return 0 if found is None else int(found[0])


def kpi_comment(connection: Connection, contract: Contract) -> str | None:
    """What the view of KPIs was made of; None where there is none."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_SHAPE.text, [contract.schema])
        found = cursor.fetchone()
        return None if found is None else str(found[0])


def how_text_is_folded(connection: Connection) -> str:
    """By what the server folds text: another one, or another release, may do it otherwise."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_FOLDING.text)
        found = cursor.fetchone()
        return "" if found is None else str(found[0])


def image_everything(connection: Connection, contract: Contract, tell: Tell) -> None:
    """Every modification's image anew: a column that was just added is empty, whatever the row has there."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_KEYS.within(contract.schema).text)
        portions = [
            (organization, keys[start : start + PORTION])
            for organization, keys in cursor.fetchall()
            for start in range(0, len(keys), PORTION)
        ]
        for number, (organization, keys) in enumerate(portions, start=1):
            tell(f"{contract.name}: drafts, portion {number} of {len(portions)}")
            groups = Jsonb(contract.cell_map)
            cursor.execute(qualified(IMAGE_MODIFICATIONS, contract).text, [organization, None, keys, groups, None])


def run(connection: Connection, script: str) -> None:
    """Run a script of several statements as it stands: straight to psycopg, where a % is a %."""
    driver(connection).execute(script.encode())


def driver(connection: Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    """The psycopg connection beneath."""
    beneath = connection.connection.driver_connection
    assert isinstance(beneath, psycopg.Connection)
    return beneath
