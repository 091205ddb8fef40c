"""Databases that tests take one after another.

A copy of the template takes a tenth of a second, and what new connections read and plan as long again. So a test leaves
its database to the next one, emptied, with the application's connections, if it is as it was but for rows. That is
asked of the catalogs: where a relation, a function, a grant or a statistic is another one, where somebody else is still
connected, or where there are many rows, the database is dropped, and the next test has a new one.

Deleted rows leave their pages behind, by which the planner expects rows: files of what it expects have new databases.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, NamedTuple

import asyncpg
import psycopg

from app.base.database import Database
from app.base.prepared import Raw

# Plans, and answers with an estimate: exports, questions and their guards, joins, counts that may be estimated.
ESTIMATES = re.compile(
    r"\w+_plans|test_(exports?|quer|joins|guards|rows|search|status|ingestion|public_data|drift|english)\w*"
)

MOST_BYTES = 8 * 2**20  # of rows, and of what is left of rows: nothing is vacuumed
MOST_KEPT = 4  # connections of one kind
LEAVING = 0.1  # seconds that a connection which was closed has to be gone

OURS = "n.nspname <> 'information_schema' AND NOT starts_with(n.nspname, 'pg_')"
RELATIONS = f"""
SELECT c.oid::regclass::text
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind = %s AND {OURS}
"""
WRITTEN = f"""
SELECT c.oid::regclass::text, pg_table_size(c.oid)
  FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND {OURS} AND pg_relation_size(c.oid) > 0
"""
CATALOGS = (
    "attrdef attribute class constraint db_role_setting default_acl depend event_trigger extension index policy proc"
    " publication rewrite sequence statistic statistic_ext trigger type"
).split()
# How many rows each catalog has, and the last transaction that wrote one. VACUUM and ANALYZE write sizes in place; the
# schema of temporary tables stays when they are gone.
CATALOG = f"""
SELECT {", ".join(f"(SELECT (count(*), max(xmin::text::bigint))::text FROM pg_{name})" for name in CATALOGS)},
       (SELECT (count(*), max(n.xmin::text::bigint))::text FROM pg_namespace AS n WHERE n.nspname !~ '^pg_.*temp_'),
       (SELECT (sum(c.relpages), sum(c.reltuples))::text FROM pg_class AS c WHERE c.relkind IN ('r', 'm'))
"""
OTHERS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> ALL (%s)
"""


class Beginning(NamedTuple):
    """What a new database holds: its catalogs, the rows of its template, and where its sequences stand."""

    catalog: tuple[Any, ...]
    rows: dict[str, bytes]
    sequences: str


class Warm:
    """A database, and connections to it that wait for the next test."""

    def __init__(self, create: Callable[[], AbstractContextManager[str]]):
        self._create = create
        self._resources = ExitStack()
        self._owner: psycopg.Connection[Any] | None = None
        self._kept: dict[str, list[Raw]] = {}
        self.url = ""

    @contextmanager
    def lent(self) -> Iterator[str]:
        """Its address, for one test."""
        owner = self._owner or self._new()
        yield self.url
        try:
            fit = self._is_emptied(owner)
        except psycopg.Error:  # a lock that somebody left behind, a relation that is gone
            fit = False
        if not fit:
            self.drop()

    def lend(self, name: str, database: Database) -> None:
        """The pool of this name takes connections that were kept before it makes new ones, and leaves its own here."""
        kept = self._kept.setdefault(name, [])
        connect, close = database._connect, database.close

        async def take() -> Raw:
            while kept:
                if not (raw := kept.pop()).is_closed():
                    return raw
            return await connect()

        async def keep() -> None:
            pool = database._pool
            assert pool is not None
            pool._idle, idle = [], pool._idle
            for raw, _ in idle:
                if len(kept) < MOST_KEPT and not raw.schemas and not raw.unsure and await _is_fresh(raw):
                    kept.append(raw)
                else:
                    raw.terminate()
            await close()

        vars(database).update(_connect=take, close=keep)

    def drop(self) -> None:
        """The database, and whoever is connected."""
        for raw in self._raws():
            raw.terminate()
        self._kept, self._owner = {}, None
        self._resources.close()

    def _raws(self) -> list[Raw]:
        return [raw for kept in self._kept.values() for raw in kept]

    def _new(self) -> psycopg.Connection[Any]:
        self.url = self._resources.enter_context(self._create())
        owner = self._resources.enter_context(psycopg.connect(self.url, autocommit=True))
        owner.execute("SET lock_timeout = '2s'")
        owner.execute("SET session_replication_role = replica")  # neither triggers nor foreign keys
        tables = [
            name for (name,) in owner.execute(RELATIONS, ["r"]) if owner.execute(f"TABLE {name} LIMIT 1").fetchone()
        ]
        stand = [
            f"setval('{name}', {last}, {called})"
            for (name,) in owner.execute(RELATIONS, ["S"]).fetchall()
            for last, called in owner.execute(f"SELECT last_value, is_called FROM {name}")
        ]
        self._beginning = Beginning(
            _catalog(owner), {name: _copied(owner, name) for name in tables}, f"SELECT {', '.join(stand)}"
        )
        self._owner = owner
        return owner

    def _is_emptied(self, owner: psycopg.Connection[Any]) -> bool:
        ours = [owner.info.backend_pid, *(raw.get_server_pid() for raw in self._raws())]
        until = time.monotonic() + LEAVING
        while owner.execute(OTHERS, [ours]).fetchone() != (0,):
            if time.monotonic() > until:
                return False
            time.sleep(LEAVING / 20)
        if _catalog(owner) != self._beginning.catalog:
            return False
        written = dict(owner.execute(WRITTEN).fetchall())
        if sum(written.values()) > MOST_BYTES:
            return False
        emptied = [f"DELETE FROM {name}" for name in written if name not in self._beginning.rows]
        owner.execute("; ".join([*emptied, self._beginning.sequences]))
        for name, rows in self._beginning.rows.items():
            if _copied(owner, name) != rows:
                owner.execute(f"DELETE FROM {name}")
                with owner.cursor().copy(f"COPY {name} FROM STDIN") as copy:
                    copy.write(rows)
        return True


async def _is_fresh(raw: Raw) -> bool:
    """Whether nothing of a session is left in it; one that was cut off, which it may not know yet, is not fresh."""
    try:
        await raw.reset()
        await raw.execute("DISCARD TEMP")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return False
    return True


def _catalog(owner: psycopg.Connection[Any]) -> tuple[Any, ...]:
    (found,) = owner.execute(CATALOG)
    return tuple(found)


def _copied(owner: psycopg.Connection[Any], name: str) -> bytes:
    with owner.cursor().copy(f"COPY {name} TO STDOUT") as copy:
        return b"".join(bytes(piece) for piece in copy)
