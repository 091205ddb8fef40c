"""Who may do what in the database itself: readers of reports see one organization, and the service does no more than
its statements do.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeAlias

import asyncpg
import psycopg
import pytest
from click.testing import CliRunner
from psycopg import sql

from app.base.database import Database
from app.base.errors import ConfigurationError
from app.base.logs import configure_logs
from app.base.role import check_role_at_start
from app.base.settings import Settings, check, read_settings
from app.base.statements import ROOT
from app.cli import main
from app.migrate import migrate
from app.worker.upkeep import warn_of_retention
from tests.conftest import new_database
from tests.support.syncing import KEPT
from tests.support.world import CONTRACTS, SECRET, World, open_world, refused

Connection: TypeAlias = "asyncpg.Connection[Any]"
SCHEMAS = ("public", *(contract.schema for contract in CONTRACTS))
# Whose rows are of one organization, and what reports may see of it: the rest is no report's business.
REPORTED = {
    *(f"public.{name}" for name in ("approval", "audit", "change_request", "contract", "dataset", "membership")),
    *(f"public.{name}" for name in ("dataset_transition", "organization", "quarantine", "request_event", "sync_run")),
    "public.synchronization",
    *(f"{contract.schema}.{name}" for contract in CONTRACTS for name in ("report", "change", "history")),
}
PRIVATE = {
    *(f"public.{name}" for name in ("dataset_join", "drift_change", "drift_report", "field_mapping")),
    *(f"public.{name}" for name in ("query_correction", "query_execution", "query_preview")),
    *(f"public.{name}" for name in ("edit_session", "feed", "feed_counter", "idempotency_key", "invitation")),
    *(f"public.{name}" for name in ("kept_answers", "reader", "received", "resolution", "validation_run", "workspace")),
    # Of the mirror reports see the parent. Views run with the owner's rights; a materialized one has no policies.
    *(
        f"{contract.schema}.{name}"
        for contract in CONTRACTS
        for name in ("mirror", "modification", "step", "edit", "pulled", "kpi", "dataset")
    ),
}
POLICY = "(organization_id = ( SELECT reader_organization() AS reader_organization))"

RELATIONS = """
SELECT c.oid::regclass::text AS name, n.nspname || '.' || c.relname AS relation, c.relkind::text AS kind,
       c.relrowsecurity AS secured, c.reloptions::text[] AS options,
       has_table_privilege('vanguard_read', c.oid, 'SELECT')
       OR has_any_column_privilege('vanguard_read', c.oid, 'SELECT') AS readable,
       EXISTS (
           SELECT FROM aclexplode(c.relacl) AS a
            WHERE a.grantee IN (0, 'vanguard_read'::regrole) AND a.privilege_type <> 'SELECT'
       ) AS more,
       EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'organization_id') AS ours,
       (SELECT jsonb_object_agg(p.policyname, jsonb_build_array(p.roles, p.cmd, p.qual, p.with_check))
          FROM pg_policies AS p WHERE p.schemaname = n.nspname AND p.tablename = c.relname) AS policies
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
 ORDER BY 2
"""


async def test_whatever_is_of_an_organization_is_held_by_policies_or_out_of_sight(world: World) -> None:
    """Walk the catalog: each relation is told here, and one that reports may see has both policies and no other."""
    found = {row["relation"]: row for row in await world.db.fetch(RELATIONS, [*SCHEMAS, "vanguard"])}
    ours = {name for name, row in found.items() if row["ours"] or name == "public.organization"}
    assert ours == REPORTED | PRIVATE | {"public.person"}, "say of a new relation whether reports may see it"
    for name, row in found.items():
        assert row["readable"] == (name in REPORTED | {"public.person"}), name
        assert not row["more"], name
        if name in REPORTED:
            column = "id" if name == "public.organization" else "organization_id"
            assert (row["kind"], row["secured"]) == ("r", True), name
            assert json.loads(row["policies"]) == {
                "service": [["vanguard_app"], "ALL", "true", "true"],
                "reader": [["vanguard_read"], "SELECT", POLICY.replace("organization_id", column, 1), None],
            }, name
        else:
            assert not row["secured"], f"{name}: beneath a policy the planner has no statistics"
    assert found["public.person"]["options"] == ["security_barrier=true"]


VALUES = {
    "text": "%(organization)s || '-secret'",
    "uuid": "gen_random_uuid()",
    "timestamp with time zone": "now()",
    "integer": "1",
    "bigint": "1",
    "boolean": "FALSE",
    "jsonb": "jsonb_build_object('secret', %(organization)s || '-secret')",
    "numeric": "1",
    "double precision": "1",
    "uuid[]": "ARRAY[gen_random_uuid()]",
    "text[]": "ARRAY[%(organization)s || '-secret']",
    "bytea": "convert_to(%(organization)s || '-secret', 'UTF8')",
}
NEEDED = """
SELECT a.attname, format_type(a.atttypid, NULL)
  FROM pg_attribute AS a
 WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
   AND a.attidentity = '' AND a.attname NOT IN ('id', 'organization_id') AND a.attnotnull
"""


def fill(url: str, organizations: tuple[str, ...]) -> None:
    """A row of each organization in everything that there is, whatever it has to be like."""
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("SET session_replication_role = replica")
        checks = owner.execute(
            "SELECT conrelid::regclass::text, conname FROM pg_constraint"
            " WHERE contype = 'c' AND connamespace::regnamespace::text = ANY (%s)",
            [list(SCHEMAS)],
        ).fetchall()
        for relation, name in checks:
            owner.execute(f"ALTER TABLE {relation} DROP CONSTRAINT {name}".encode())
        tables = owner.execute(
            "SELECT c.oid::regclass::text,"
            " (SELECT format_type(a.atttypid, NULL) FROM pg_attribute AS a"
            "   WHERE a.attrelid = c.oid AND a.attname = 'id' AND a.attidentity = '')"
            "  FROM pg_class AS c WHERE relkind = 'r' AND relnamespace::regnamespace::text = ANY (%s)"
            "   AND (c.relname = 'organization' OR EXISTS"
            "        (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'organization_id'))"
            "   AND c.relname <> 'report'",
            [list(SCHEMAS)],
        ).fetchall()
        for table, identified in tables:
            needed: dict[str, str] = dict(owner.execute(NEEDED, [table]).fetchall())
            for organization in organizations:
                columns = {name: VALUES.get(kind, "'{}'") for name, kind in needed.items()}
                if table.endswith("organization"):
                    columns["id"] = "%(organization)s"
                else:
                    columns["organization_id"] = "%(organization)s"
                    if identified:
                        columns["id"] = VALUES[identified]
                if table == "membership":
                    columns["account_id"] = "%(organization)s || '-person'"
                text = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
                owner.execute(text.encode(), {"organization": organization})
        for organization in organizations:
            owner.execute(
                "INSERT INTO account (id, email, name) VALUES (%(o)s || '-person', %(o)s, %(o)s)",
                {"o": organization},
            )
        owner.execute("ANALYZE")


ORGANIZATIONS = ("acme", "other")


class Readers:
    """Login roles of the server, which are gone in the end; and how they are assigned."""

    def __init__(self, url: str):
        self.url = url
        self.made: list[str] = []

    def make(self, name: str, more: str = "LOGIN") -> str:
        with psycopg.connect(self.url, autocommit=True) as owner:
            owner.execute(f"CREATE ROLE {name} {more}".encode())
        self.made.append(name)
        return name

    def run(self, *arguments: str, url: str = "") -> tuple[int, str]:
        environment = {"DATABASE_URL": url or self.url, "VANGUARD_SECRET": SECRET}
        done = CliRunner(env=environment).invoke(main, ["org", *arguments])
        return done.exit_code, done.output

    def as_(self, name: str) -> str:
        """The database's address for the role."""
        return re.sub(r"//[^@/]*@", f"//{name}@", self.url)

    def close(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as owner:
            for name in reversed(self.made):
                owner.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(name)))
                owner.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def filled(server_url: str, template: str) -> Iterator[str]:
    """Two organizations with a row in everything."""
    with new_database(server_url, template) as url:
        fill(url, ORGANIZATIONS)
        yield url


@pytest.fixture
def readers(filled: str) -> Iterator[Readers]:
    """A reader of each organization: read_acme and read_other."""
    readers = Readers(filled)
    try:
        for organization in ORGANIZATIONS:
            name = readers.make(f"read_{organization}")
            assert readers.run("reader", organization, name) == (0, f"{name} reads {organization}.\n")
        yield readers
    finally:
        for organization in ORGANIZATIONS:
            readers.run("reader", organization, f"read_{organization}", "--remove")
        readers.close()


@pytest.fixture
async def acme(readers: Readers) -> AsyncIterator[Connection]:
    """acme's reader, logged in."""
    connection = await asyncpg.connect(readers.as_("read_acme"))
    yield connection
    await connection.close()


READABLE = """
SELECT c.oid::regclass::text AS name
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 WHERE n.nspname !~ '^(pg_|information_schema)' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND has_schema_privilege(n.oid, 'USAGE')
   AND (has_table_privilege(c.oid, 'SELECT') OR has_any_column_privilege(c.oid, 'SELECT'))
 ORDER BY 1
"""


@pytest.mark.parametrize("organization", ORGANIZATIONS)
async def test_a_reader_sees_one_organization_by_whatever_it_can_read(readers: Readers, organization: str) -> None:
    """Given rows of two organizations in everything, when a reader walks all that it can read, then each relation has
    rows, and all are of its own organization.
    """
    connection = await asyncpg.connect(readers.as_(f"read_{organization}"))
    try:
        names = [row["name"] for row in await connection.fetch(READABLE)]
        assert len(names) == len(REPORTED) + 1
        for name in names:
            rows = [str(dict(row)) for row in await connection.fetch(f"SELECT * FROM {name}")]
            assert rows, name
            (foreign,) = {*ORGANIZATIONS} - {organization}
            assert not [row for row in rows if foreign in row], name
        assert [tuple(row) for row in await connection.fetch("SELECT id, name FROM person")] == [
            (f"{organization}-person", organization)
        ]
    finally:
        await connection.close()


ATTACKS = (
    # What is not the reader's to choose.
    "SET ROLE vanguard_app",
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION read_other",
    "SELECT set_config('role', 'read_other', FALSE)",
    "SELECT set_config('session_authorization', 'read_other', FALSE)",
    "UPDATE reader SET organization_id = 'other'",
    "SELECT * FROM reader",
    "SELECT let_read('read_acme', TRUE)",
    # A refusal, not the rows.
    "SET row_security = off; SELECT * FROM pfa.report",
    "ALTER TABLE pfa.report DISABLE ROW LEVEL SECURITY",
    "DROP POLICY reader ON pfa.report",
    # Ways around.
    "SELECT * FROM pfa.mirror",
    "SELECT * FROM ONLY pfa.mirror",
    "SELECT * FROM pfa.kpi",
    "SELECT * FROM pfa.dataset",
    "SELECT * FROM account",
    "SELECT password_of('other')",
    "SELECT hold_password('other-person')",
    "SELECT kept_since('audit')",
    "SELECT forget_audit('other', now(), 1)",
    "SELECT pfa.forget_history('other', now(), 1)",
    "SELECT pfa.refresh_kpi()",
    "COPY pfa.mirror TO STDOUT",
    "INSERT INTO pfa.report SELECT * FROM pfa.report",
    "INSERT INTO audit (organization_id, at, action) VALUES ('acme', now(), 'x')",
    "DELETE FROM pfa.history",
    "SELECT * FROM pfa.report FOR UPDATE",
    "BEGIN; LOCK TABLE pfa.report",
    "CREATE TABLE public.mine (x int)",
)


@pytest.mark.parametrize("attack", ATTACKS)
async def test_what_a_reader_may_not_is_refused(acme: Connection, attack: str) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
        await acme.execute(attack)


PEEK = """
CREATE FUNCTION pg_temp.peek(value text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS $$
BEGIN
    RAISE NOTICE '%', value;
    RETURN TRUE;
END
$$;
"""
EVERY_ROW = (("pfa.report", "data::text"), ("pfa.history", "row_key"), ("audit", "action"), ("person", "name"))


@pytest.mark.parametrize(("relation", "column"), EVERY_ROW)
async def test_no_function_or_error_of_a_readers_tells_of_other_rows(
    acme: Connection, relation: str, column: str
) -> None:
    """Given a function that tells what it is given and costs next to nothing, and a division by zero where a row is not
    the reader's, then neither meets another organization's row: the policy comes before them.
    """
    told: list[str] = []
    acme.add_log_listener(lambda _, message: told.append(message.message or ""))
    await acme.execute(PEEK)
    for prefix in ("", "SET enable_seqscan = off; ", "SET ROLE vanguard_read; "):
        await acme.execute(f"{prefix}SELECT count(*) FROM {relation} WHERE pg_temp.peek({column})")
    await acme.fetchval(
        f"SELECT count(*) FROM {relation} WHERE 1 / (CASE WHEN {column} LIKE '%other%' THEN 0 ELSE 1 END) = 1"
    )
    assert await acme.fetchval(f"SELECT count(*) FROM {relation} WHERE {column} LIKE '%other%'") == 0
    assert told
    assert not [line for line in told if "other" in line]


async def test_neither_plans_nor_statistics_tell_others_values(acme: Connection) -> None:
    """A plan counts rows that its filter took away, and names none; statistics of what has policies are not shown."""
    for relation in ("pfa.report", "pfa.history", "audit", "membership"):
        plan = await acme.fetch(f"EXPLAIN (ANALYZE, VERBOSE, BUFFERS) SELECT * FROM {relation}")
        assert "other" not in str([row[0] for row in plan])
    shown = await acme.fetch("SELECT s::text AS line FROM pg_stats AS s WHERE s.schemaname = ANY ($1)", [*SCHEMAS])
    assert not [row for row in shown if "other" in row["line"]]
    activity = await acme.fetch("SELECT query FROM pg_stat_activity WHERE usename <> session_user")
    assert {row["query"] for row in activity} <= {"<insufficient privilege>", "", None}


CALLABLE = """
SELECT p.oid::regprocedure::text AS name
  FROM pg_proc AS p
  JOIN pg_namespace AS n ON n.oid = p.pronamespace
 WHERE n.nspname = ANY ($1) AND has_schema_privilege(n.oid, 'USAGE') AND has_function_privilege(p.oid, 'EXECUTE')
   AND p.prorettype <> 'trigger'::regtype
   AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.objid = p.oid AND d.deptype = 'e')
   AND (p.prosecdef OR p.provolatile <> 'i')
 ORDER BY 1
"""


async def test_no_function_tells_a_reader_of_others(acme: Connection) -> None:
    """What can be called and is not a sum of its arguments runs with the reader's own rights, but for the one that says
    which organization it is.
    """
    names = {row["name"] for row in await acme.fetch(CALLABLE, [*SCHEMAS, "vanguard"])}
    asked = {
        "theirs(text,text,text,jsonb)",
        "in_flight(text,text)",
        "in_outbox(text,text)",
        "beneath(text,text,jsonb,jsonb)",
    }
    asked |= {"waits(text,text,text,bigint)", "refused(text,text,text,jsonb,jsonb)"}
    assert names == {"reader_organization()"} | {f"{c.schema}.{name}" for c in CONTRACTS for name in asked}
    assert await acme.fetchval("SELECT reader_organization()") == "acme"
    assert await acme.fetchval("SELECT pfa.in_flight('other', 'other-secret')") is False
    assert await acme.fetchval("SELECT pfa.beneath('other', 'other-secret', NULL, '{}')::text") == "{}"


async def test_who_reads_what_is_the_operators_to_say(readers: Readers) -> None:
    """Given a member of vanguard_read that nobody assigned, then it sees nothing; assigned to another organization, it
    sees that one, and removed it sees nothing again.
    """
    name = readers.make("read_nothing")

    async def seen() -> list[str]:
        connection = await asyncpg.connect(readers.as_(name))
        try:
            return [row["id"] for row in await connection.fetch("SELECT id FROM organization")]
        except asyncpg.InsufficientPrivilegeError:
            return []
        finally:
            await connection.close()

    with psycopg.connect(readers.url, autocommit=True) as owner:
        owner.execute(f"GRANT vanguard_read TO {name}".encode())
    assert await seen() == []
    for organization in ("other", "acme"):
        assert (await asyncio.to_thread(readers.run, "reader", organization, name))[0] == 0
        assert await seen() == [organization]
    listed = [line.split() for line in (await asyncio.to_thread(readers.run, "readers"))[1].splitlines()]
    there = [line for line in listed[1:] if "such" not in line]
    assert there == [["acme", "read_acme"], ["acme", name], ["other", "read_other"]]
    assert (await asyncio.to_thread(readers.run, "reader", "other", name, "--remove"))[0] == 1
    removed = await asyncio.to_thread(readers.run, "reader", "acme", name, "--remove")
    assert removed == (0, f"{name} reads acme no more.\n")
    assert await seen() == []


def test_a_role_that_no_policy_holds_is_no_reader(readers: Readers) -> None:
    """A superuser, one that bypasses policies, the service's login, and one that cannot log in are refused in words."""
    cases = {
        readers.make("read_above", "LOGIN SUPERUSER"): "would see all organizations",
        readers.make("read_past", "LOGIN BYPASSRLS"): "would see all organizations",
        readers.make("read_service", "LOGIN IN ROLE vanguard_app"): "would see all organizations",
        readers.make("read_everything", "LOGIN IN ROLE pg_read_all_data"): "would see all organizations",
        readers.make("read_by_group", f"LOGIN IN ROLE {readers.make('group_above', 'SUPERUSER')}"): "would see all",
        readers.make("read_by_other", f"LOGIN IN ROLE {readers.make('group_past', 'BYPASSRLS')}"): "would see all",
        readers.make("read_makes_roles", "LOGIN CREATEROLE"): "would see all organizations",
        readers.make("read_silent", "NOLOGIN"): "cannot log in",
    }
    for name, words in cases.items():
        status, output = readers.run("reader", "acme", name)
        assert (status, words in output) == (2, True), output
    assert "There is no organization nowhere" in readers.run("reader", "nowhere", "read_acme")[1]
    assert "The server has no role nobody" in readers.run("reader", "acme", "nobody")[1]
    # Nor may the service, or a reader, say who reads what.
    for name in ("read_service", "read_acme"):
        status, output = readers.run("reader", "other", "read_acme", url=readers.as_(name))
        assert (status, "owner alone" in output) == (2, True), output


def test_an_owner_that_may_not_grant_is_told_who_can(readers: Readers) -> None:
    """Given a role of readers that another database's owner made, then nobody is told to become the owner, who asks."""
    name, plain = readers.make("read_granted"), readers.make("owner_plain")
    with psycopg.connect(readers.url, autocommit=True) as owner:
        owner.execute(f"GRANT ALL ON reader, audit TO {plain}".encode())
        owner.execute(f"GRANT EXECUTE ON FUNCTION let_read TO {plain}".encode())
    status, output = readers.run("reader", "acme", name, url=readers.as_(plain))
    assert (status, "GRANT vanguard_read TO owner WITH ADMIN OPTION" in output) == (2, True), output


# --- the service's role

RELATION = r"((?:public|pfa)\.[a-z_]+)"
LOCKS = re.compile(r"FOR (?:NO KEY )?(?:UPDATE|SHARE)|FOR KEY SHARE")
# What Python does itself: records come in by COPY.
BY_HAND = {("INSERT", "public.received")}


def written(text: str) -> set[tuple[str, str]]:
    """What a statement writes, by relation; those of a dataset as pfa's."""
    return {
        (verb, name)
        for verb, pattern in (
            ("INSERT", rf"INSERT INTO\s+{RELATION}"),
            ("UPDATE", rf"\bUPDATE\s+{RELATION}"),
            ("DELETE", rf"DELETE FROM\s+{RELATION}"),
            ("UPDATE", rf"INSERT INTO\s+{RELATION}[^;]*?ON CONFLICT[^;]*?DO UPDATE"),
        )
        for name in re.findall(pattern, text)
    }


def locked(text: str) -> set[tuple[str, str]]:
    """What it may lock, which takes the right to update something of it."""
    parts = [part for part in re.split(r"\bSELECT\b", text) if LOCKS.search(part)]
    return {("UPDATE", name) for part in parts for name in re.findall(rf"(?:FROM|JOIN)\s+{RELATION}", part)}


def statements() -> Iterator[str]:
    """Those of the service, without their comments; what the owner runs is not of them."""
    for path in ROOT.glob("*/*.sql"):
        if path.parent.name not in {"schema", "migrate", "readers", "dev"} and path.stem != "mark_operator":
            yield re.sub(r"--[^\n]*", "", path.read_text(encoding="utf-8"))


GRANTED = """
SELECT a.privilege_type AS verb, n.nspname || '.' || c.relname AS relation
  FROM pg_class AS c
  JOIN pg_namespace AS n ON n.oid = c.relnamespace
 CROSS JOIN LATERAL (
           SELECT e.privilege_type, e.grantee FROM aclexplode(c.relacl) AS e
            UNION ALL
           SELECT e.privilege_type, e.grantee
             FROM pg_attribute AS t CROSS JOIN LATERAL aclexplode(t.attacl) AS e WHERE t.attrelid = c.oid
       ) AS a
 WHERE n.nspname IN ('public', 'pfa') AND c.relkind IN ('r', 'v', 'm', 'p') AND a.privilege_type <> 'SELECT'
   AND a.grantee IN (0, 'vanguard_app'::regrole)
"""


async def test_the_service_was_granted_what_its_statements_do(world: World) -> None:
    """No more, for whoever gets hold of it; and no less."""
    granted = {(row["verb"], row["relation"]) for row in await world.db.fetch(GRANTED)}
    writes = BY_HAND.union(*map(written, statements()))
    assert writes <= granted
    assert granted <= writes.union(*map(locked, statements())), "nobody uses it: REVOKE it"


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Connection]:
    """A connection as whoever took over the service has it, to a database with history of today."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        UPDATE retention SET days = 30;
        INSERT INTO organization (id, name) VALUES ('acme', 'acme');
        INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0');
        INSERT INTO feed_counter VALUES ('acme', 2);
        INSERT INTO account (id, email, name, password_hash) VALUES ('ann', 'ann@example.com', 'Ann', 'secret');
        """
    )
    for number, days in enumerate((0, 29, 31), start=1):
        await connection.execute(
            f"""
            INSERT INTO pfa.history (organization_id, revision, row_key, op, source, at)
            VALUES ('acme', {number}, 'A', 'insert', 'pull', now() - interval '{days} days');
            INSERT INTO audit (organization_id, at, action) VALUES ('acme', now() - interval '{days} days', 'x');
            INSERT INTO received
            VALUES ('acme', 'own', now() - interval '{days} days', gen_random_uuid(), 1, FALSE, '');
            """
        )
    await connection.execute(
        """
        INSERT INTO feed (organization_id, number, at, type, dataset)
        VALUES ('acme', 1, now() - interval '31 days', 'dataset', 'pfa'), ('acme', 2, now(), 'dataset', 'pfa');
        INSERT INTO dataset_transition (organization_id, dataset, major, version, action, to_state, at)
        VALUES ('acme', 'own', 1, '1.0', 'register', 'SHADOW', now());
        UPDATE dataset SET revision = 9;
        REFRESH MATERIALIZED VIEW pfa.kpi;
        SET ROLE vanguard_app
        """
    )
    yield connection
    await connection.close()


async def test_the_service_forgets_nothing_younger_than_its_retention(service: Connection) -> None:
    """Whatever time it names, and whatever its own settings say: by the database's clock and the owner's word."""
    for at in ("infinity", "2999-01-01"):
        await service.execute(f"SELECT pfa.forget_history('acme', '{at}', 100), forget_audit('acme', '{at}', 100)")
        await service.execute(f"SELECT forget_feed('acme', '{at}', 100), forget_received('{at}', 100)")
    assert await service.fetchval("SELECT count(*) FROM pfa.history") == 2
    assert await service.fetchval("SELECT count(*) FROM audit") == 2
    assert await service.fetchval("SELECT count(*) FROM received") == 2
    assert await service.fetchval("SELECT count(*) FROM feed") == 1
    await service.execute("RESET ROLE; DELETE FROM retention; SET ROLE vanguard_app")
    await service.execute("SELECT pfa.forget_history('acme', 'infinity', 100), forget_received('infinity', 100)")
    assert await service.fetchval("SELECT count(*) FROM pfa.history") == 2, "what nobody says is kept"
    assert await service.fetchval("SELECT count(*) FROM received") == 2


REFUSED = (
    "SELECT password_hash FROM account",
    "SELECT * FROM account",
    "SELECT a FROM account AS a",
    "UPDATE account SET operator = TRUE",
    "INSERT INTO account (id, email, name, operator) VALUES ('x', 'x', 'x', TRUE)",
    "INSERT INTO account VALUES ('x', 'x', 'x', NULL, TRUE)",
    "UPDATE account SET password_hash = 'mine'",
    "DELETE FROM pfa.history",
    "UPDATE pfa.history SET actor = NULL",
    "TRUNCATE pfa.history",
    "DELETE FROM audit",
    "UPDATE audit SET actor = NULL",
    "DELETE FROM feed",
    "DELETE FROM received",
    "DELETE FROM organization",
    "DELETE FROM dataset_transition",
    "UPDATE dataset_transition SET actor = NULL",
    "UPDATE contract SET document = '{}'",
    "DELETE FROM request_event",
    "UPDATE retention SET days = 0",
    "DELETE FROM retention",
    "INSERT INTO reader VALUES ('vanguard_app', 'acme')",
    "SELECT reader_organization()",
    "UPDATE state_transition SET to_state = 'done'",
    "INSERT INTO dataset_state SELECT * FROM dataset_state",
    "UPDATE incarnation SET number = 1",
    "UPDATE alembic_version SET version_num = '0001'",
    "ALTER TABLE audit DISABLE ROW LEVEL SECURITY",
    "CREATE TABLE public.mine (x int)",
    "CREATE SCHEMA mine",
    "DROP SCHEMA pfa CASCADE",
)


@pytest.mark.parametrize("attempt", REFUSED)
async def test_what_the_service_never_has_to_do_it_may_not(service: Connection, attempt: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(attempt)


async def test_the_service_reads_one_accounts_hash(service: Connection) -> None:
    """By its email, to verify; and it keeps another one, where nobody was faster."""
    assert await service.fetchrow("SELECT * FROM password_of('ann@example.com')") == ("ann", "secret")
    assert await service.fetchrow("SELECT * FROM password_of('bob@example.com')") is None
    assert await service.fetchval("SELECT set_password('ann', 'newer', 'stale')") is None
    assert await service.fetchval("SELECT set_password('ann', 'newer', 'secret')") == "ann"
    assert await service.fetchval("SELECT hold_password('ann')") == "newer"


@pytest.mark.parametrize("role", ["postgres", "none", "POSTGRES", "pg_read_all_data", "rds_superuser", "rdsadmin"])
def test_a_role_that_may_everything_is_refused_in_words(role: str) -> None:
    given = {"DATABASE_URL": "postgresql://x/y", "VANGUARD_SECRET": SECRET, "VANGUARD_DATABASE_ROLE": role}
    with pytest.raises(ConfigurationError, match=f"VANGUARD_DATABASE_ROLE: {role} may do what"):
        read_settings(given)
    check(Settings(database_url="", secret=SECRET, database_role="vanguard_plan"))
    check(Settings(database_url="", secret=SECRET, database_role="azure_vanguard"))


ROLES = {
    "service_above": ("SUPERUSER", "is a superuser"),
    "service_past": ("BYPASSRLS IN ROLE vanguard_app", "is held by no policy"),
    "service_owner": ("", "owns the tables"),
    "service_of_above": ("IN ROLE vanguard_app, group_above", "is a superuser, or can become one"),
    "service_of_past": ("IN ROLE vanguard_app, group_past", "or can become a role that is not"),
    "service_of_owner": ("IN ROLE vanguard_app, group_owner", "a member of the role that does"),
    "service_of_all": ("IN ROLE vanguard_app, pg_read_all_data", "may read or write everything"),
    "service_stranger": ("", "is no member of vanguard_app"),
    "service_fit": ("IN ROLE vanguard_app", ""),
}


@pytest.mark.parametrize("name", ROLES)
async def test_nothing_is_served_as_a_role_that_may_too_much_or_too_little(database_url: str, name: str) -> None:
    """By whatever name: what counts is what it may. Readiness says so, too, where the role changed meanwhile."""
    readers, (more, words) = Readers(database_url), ROLES[name]
    for group, kind in (("group_above", "SUPERUSER"), ("group_past", "BYPASSRLS"), ("group_owner", "")):
        readers.make(group, kind)
    readers.make(name, more)
    owner_of_tables = {"service_owner": "service_owner", "service_of_owner": "group_owner"}.get(name)
    database = Database(Settings(database_url=database_url, secret=SECRET, database_role=name))
    await database.open()
    try:
        if owner_of_tables:
            with psycopg.connect(database_url, autocommit=True) as owner:
                owner.execute(f"ALTER TABLE account OWNER TO {owner_of_tables}".encode())
        if words:
            with pytest.raises(ConfigurationError, match=words):
                await check_role_at_start(database)
        else:
            await check_role_at_start(database)
    finally:
        await database.close()
        if owner_of_tables:
            with psycopg.connect(database_url, autocommit=True) as owner:
                owner.execute("ALTER TABLE account OWNER TO CURRENT_USER")
        readers.close()


async def test_a_database_that_is_away_is_waited_for(create_database: Callable[..., str]) -> None:
    """One that is not migrated, too: whoever looks at the role at the start does not stop it."""
    for url in (create_database(), "postgresql://nobody@127.0.0.1:1/nothing"):
        database = Database(Settings(database_url=url, secret=SECRET))
        await database.open()
        await check_role_at_start(database)
        await database.close()


async def test_migrating_stores_how_long_what_is_kept(database_url: str) -> None:
    migrate(database_url, CONTRACTS, retention={"audit": 10, "feed": 20, "history": 30, "received": 40})
    migrate(database_url, CONTRACTS)
    connection = await asyncpg.connect(database_url)
    found = await connection.fetch("SELECT kind, days FROM retention")
    assert {row["kind"]: row["days"] for row in found} == {
        "audit": 10, "feed": 20, "history": 30, "received": 40,
    }  # fmt: skip
    await connection.close()
    settings = Settings(database_url="", secret=SECRET, keep_feed_days=3)
    assert settings.retention == {"audit": 3650, "feed": 3, "history": 730, "received": 30}


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_command_ends_where_it_would_act_as_too_much(database_url: str, command: str) -> None:
    """With status 2 and one line that names the role, before anything is served."""
    readers = Readers(database_url)
    name = readers.make("service_grown", "BYPASSRLS IN ROLE vanguard_app")
    try:
        environment = {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET, "VANGUARD_PORT": "0"}
        done = CliRunner(env=environment | {"VANGUARD_DATABASE_ROLE": name}).invoke(main, [command])
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1), done.output
        assert f"would act as {name}, which is held by no policy" in done.stderr
    finally:
        readers.close()


async def test_readiness_tells_of_a_role_that_has_grown(database_url: str) -> None:
    """Given a service that serves, when its role gets BYPASSRLS, then it is not ready until that is taken away."""
    readers = Readers(database_url)
    name = readers.make("service_growing", "IN ROLE vanguard_app")
    try:
        async with open_world(database_url, database_role=name) as world:
            assert (await world.http.get("/health/ready")).status_code == 200
            await world.db.execute(f"ALTER ROLE {name} BYPASSRLS")
            refused(await world.http.get("/health/ready"), 503, "DATABASE_UNAVAILABLE")
            await world.db.execute(f"ALTER ROLE {name} NOBYPASSRLS")
            assert (await world.http.get("/health/ready")).status_code == 200
    finally:
        readers.close()


async def test_a_worker_warns_where_the_database_keeps_more_than_it_is_set_to(
    database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    migrate(database_url, CONTRACTS, retention={"audit": 3650, "feed": 30, "history": 730, "received": 1})
    configure_logs("INFO", "json")
    database = Database(Settings(database_url=database_url, secret=SECRET))
    await database.open()
    async with database.connection() as connection:
        await warn_of_retention(connection, KEPT)
    await database.close()
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = {line["kind"]: (line["days"], line["set"]) for line in lines if line["event"] == "kept longer than set"}
    assert told == {"feed": (30, 7), "history": (730, 365)}
