"""`vanguard migrate`: Alembic for the control tables, then the shared functions and the built-in contracts.

Runs as the owner of the schema, over psycopg, which takes whole scripts. Two runs at once wait for each other.
"""

from collections.abc import Sequence
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, pool

from app.contracts import BUILT_IN, Contract
from app.contracts.ddl import dataset_ddl, indexes_ddl, shared_ddl

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
    """Bring the database to the newest revision and make the contracts' schemas; returns the revision. All or nothing."""
    engine = create_engine(sqlalchemy_url(url), poolclass=pool.NullPool)
    with engine.begin() as connection:
        run(connection, f"SELECT pg_advisory_xact_lock({LOCK})")
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        run(connection, shared_ddl())
        for contract in contracts:
            for script in dataset_ddl(contract):
                run(connection, script)
            run(connection, indexes_ddl(contract))
        return MigrationContext.configure(connection).get_current_revision() or ""


def run(connection: Connection, script: str) -> None:
    """Run a script of several statements as it stands: straight to psycopg, where a % is a %."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    driver.execute(script.encode())
