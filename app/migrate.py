"""`vanguard migrate`: Alembic for the control tables, then the shared functions and the built-in contracts.

Runs as the owner of the schema, over psycopg, which takes whole scripts. Two runs at once wait for each other.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, create_engine, pool

from app.base.statements import statement
from app.contracts import BUILT_IN, Contract
from app.contracts.ddl import (
    dataset_ddl,
    drop_column_ddl,
    generated_columns,
    indexes_ddl,
    kpi_ddl,
    kpi_shape,
    shared_ddl,
)
from app.contracts.images import qualified

IMAGE_MODIFICATIONS = statement("modifications/image_modifications")
READ_KEYS = statement("migrate/read_keys")
READ_GENERATED = statement("migrate/read_generated")
READ_SHAPE = statement("migrate/read_shape")

ROOT = Path(__file__).parent.parent
LOCK = 8_266_264  # any number that nobody else locks: one migration at a time


def alembic_config() -> Config:
    """Alembic's configuration, wherever the current directory is."""
    return Config(ROOT / "alembic.ini")


@cache
def head() -> str:
    """The newest revision of migrations/."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head() or ""


def sqlalchemy_url(url: str) -> str:
    """The same address for SQLAlchemy over psycopg."""
    for prefix in ("postgresql://", "postgres://"):
        if url.startswith(prefix):
            return f"postgresql+psycopg://{url.removeprefix(prefix)}"
    return url


def migrate(url: str, contracts: Sequence[Contract] = BUILT_IN) -> str:
    """Bring the database to the newest revision and make the contracts' schemas, all or nothing; returns it."""
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        run(connection, f"SELECT pg_advisory_xact_lock({LOCK})")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        run(connection, shared_ddl())
        for contract in contracts:
            before = column_comments(connection, contract)
            # The view holds on to the columns that it reads.
            same_shape = kpi_comment(connection, contract) == kpi_shape(contract)
            if not same_shape:
                run(connection, f"DROP MATERIALIZED VIEW IF EXISTS {contract.schema}.kpi")
            for name in stale_columns(contract, before):
                run(connection, drop_column_ddl(contract, name))
            for script in dataset_ddl(contract):
                run(connection, script)
            run(connection, indexes_ddl(contract))
            if not same_shape:
                run(connection, kpi_ddl(contract))
            if before and column_comments(connection, contract) != before:
                image_everything(connection, contract)
        return MigrationContext.configure(connection).get_current_revision() or ""


def column_comments(connection: Connection, contract: Contract) -> dict[str, str]:
    """The mirror's generated columns with the expression that each was made of; none where there is no such table."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_GENERATED.text, [contract.schema])
        return dict(cursor.fetchall())


def kpi_comment(connection: Connection, contract: Contract) -> str | None:
    """What the view of KPIs was made of; None where there is none."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_SHAPE.text, [contract.schema])
        found = cursor.fetchone()
        return None if found is None else str(found[0])


def stale_columns(contract: Contract, comments: dict[str, str]) -> list[str]:
    """Columns that the contract computes in another way now; they are made anew, with indexes and images."""
    wanted = generated_columns(contract)
    return [name for name, made_of in comments.items() if name in wanted and wanted[name][1] != made_of]


def image_everything(connection: Connection, contract: Contract) -> None:
    """Every modification's image anew: a column that was just added is empty, whatever the row has there."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_KEYS.within(contract.schema).text)
        for organization, keys in cursor.fetchall():
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
