"""The schema: one head, up and down, no drift, roles and grants, twice without harm."""

from decimal import Decimal

import msgspec
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text

from app.base.migrations import head
from app.contracts.model import Field
from app.contracts.shape import FieldType
from app.migrate import alembic_config, migrate, run, sqlalchemy_url
from migrations.tables import metadata
from tests.support.world import CONTRACTS, FLEET, open_world


def test_there_is_one_head() -> None:
    assert ScriptDirectory.from_config(alembic_config()).get_heads() == [head()]


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    before = schema_of(database_url)
    assert migrate(database_url, CONTRACTS) == head()
    assert schema_of(database_url) == before


def schema_of(url: str) -> list[tuple[object, ...]]:
    """Columns, indexes, checks and functions of our schemas."""
    with create_engine(sqlalchemy_url(url)).connect() as connection:
        found = connection.execute(
            text("""
            SELECT 'column', table_schema, table_name, column_name, data_type FROM information_schema.columns
             WHERE table_schema IN ('public', 'pfa', 'fleet')
            UNION ALL SELECT 'index', schemaname, tablename, indexname, indexdef FROM pg_indexes
             WHERE schemaname IN ('public', 'pfa', 'fleet')
            UNION ALL
            SELECT 'check', connamespace::regnamespace::text, conrelid::regclass::text, conname,
                   pg_get_constraintdef(oid)
              FROM pg_constraint WHERE contype = 'c' AND connamespace::regnamespace::text IN ('public', 'pfa', 'fleet')
            UNION ALL
            SELECT 'function', pronamespace::regnamespace::text, proname, oid::regprocedure::text, prosrc FROM pg_proc
             WHERE pronamespace::regnamespace::text IN ('vanguard', 'pfa', 'fleet')
             ORDER BY 1, 2, 3, 4
            """)
        )
        return [tuple(row) for row in found]


def test_down_and_up_again(database_url: str) -> None:
    """Given a migrated database, when it goes down to nothing and up again, then it is as it was."""
    before = schema_of(database_url)
    engine = create_engine(sqlalchemy_url(database_url))
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert "organization" not in inspect(engine).get_table_names()
    migrate(database_url, CONTRACTS)
    assert schema_of(database_url) == before


def test_the_metadata_has_not_drifted(database_url: str) -> None:
    """migrations/tables.py is what the migrations make."""
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": False})
        differences = [
            difference for difference in compare_metadata(context, metadata) if "alembic_version" not in str(difference)
        ]
    assert differences == []


def test_organization_leads_every_key_of_the_data(database_url: str) -> None:
    """So that the same schema distributes by organization."""
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        found = connection.execute(
            text("""
            SELECT i.indexrelid::regclass::text, a.attname
              FROM pg_index AS i
              JOIN pg_class AS c ON c.oid = i.indrelid
              JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
             WHERE c.relnamespace IN ('pfa'::regnamespace, 'fleet'::regnamespace)
            """)
        ).all()
    assert found
    assert {column for _, column in found} == {"organization_id"}


def test_texts_that_are_keys_compare_by_code_points(database_url: str) -> None:
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        found = connection.execute(
            text("""
            SELECT a.attrelid::regclass::text, a.attname
              FROM pg_attribute AS a
              JOIN pg_collation AS l ON l.oid = a.attcollation
             WHERE a.attname IN ('organization_id', 'user_id', 'row_key')
               AND a.attrelid::regclass::text ~ '^(pfa|fleet)[.]'
               AND l.collname <> 'C'
            """)
        ).all()
    assert found == []


CHECKS = ("settled_at", "claim", "next_attempt_at", "attempts", "sent_at", "temporary_key")
# As a database without checks could have them: state, settled_at, claimed, lease_until, next_attempt_at.
OLD_CHANGES = """
INSERT INTO pfa.change (organization_id, row_key, user_id, op, base, delta, created_at, state, settled_at, claim_id,
                        lease_until, next_attempt_at)
SELECT 'acme', c.key, 'ann', 'update', '{}', '{}', '2026-03-01Z', c.state, c.settled::timestamptz,
       CASE WHEN c.claimed THEN gen_random_uuid() END, c.lease::timestamptz, c.next::timestamptz
  FROM (VALUES ('applied', 'synced', NULL, FALSE, NULL, NULL),
               ('claimed', 'syncing', NULL, FALSE, NULL, '2026-03-02Z'),
               ('given back', 'committed', '2026-03-02Z', TRUE, '2026-03-02Z', '2026-03-02Z'),
               ('leased', 'syncing', NULL, TRUE, '2026-03-02Z', NULL),
               ('refused', 'conflict', NULL, FALSE, NULL, NULL),
               ('taken back', 'rejected', '2026-03-02Z', FALSE, NULL, '2026-03-02Z'),
               ('waiting', 'committed', NULL, FALSE, NULL, '2026-03-02Z')
       ) AS c (key, state, settled, claimed, lease, next);
"""
MENDED_CHANGES = [
    ("applied", "synced", "03-01", False, None, None),
    ("claimed", "syncing", None, True, "03-01", None),
    ("given back", "committed", None, False, None, "03-02"),
    ("leased", "syncing", None, True, "03-02", None),
    ("refused", "conflict", "03-01", False, None, None),
    ("taken back", "rejected", "03-02", False, None, None),
    ("waiting", "committed", None, False, None, "03-02"),
]
READ_CHANGES = """
SELECT row_key, state, to_char(settled_at AT TIME ZONE 'UTC', 'MM-DD'), claim_id IS NOT NULL,
       to_char(lease_until AT TIME ZONE 'UTC', 'MM-DD'), to_char(next_attempt_at AT TIME ZONE 'UTC', 'MM-DD')
  FROM pfa.change ORDER BY row_key
"""
OLD_RUNS = """
INSERT INTO organization VALUES ('acme', 'acme');
INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0');
INSERT INTO sync_run (organization_id, id, dataset, kind, state, requested_at, started_at, finished_at, error_code)
SELECT 'acme', gen_random_uuid(), 'pfa', 'pull', r.state, now(), r.started, r.finished, r.code
  FROM (VALUES ('requested', now(), NULL, NULL), ('running', NULL, now(), 'X'), ('succeeded', NULL, NULL, 'X'),
               ('failed', now(), NULL, NULL)) AS r (state, started, finished, code);
"""
MENDED_RUNS = [
    ("failed", True, True, "INTERNAL_ERROR"),
    ("requested", False, False, None),
    ("running", True, False, None),
    ("succeeded", True, True, None),
]
READ_RUNS = "SELECT state, started_at IS NOT NULL, finished_at IS NOT NULL, error_code FROM sync_run ORDER BY state"


def test_rows_of_before_are_brought_in_line_with_the_checks(database_url: str) -> None:
    """Given rows of a database without checks, then migrating mends those that break one, and adds the checks."""
    before, engine = schema_of(database_url), create_engine(sqlalchemy_url(database_url))
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        for check in CHECKS:
            run(connection, f"ALTER TABLE pfa.change DROP CONSTRAINT change_{check}_check")
        run(connection, OLD_CHANGES + OLD_RUNS)
    assert migrate(database_url, CONTRACTS) == head()
    assert schema_of(database_url) == before
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(text(READ_CHANGES))] == MENDED_CHANGES
        assert [tuple(row) for row in connection.execute(text(READ_RUNS))] == MENDED_RUNS


def test_emails_of_before_are_composed_where_no_other_account_has_that_address(database_url: str) -> None:
    engine = create_engine(sqlalchemy_url(database_url))
    composed, apart = "jos\u00e9@example.com", "jose\u0301@example.com"
    emails = {"ann": apart, "bob": apart.replace("jose", "rene"), "eve": composed.replace("jos", "ren"), "ina": "i@x"}
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0005")
        for name, email in emails.items():
            connection.execute(
                text("INSERT INTO account VALUES (:name, :email, :name)"), {"name": name, "email": email}
            )
        command.upgrade(config, "head")
        found = {row.id: row.email for row in connection.execute(text("SELECT id, email FROM account"))}
    assert found == emails | {"ann": composed}


async def test_a_new_indexed_field_is_imaged_in_the_drafts_that_are_there(database_url: str) -> None:
    """Given a draft of a field, when its contract indexes that field, then migrating finds the draft's value by it."""
    async with open_world(database_url) as world:
        await world.organization("acme")
        ann = (await world.user("ann")).on("fleet")
        await world.mirror({"V1": {"depot": "A", "remark": "old"}}, contract=FLEET)
        await ann.draft("V1", {"remark": "new"})
    fields = tuple(
        msgspec.structs.replace(f, indexed=True, max_length=500) if f.name == "remark" else f for f in FLEET.fields
    )
    migrate(database_url, [msgspec.structs.replace(FLEET, fields=fields)])
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        found = connection.execute(
            text(
                "SELECT f_remark, b_remark, a_remark, leaves FROM fleet.modification JOIN fleet.mirror USING (row_key)"
            )
        )
        assert [tuple(row) for row in found] == [("old", "old", "new", True)]


async def test_a_field_of_another_type_has_it_in_every_image(database_url: str) -> None:
    """Given drafts and history of a whole number, when its contract takes fractions, no image rounds them; indexes of
    such a field are made anew.
    """
    async with open_world(database_url) as world:
        await world.organization("acme")
        ann = (await world.user("ann")).on("fleet")
        await world.mirror({"V1": {"seats": 1}, "V2": {"seats": Decimal("2.5")}}, contract=FLEET)
        for key in ("V1", "V2"):
            await ann.draft(key, {"depot": "A"})
        assert (await ann.commit("V1")).status_code == 200
    types: dict[str, FieldType] = {"seats": "number", "mileage": "integer"}
    fields = tuple(msgspec.structs.replace(f, type=types.get(f.name, f.type)) for f in FLEET.fields)
    migrate(database_url, [msgspec.structs.replace(FLEET, fields=fields)])
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        found = connection.execute(
            text(
                "SELECT substr(column_name, 3), data_type, count(*) FROM information_schema.columns"
                " WHERE table_schema = 'fleet' AND column_name ~ '^[fba]_(seats|mileage)$' GROUP BY 1, 2 ORDER BY 1"
            )
        )
        # Once in the mirror, twice in modification and in history.
        assert [tuple(row) for row in found] == [("mileage", "bigint", 5), ("seats", "numeric", 5)]
        found = connection.execute(text("SELECT b_seats, a_seats, leaves FROM fleet.modification"))
        assert [tuple(row) for row in found] == [(Decimal("2.5"), Decimal("2.5"), True)]
        indexed = {index["name"] for index in inspect(connection).get_indexes("modification", schema="fleet")}
        assert {"modification_lands_mileage", "modification_leaves_mileage"} <= indexed


async def test_a_new_text_field_is_searched_in_what_is_there(database_url: str) -> None:
    """Given rows and drafts with a text that no contract knew, when a field is declared for it, a search finds both."""
    async with open_world(database_url) as world:
        await world.organization("acme")
        ann = (await world.user("ann")).on("fleet")
        await world.mirror({"V1": {"depot": "A", "nickname": "Bluebird"}, "V2": {"depot": "A"}}, contract=FLEET)
        await ann.draft("V2", {"remark": "drafted"})
    migrate(database_url, [msgspec.structs.replace(FLEET, fields=(*FLEET.fields, Field(name="nickname", type="text")))])
    with create_engine(sqlalchemy_url(database_url)).connect() as connection:
        found = connection.execute(text("SELECT row_key FROM fleet.mirror WHERE search LIKE '%bluebird%'"))
        assert [tuple(row) for row in found] == [("V1",)]
        assert "mirror_search" in {index["name"] for index in inspect(connection).get_indexes("mirror", schema="fleet")}
        separators = connection.execute(text("SELECT a_search LIKE '%drafted%', reworded FROM fleet.modification"))
        assert [tuple(row) for row in separators] == [(True, True)]
