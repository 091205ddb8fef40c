"""`vanguard migrate`: Alembic for the control tables, then the shared functions and the built-in contracts.

Runs as the owner of the schema, over psycopg, which takes whole scripts. Two runs at once wait for each other.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.types.json import Jsonb
from sqlalchemy import Connection, create_engine, pool

from app.contracts import BUILT_IN, Contract
from app.contracts.ddl import dataset_ddl, indexes_ddl, shared_ddl
from app.contracts.images import imaged
from app.queries import statement

IMAGE_MODIFICATIONS = statement("drafts/image_modifications")
READ_KEYS = statement("drafts/read_keys")

ROOT = Path(__file__).parent.parent
LOCK = 8_266_264  # any number that nobody else locks: one migration at a time


def alembic_config() -> Config:
    """Alembic's configuration, wherever the current directory is."""
    return Config(ROOT / "alembic.ini")


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
            columns = image_columns(connection, contract)
            for script in dataset_ddl(contract):
                run(connection, script)
            run(connection, indexes_ddl(contract))
            if columns and image_columns(connection, contract) != columns:
                image_everything(connection, contract)
        return MigrationContext.configure(connection).get_current_revision() or ""


def image_columns(connection: Connection, contract: Contract) -> set[str]:
    """The columns of the dataset's modifications; none where there is no such table yet."""
    with driver(connection).cursor() as cursor:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = %s AND table_name = 'modification'",
            [contract.schema],
        )
        return {name for (name,) in cursor.fetchall()}


def image_everything(connection: Connection, contract: Contract) -> None:
    """Every modification's image anew: a column that was just added is empty, whatever the row has there."""
    with psycopg.RawCursor(driver(connection)) as cursor:
        cursor.execute(READ_KEYS.within(contract.schema).text)
        for organization, keys in cursor.fetchall():
            groups = Jsonb(contract.cell_map)
            cursor.execute(imaged(IMAGE_MODIFICATIONS, contract).text, [organization, None, keys, groups, None])


def run(connection: Connection, script: str) -> None:
    """Run a script of several statements as it stands: straight to psycopg, where a % is a %."""
    driver(connection).execute(script.encode())


def driver(connection: Connection) -> "psycopg.Connection[tuple[Any, ...]]":
    """The psycopg connection beneath."""
    beneath = connection.connection.driver_connection
    assert isinstance(beneath, psycopg.Connection)
    return beneath
