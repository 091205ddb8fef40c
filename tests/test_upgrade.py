"""A database of the release before, whose columns were made by readers of values: what people see of its upgrade."""

import hmac
import re
from base64 import urlsafe_b64encode
from datetime import timedelta
from hashlib import sha256
from typing import Any

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine, text

from app.base import exact_json
from app.base.migrations import head
from app.contracts import PFA, Contract
from app.contracts.ddl import generated_columns, indexes_ddl
from app.migrate import alembic_config, migrate, sqlalchemy_url
from tests.support.world import CONTRACTS, FLEET, SECRET, User, World, ids, line, open_world, refused, vehicle

# As the release before had them.
FORMER_READERS = r"""
CREATE FUNCTION vanguard.as_text(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'string' AND octet_length(value #>> '{}') <= 500 THEN value #>> '{}' END;
CREATE FUNCTION vanguard.as_long_text(value jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'string' THEN value #>> '{}' END;
CREATE FUNCTION vanguard.as_number(value jsonb) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'number' THEN
        CASE WHEN abs(value::numeric) < 1e30 AND scale(value::numeric) <= 20 THEN value::numeric END
    END;
CREATE FUNCTION vanguard.as_integer(value jsonb) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'number' THEN
        CASE WHEN abs(value::numeric) <= 9007199254740991 AND value::numeric = trunc(value::numeric)
             THEN value::bigint END
    END;
CREATE FUNCTION vanguard.as_boolean(value jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN jsonb_typeof(value) = 'boolean' THEN value::boolean END;
CREATE FUNCTION vanguard.as_date(value jsonb) RETURNS date LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE
        WHEN jsonb_typeof(value) = 'string'
            AND (value #>> '{}') ~ '^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$' THEN
            CASE
                WHEN right(value #>> '{}', 2) COLLATE "C" <= '28'
                    OR right(value #>> '{}', 5) COLLATE "C"
                        NOT IN ('02-29', '02-30', '02-31', '04-31', '06-31', '09-31', '11-31')
                    OR right(value #>> '{}', 5) COLLATE "C" = '02-29'
                        AND left(value #>> '{}', 4)::int % 4 = 0
                        AND (left(value #>> '{}', 4)::int % 100 <> 0 OR left(value #>> '{}', 4)::int % 400 = 0)
                THEN make_date(
                    left(value #>> '{}', 4)::int, substr(value #>> '{}', 6, 2)::int, right(value #>> '{}', 2)::int)
            END
    END;
-- There was none; the column has to be made of something that is another now.
CREATE FUNCTION vanguard.as_datetime(value jsonb) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN vanguard.as_datetime(jsonb_build_object('f', value), 'f');
CREATE FUNCTION pfa.actual_cost(source text, rate numeric, price numeric, first_day date, last_day date)
    RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN first_day IS NULL OR last_day IS NULL THEN 0
                ELSE pfa.cost(source, rate, price, first_day, last_day) END;
CREATE FUNCTION pfa.incomplete(
    source text, rate numeric, price numeric, original_start date, original_end date, forecast_start date,
    forecast_end date)
    RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE source
        WHEN 'Rental' THEN
            rate IS NULL OR original_start IS NULL OR original_end IS NULL OR forecast_start IS NULL
            OR forecast_end IS NULL
        WHEN 'Purchase' THEN price IS NULL
        ELSE TRUE
    END;
"""
COSTS = (
    "vanguard.as_text(data, 'source'), vanguard.as_number(data, 'monthlyRate'), "
    "vanguard.as_number(data, 'purchasePrice')"
)
DATES = "vanguard.as_date(data, '{0}Start'), vanguard.as_date(data, '{0}End')"
FORMER = {
    "f_actual_cost": f"pfa.actual_cost({COSTS}, {DATES.format('actual')})",
    "f_incomplete": f"pfa.incomplete({COSTS}, {DATES.format('original')}, {DATES.format('forecast')})",
}
READER = re.compile(r"vanguard\.as_(\w+)\((\w+), '(\w+)'\)")
FORMER_FOLD = """
DO $$
DECLARE
    best text;
BEGIN
    SELECT collname INTO best
      FROM pg_collation
     WHERE collname IN ('pg_c_utf8', 'und-x-icu', 'C.utf8', 'default')
       AND collencoding IN (-1, pg_char_to_encoding('UTF8'))
     ORDER BY array_position(ARRAY['pg_c_utf8', 'und-x-icu', 'C.utf8', 'default'], collname::text)
     LIMIT 1;
    EXECUTE format(
        'CREATE OR REPLACE FUNCTION vanguard.fold(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE '
        'RETURN lower(value COLLATE %I) COLLATE "C"', best);
END
$$;
"""
REWORDED = "SELECT row_key FROM {}.modification WHERE reworded ORDER BY row_key"
LEFT_OF_BEFORE = """
SELECT p.oid::regprocedure::text FROM pg_proc AS p
 WHERE p.pronamespace = 'vanguard'::regnamespace AND p.proname ~ '^as_' AND p.pronargs = 1
   AND p.proname <> 'as_datetime' -- of which there was none
    OR p.oid = to_regprocedure('pfa.incomplete(text, numeric, numeric, date, date, date, date)')
"""
OPTIONS = "SELECT reloptions::text FROM pg_class WHERE oid = 'pfa.mirror_search'::regclass"
ASKED = (
    "rows?count=exact",
    "rows?sort=-forecastStart&forecastEnd[isnull]=false",
    "rows?sort=planCost,actualCost&monthlyRate[gte]=1",
    "rows?search=crane",
    "rows?syncState=conflict,draft,committed",
    "rows?sort=-equipment&incomplete=true",
    "kpis?groupBy=category,source",
    "kpis",
    "drafts",
)


def made_by_the_release_before(url: str, contract: Contract) -> None:
    """The mirror's columns as that release made them."""
    with create_engine(sqlalchemy_url(url)).begin() as owner:
        if owner.execute(text("SELECT version_num FROM alembic_version")).scalar() == head():
            config = alembic_config()
            config.attributes["connection"] = owner
            command.downgrade(config, "0006")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"DROP MATERIALIZED VIEW {contract.schema}.kpi")
        for name, (sql_type, expression) in generated_columns(contract).items():
            if name == "search":
                continue
            former = READER.sub(r"vanguard.as_\1(\2 -> '\3')", FORMER.get(name, expression))
            connection.execute(
                f"ALTER TABLE {contract.schema}.mirror DROP COLUMN {name},"
                f" ADD COLUMN {name} {sql_type} GENERATED ALWAYS AS ({former}) STORED"
            )
            connection.execute(f"COMMENT ON COLUMN {contract.schema}.mirror.{name} IS $comment${former}$comment$")
        connection.execute(indexes_ddl(contract).encode())
        connection.execute(f"ALTER INDEX {contract.schema}.mirror_search SET (fastupdate = off)")
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
        connection.execute("DROP TABLE IF EXISTS incarnation")


async def fill(world: World) -> list[User]:
    """Rows that read well and badly, drafts of every kind, changes in flight, conflicts, history."""
    await world.organization("acme")
    ann, bo = await world.user("ann"), await world.user("bo")
    await world.mirror(
        {
            "A": line(monthlyRate=100, forecastStart="2026-01-01", forecastEnd="2026-02-01", equipment="crane 7"),
            "B": line(source="Purchase", purchasePrice=5, actualStart="2026-01-01", actualEnd="2026-01-09"),
            "C": line(monthlyRate="cheap", forecastStart="2026-02-30", originalStart="10000-01-01", category=7),
            "D": line(source="Purchase", purchasePrice=9, actualStart="2026-13-01", actualEnd="2026-01-09"),
            "E": line(monthlyRate=3, actualStart="0001-01-01", actualEnd="9999-12-31", isActualized="true"),
        }
    )
    await world.mirror({key: vehicle(seats=n, mileage=n * 10) for n, key in enumerate("VWX")}, contract=FLEET)
    await ann.draft("A", {"monthlyRate": 250, "forecastEnd": "2026-03-01"})
    await ann.draft("N", {"category": "New", "source": "Purchase", "dor": "BEO", "purchasePrice": 1}, op="insert")
    await ann.draft("B", op="delete")
    await bo.draft("A", {"monthlyRate": 300})
    assert (await bo.commit("A")).status_code == 200  # it waits in the outbox
    refused(await ann.commit("A"), 409, "MERGE_CONFLICT")
    for person, seats in ((ann, 4), (bo, 6)):
        await person.on("fleet").draft("V", {"seats": seats})
    assert (await bo.on("fleet").commit("V")).status_code == 200  # it is in history
    await ann.on("fleet").draft("W", {"mileage": 77})
    return [ann, bo, ann.on("fleet"), bo.on("fleet")]


async def answers(people: list[User]) -> dict[str, Any]:
    """What each is told, but for the time that it took, and for revisions: the migration moves those."""
    found = {}
    for person in people:
        rows = [f"rows/{row['id']}" for row in await person.rows()]
        for path in (*(path for path in ASKED if person.dataset == "pfa" or "Cost" not in path), *rows):
            response = await person.get(path)
            if response.status_code == 200:
                answer = exact_json.decode(response.content)
                # The release before had no feed.
                answer.pop("position", None)
                for word in ("queryTime", "revision", "viewRevision", "position"):
                    answer.get("metadata", {}).pop(word, None)
                found[f"{person.id} {person.dataset} {path}"] = answer
    return found


async def test_every_answer_is_the_same_after_the_upgrade(database_url: str) -> None:
    """Given a database of the release before with drafts, changes in flight, conflicts and history, when it is
    migrated, then every answer is what it was, the steps are told, and nothing of before is left.
    """
    async with open_world(database_url) as world:
        people = await fill(world)
        before = await answers(people)
    assert len(before) > 40
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FORMER_READERS)
    for contract in CONTRACTS:
        made_by_the_release_before(database_url, contract)
    told: list[str] = []
    assert migrate(database_url, CONTRACTS, told.append) == head()
    async with open_world(database_url) as world:
        people = [User(world, p.id, p.organization, p.token, p.dataset) for p in people]
        after = await answers(people)
        for path, answer in after.items():
            assert answer == before[path], path
        assert after.keys() == before.keys()
        assert await world.db.fetch(LEFT_OF_BEFORE) == []
        assert "fastupdate=on" in await world.db.fetchval(OPTIONS)
    assert {step.partition(":")[0] for step in told} == {"pfa", "fleet"}
    for what in ("columns of about", "index 1 of", "KPIs", "drafts, portion 1 of 1", "statistics"):
        assert any(what in step for step in told), what
    again: list[str] = []
    migrate(database_url, CONTRACTS, again.append)
    assert again == []


def tag_of_before(world: World, user: User, revision: int, workspace: int) -> str:
    """A list's ETag as the release before made it."""
    contract = world.runtime.datasets.built_in[user.dataset]
    whose = f"{user.organization} {user.id} {user.dataset} {contract.version} {world.runtime.version}"
    return f'W/"{revision}.{workspace}.{sha256(whose.encode()).hexdigest()[:16]}"'


def cursor_of_before(world: World, user: User, values: list[str | None], key: str) -> str:
    """A cursor of a list by forecastStart as the release before signed it: it knew of no incarnation."""
    expires = (world.clock() + timedelta(hours=1)).timestamp()
    content = exact_json.encode([f"{user.organization}/pfa?forecastStart,id", expires, values, key])
    derived = hmac.digest(SECRET.encode(), b"vanguard cursor", "sha256")
    return urlsafe_b64encode(hmac.digest(derived, content, "sha256") + content).rstrip(b"=").decode()


async def test_what_clients_hold_of_the_release_before_is_refused_or_right(database_url: str) -> None:
    """Given people at work with the release before, when it is migrated under them, then their ETags are asked for
    anew, their cursors go on where they were, and their drafts are at the versions that they know.
    """
    async with open_world(database_url) as world:
        people = await fill(world)
        standing = await world.db.fetch(
            "SELECT w.dataset, w.user_id, d.revision, w.revision AS workspace FROM workspace AS w"
            " JOIN dataset AS d ON d.organization_id = w.organization_id AND d.name = w.dataset"
        )
        ann = people[0]
        versions = {row["id"]: row["version"] for row in (await ann.get("drafts")).json()["data"]}
        listed = (await ann.page(sort="forecastStart"))["data"]
        place = next(n for n, row in enumerate(listed) if row["data"].get("forecastStart") == "2026-01-01")
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FORMER_READERS)
    for contract in CONTRACTS:
        made_by_the_release_before(database_url, contract)
    assert migrate(database_url, CONTRACTS) == head()
    async with open_world(database_url) as world:
        ann, *_ = people = [User(world, p.id, p.organization, p.token, p.dataset) for p in people]
        for person in people:
            for row in standing:
                if (row["dataset"], row["user_id"]) == (person.dataset, person.id):
                    tag = tag_of_before(world, person, row["revision"], row["workspace"])
                    for path in ("rows", "kpis", "rows?syncState=draft"):
                        assert (await person.get(path, headers={"If-None-Match": tag})).status_code == 200, path
        after = cursor_of_before(world, ann, ["2026-01-01"], listed[place]["id"])
        rest = await ann.page(sort="forecastStart", after=after)
        assert [row["id"] for row in rest["data"]] == [row["id"] for row in listed[place + 1 :]]
        headers = {"Content-Type": "application/json", "If-Match": f'"{versions["A"]}"'}
        answer = await ann.request("PATCH", "rows/A", content=b'{"model": "M"}', headers=headers)
        refused(answer, 412, "PRECONDITION_FAILED")
        drafted = {row["id"]: row["version"] for row in (await ann.get("drafts")).json()["data"]}
        assert drafted == versions
        await ann.draft("N", {"model": "M"}, expectedVersion=versions["N"])


def folded_otherwise(url: str, made_by: str) -> None:
    """What is searched was folded by something else: so its columns' comments say."""
    with psycopg.connect(url, autocommit=True) as connection:
        for contract in CONTRACTS:
            expression = generated_columns(contract)["search"][1]
            connection.execute(
                f"COMMENT ON COLUMN {contract.schema}.mirror.search IS $made${expression}{made_by}$made$"
            )


async def write(world: World) -> list[tuple[User, User]]:
    """Of both datasets: rows, a draft of a text, and one that writes a row's text in another way."""
    await world.organization("acme")
    ann, bo = await world.user("ann"), await world.user("bo")
    for contract, row, field in ((PFA, line, "equipment"), (FLEET, vehicle, "remark")):
        texts = {"A": "ΟΔΟΣ", "B": "nothing", "C": "Straße", "D": "cafe\u0301"}
        await world.mirror({key: row(**{field: text}) for key, text in texts.items()}, contract=contract)
        await ann.on(contract.name).draft("B", {field: "die ΟΔΟΣ"})
        await ann.on(contract.name).draft("C", {field: "STRASSE"})
    return [(ann.on(contract.name), bo.on(contract.name)) for contract in CONTRACTS]


async def finds_every_form(ann: User, bo: User) -> None:
    """Both find a text however it is written: in the mirror, and in drafts."""
    for word in ("ΟΔΟΣ", "οδος", "οδο\u03c3"):
        assert (ids(await ann.rows(search=word)), ids(await bo.rows(search=word))) == (["A", "B"], ["A"]), word
    for word in ("STRASSE", "straße", "Stra\u017fse"):
        assert (ids(await ann.rows(search=word)), ids(await bo.rows(search=word))) == (["C"], ["C"]), word
    for word in ("café", "CAFE\u0301"):
        assert (ids(await ann.rows(search=word)), ids(await bo.rows(search=word))) == (["D"], ["D"]), word


def told_of_folding(url: str) -> None:
    """The migration tells its steps, for each dataset, and a second one has none."""
    told: list[str] = []
    migrate(url, CONTRACTS, told.append)
    for contract in CONTRACTS:
        steps = [step for step in told if step.startswith(f"{contract.name}:")]
        assert "1 columns of about" in steps[0]
        for what in ("index 1 of", "drafts, portion 1 of 1", "statistics"):
            assert any(what in step for step in steps), what
    again: list[str] = []
    migrate(url, CONTRACTS, again.append)
    assert again == []


async def test_text_that_the_release_before_folded_is_found_in_every_form(database_url: str) -> None:
    """Given rows and drafts whose text was folded by lower(), when the database is migrated, then people find all of
    it, and a draft that writes the same text in another way is no longer one that rewords it.
    """
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FORMER_FOLD)
    folded_otherwise(database_url, "")
    async with open_world(database_url) as world:
        people = await write(world)
        for ann, bo in people:
            assert ids(await bo.rows(search="strasse")) == []
            assert ids(await ann.rows(search="straße")) == []
            assert [row["row_key"] for row in await world.db.fetch(REWORDED.format(ann.dataset))] == ["B", "C"]
    told_of_folding(database_url)
    async with open_world(database_url) as world:
        for ann, bo in people:
            await finds_every_form(*(User(world, p.id, p.organization, p.token, p.dataset) for p in (ann, bo)))
            assert [row["row_key"] for row in await world.db.fetch(REWORDED.format(ann.dataset))] == ["B"]
            assert await world.db.fetchval(f"SELECT to_regclass('{ann.dataset}.mirror_search') IS NOT NULL")


async def test_text_that_another_server_folded_is_found_in_every_form(database_url: str) -> None:
    """Given a restored dump, whose drafts have the images that the server of before made, when it is migrated, then
    they have this server's.
    """
    async with open_world(database_url) as world:
        people = await write(world)
    folded_otherwise(database_url, " -- und-x-icu 1 of PostgreSQL 15, 0")
    with psycopg.connect(database_url, autocommit=True) as connection:
        for contract in CONTRACTS:
            connection.execute(f"UPDATE {contract.schema}.modification SET a_search = 'folded otherwise'")
    told_of_folding(database_url)
    async with open_world(database_url) as world:
        for ann, bo in people:
            await finds_every_form(*(User(world, p.id, p.organization, p.token, p.dataset) for p in (ann, bo)))


async def test_a_dataset_whose_contract_is_not_at_hand_keeps_its_readers(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FORMER_READERS)
        made_by_the_release_before(database_url, FLEET)
        migrate(database_url, [PFA])
        left = {str(row[0]) for row in connection.execute(LEFT_OF_BEFORE)}
        assert "vanguard.as_text(jsonb)" in left
        assert "vanguard.as_date(jsonb)" in left
        connection.execute(
            "INSERT INTO fleet.mirror (organization_id, row_key, data, revision) VALUES ('a', 'V', '{}', 1)"
        )


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
async def test_a_migration_that_ends_midway_leaves_the_database_as_it_was(
    database_url: str, contract: Contract
) -> None:
    """Given a database of the release before, when its migration fails late, then every column is what it was."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(FORMER_READERS)
    made_by_the_release_before(database_url, contract)

    def fail(step: str) -> None:
        if "KPIs" in step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        migrate(database_url, [contract], fail)
    with psycopg.connect(database_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT col_description(attrelid, attnum) FROM pg_attribute"
            f" WHERE attrelid = '{contract.schema}.mirror'::regclass AND attgenerated = 's' AND NOT attisdropped"
        )
        comments = [str(comment) for (comment,) in found]
        assert len(comments) == len(generated_columns(contract))
        assert not any("as_text(data, " in comment for comment in comments)
