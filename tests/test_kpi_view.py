"""The view behind KPIs: who may do what with it, how it is made anew, and refreshes that do not end well."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import psycopg
import pytest
from click.testing import CliRunner, Result

from app.base.database import PLANNING
from app.cli import main
from app.contracts import Contract
from app.contracts.ddl import kpi_shape
from app.contracts.model import Exclusion, Measure
from app.engine.desk import Desk
from app.kpis import read_kpis, read_wanted
from app.migrate import migrate
from tests.conftest import new_database
from tests.support.children import VANGUARD, child
from tests.support.world import CONTRACTS, FLEET, SECRET, User, World, open_world, vehicle
from tests.test_contention import at_once, until_waiting

# -- made by migrating -------------------------------------------------------------------------------------------------


def fetch(url: str, query: str) -> list[tuple[Any, ...]]:
    """Rows, as the owner sees them."""
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


VIEW = "SELECT 'fleet.kpi'::regclass::oid, obj_description('fleet.kpi'::regclass, 'pg_class')"


def test_migrating_again_leaves_the_view_alone(database_url: str) -> None:
    """Its cells stay what they were, until somebody refreshes."""
    before = fetch(database_url, VIEW)
    migrate(database_url, CONTRACTS)
    assert fetch(database_url, VIEW) == before
    assert before[0][1] == kpi_shape(FLEET)


def reshaped(**changes: Any) -> Contract:
    """The fleet with other declarations."""
    return msgspec.structs.replace(FLEET, **changes)


def with_dimensions(*names: str) -> Contract:
    """The fleet with these dimensions."""
    return reshaped(fields=tuple(msgspec.structs.replace(f, dimension=f.name in names) for f in FLEET.fields))


def without_measures() -> Contract:
    """Nothing but rows is counted."""
    return msgspec.structs.replace(with_dimensions(), measures=(), derived=(), bounds=(), exclusions=())


SHAPES = {
    "fewer dimensions": with_dimensions("kind"),
    "no dimensions": with_dimensions(),
    "other dimensions": with_dimensions("depot", "kind", "seats", "mileage", "inspectedOn", "inService"),
    "a dimension that leaves rows out": with_dimensions("scrapped", "depot"),
    "other measures": reshaped(
        measures=(Measure(name="oldest", kind="min", of="inspectedOn"), Measure(name="kinds", kind="count", of="kind")),
        derived=(), bounds=(),
    ),
    "another flag": reshaped(exclusions=(Exclusion(name="idle", field="inService"),)),
    "nothing to measure": without_measures(),
}  # fmt: skip
ROWS = {
    "A": vehicle(mileage=1, inspectedOn="2026-01-01"),
    "B": vehicle(mileage=2, kind="Bus", scrapped=True),
    "C": vehicle(mileage=4, depot=None, inService=False),
}


async def figures(world: World, contract: Contract, *parameters: tuple[str, str]) -> tuple[Any, list[Any]]:
    """The view's revision of an answer, and rows by group."""
    async with world.runtime.database.connection() as connection:
        found = await read_kpis(Desk(connection, contract, "acme"), "ann", read_wanted(contract, list(parameters)))
    return found.view_revision, [(tuple(key.values()), record["mine_row_count"]) for key, record in found.groups]


async def test_a_view_of_another_shape_is_made_anew_and_filled(server_url: str, template: str) -> None:
    """Given rows and a view, when the contract's dimensions, measures or flags change, then migrating makes the view
    that it needs, at the revision of the rows; and back again.
    """
    with new_database(server_url, template) as url:
        migrate(url, CONTRACTS)  # it is the copy of another, whose counters would be raised later on
        async with open_world(url) as world:
            await world.organization("acme")
            await world.mirror(ROWS, contract=FLEET)
            await world.db.execute("UPDATE dataset SET revision = 7")
        for title, contract in SHAPES.items():
            migrate(url, [contract])
            assert fetch(url, VIEW)[0][1] == kpi_shape(contract), title
            async with open_world(url) as world:
                for key in contract.dimensions:
                    revision, groups = await figures(world, contract, ("groupBy", key))
                    assert revision == 7, title
                    assert sum(rows for _, rows in groups) == (
                        3 if not contract.flags else 2 if "another" not in title else 1
                    )
                assert await figures(world, contract) == (7, []), title
                await world.db.execute("SELECT fleet.refresh_kpi()")
        migrate(url, CONTRACTS)
        assert fetch(url, VIEW)[0][1] == kpi_shape(FLEET)


async def test_fields_may_be_called_like_the_columns_of_the_view(server_url: str, template: str) -> None:
    """Given dimensions with the names of its own columns, and two whose names are as long as can be and differ in the
    end, with all that can be measured of them, then the view has each.
    """
    long = "aBcDeFgHiJkLmNoPq" + "x" * 23
    names = {"organizationId": "depot", "grain": "kind", "revision": "inService", "rowCount": "seats", "cell": "remark",
             "sumMileage": "firstDay", long: "seats", f"{long[:-1]}y": "seats"}  # fmt: skip
    fields = [
        *FLEET.fields,
        *(
            msgspec.structs.replace(FLEET.by_name[like], name=name, indexed=True, dimension=True, max_length=500)
            for name, like in names.items()
        ),
    ]
    kinds: list[Any] = ["sum", "count", "min", "max", "average"]
    measures = [Measure(name=f"{kind}{n}", kind=kind, of=of) for kind in kinds for n, of in enumerate(list(names)[-2:])]
    contract = reshaped(fields=tuple(fields), measures=(*FLEET.measures, *measures))
    with new_database(server_url, template) as url:
        migrate(url, [contract])
        async with open_world(url) as world:
            await world.organization("acme")
            await world.mirror(
                {"A": vehicle(organizationId="rival", grain="Van", cell="x") | {long: 1}}, contract=FLEET
            )
            await world.db.execute("SELECT fleet.refresh_kpi()")
            wanted = [("groupBy", f"organizationId,grain,cell,sumMileage,{long}")]
            assert await figures(world, contract, *wanted) == (0, [(("rival", "Van", "x", None, 1), 1)])


# -- who may do what ---------------------------------------------------------------------------------------------------

FORBIDDEN = [
    "REFRESH MATERIALIZED VIEW fleet.kpi",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY fleet.kpi",
    "DROP MATERIALIZED VIEW fleet.kpi",
    "ALTER MATERIALIZED VIEW fleet.kpi RENAME TO other",
    "COMMENT ON MATERIALIZED VIEW fleet.kpi IS 'x'",
    "CREATE OR REPLACE FUNCTION fleet.refresh_kpi() RETURNS void LANGUAGE sql AS ''",
    "ALTER FUNCTION fleet.refresh_kpi() SECURITY INVOKER",
    "CREATE TABLE fleet.mine (a int)",
    "UPDATE public.dataset SET name = name",
]


async def test_the_service_may_read_and_refresh_the_view_and_no_more(world: World) -> None:
    await world.mirror({"A": vehicle()}, contract=FLEET)
    async with world.db.acquire() as connection:
        await connection.execute("SET ROLE vanguard_app")
        try:
            for statement in FORBIDDEN[:-1]:
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
            # What the caller's path and temporary relations say has no part in it.
            await connection.execute("CREATE TEMP TABLE mirror (organization_id text); CREATE TEMP TABLE kpi (a int)")
            await connection.execute("CREATE TEMP TABLE dataset AS SELECT 'acme' AS organization_id, 99 AS revision")
            await connection.execute("SET search_path = pg_temp, fleet, public")
            await connection.execute("SELECT fleet.refresh_kpi()")
            assert await connection.fetchval("SELECT revision FROM fleet.kpi WHERE grain = -1") == 0
            assert await connection.fetchval("SELECT row_count FROM fleet.kpi WHERE grain = 0") == 1
        finally:
            await connection.execute("RESET ALL; RESET ROLE; DISCARD TEMP")


async def test_a_refresh_reads_the_mirror_from_end_to_end(world: World) -> None:
    """Whatever the connections of the service are told: an index would lead it through the table at random."""
    settings = await world.db.fetchval("SELECT proconfig FROM pg_proc WHERE oid = 'fleet.refresh_kpi()'::regprocedure")
    assert PLANNING["enable_seqscan"] == "off"
    assert "enable_seqscan=on" in settings


async def test_nobody_else_may_refresh(world: World) -> None:
    async with world.db.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute("CREATE ROLE stranger; SET LOCAL ROLE stranger")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("SELECT fleet.refresh_kpi()")
        finally:
            await transaction.rollback()


async def test_figures_are_never_those_of_another_organization(world: World, ann: User) -> None:
    """Given two organizations with the same ids, dimensions and users' names, then each has its own figures."""
    await world.organization("rival")
    eve = (await world.user("ann", "rival")).on("fleet")
    ann = ann.on("fleet")
    for organization, mileage in (("acme", 1), ("rival", 1000)):
        await world.mirror({key: vehicle(mileage=mileage) for key in "AB"}, organization, FLEET)
    for fresh in (False, True):
        if fresh:
            await world.db.execute("SELECT fleet.refresh_kpi()")
        await eve.draft("A", {"mileage": 5000, "depot": "South"})
        await eve.draft("B", {"mileage": 2000})
        assert (await eve.commit("B")).status_code == 200
        for query in ({"groupBy": "depot"}, {"groupBy": "depot", "mileage[gt]": "0"}):
            body = (await ann.get("kpis", query)).json()
            for side in ("baseline", "mine"):
                assert body["totals"][side]["mileage"] == 2
            assert [group["key"]["depot"] for group in body["groups"]] == ["North"]
            assert (await eve.get("kpis", query)).json()["totals"]["mine"]["mileage"] == 7000
        assert (await ann.get("kpis")).json()["metadata"]["revision"] == 0
        await eve.discard()
        await eve.draft("B", {"mileage": 1000})
        assert (await eve.commit("B")).status_code == 200


# -- refreshes that do not end well ------------------------------------------------------------------------------------


async def test_a_refresh_that_is_killed_leaves_the_view_as_it_was(world: World, database_url: str, ann: User) -> None:
    """Given one refresh in its transaction and another that waits for it, when the first is killed, then readers have
    gone on all the time, and the second gets through.
    """
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(mileage=1)}, contract=FLEET)
    await world.db.execute("SELECT fleet.refresh_kpi()")
    await ann.draft("A", {"mileage": 2})
    assert (await ann.commit()).status_code == 200

    async def standing() -> tuple[Any, ...]:
        body = (await ann.get("kpis", {"groupBy": "depot"})).json()
        return body["totals"]["mine"]["mileage"], body["metadata"]["revision"]

    # No pool has it: one would look at it before it has read its own end.
    first = await asyncpg.connect(database_url)
    pid = await first.fetchval("SELECT pg_backend_pid()")
    await first.execute("BEGIN; SELECT fleet.refresh_kpi()")
    (second,) = at_once(world.db.execute("SELECT fleet.refresh_kpi()"))
    await until_waiting(world, 1, second)
    assert await standing() == (2, 1)
    assert await world.db.fetchval("SELECT revision FROM fleet.kpi WHERE grain = -1") == 0
    await world.db.execute("SELECT pg_terminate_backend($1)", pid)
    await second
    first.terminate()
    assert await world.db.fetchval("SELECT revision FROM fleet.kpi WHERE grain = -1") == 1
    assert await standing() == (2, 1)
    assert (await ann.get("kpis")).json()["metadata"]["viewRevision"] == 1


async def test_a_refresh_that_waits_and_is_killed_leaves_no_trace(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(mileage=1)}, contract=FLEET)
    async with world.db.acquire() as first:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("SELECT fleet.refresh_kpi()")
        async with world.db.acquire() as waiting:
            pid = await waiting.fetchval("SELECT pg_backend_pid()")
            (second,) = at_once(waiting.execute("SELECT fleet.refresh_kpi()"))
            await until_waiting(world, 1, second)
            await first.execute("SELECT pg_terminate_backend($1)", pid)
            with pytest.raises((asyncpg.AdminShutdownError, asyncpg.ConnectionDoesNotExistError)):
                await asyncio.wait_for(second, 20)
        await transaction.rollback()
    body = (await ann.get("kpis")).json()
    assert (body["totals"]["mine"]["mileage"], body["metadata"]["viewRevision"]) == (1, None)


# -- on the command line -----------------------------------------------------------------------------------------------


def vanguard(url: str, arguments: Sequence[str]) -> Result:
    """Run the command with the database's settings."""
    environment = {"DATABASE_URL": url, "VANGUARD_SECRET": SECRET}
    return CliRunner(env=environment).invoke(main, arguments)


def test_one_refresh_tells_what_it_made(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO organization (id, name) VALUES ('acme', 'acme');"
            "INSERT INTO dataset (organization_id, name, contract_version) VALUES ('acme', 'pfa', '1.0');"
            "INSERT INTO pfa.mirror (organization_id, row_key, data, revision) VALUES ('acme', 'A', '{}', 1)"
        )
    done = vanguard(database_url, ["refresh-kpis"])
    assert (done.exit_code, done.stderr) == (0, "")
    # A cell for each set of no, one, two or all of five dimensions.
    assert done.stdout.startswith("pfa: 17 cells of 1 organizations in ")
    assert vanguard(database_url, ["refresh-kpis", "--every", "0"]).exit_code == 2


def test_without_a_migrated_database_it_says_what_to_do(server_url: str) -> None:
    with new_database(server_url) as url:
        # The role is the server's, the view this database's.
        done = vanguard(url, ["refresh-kpis"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "vanguard migrate" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("here", [signal.default_int_handler, signal.SIG_IGN], ids=["in front", "in the background"])
def test_going_on_it_refreshes_until_it_is_told_to_stop(database_url: str, here: Any) -> None:
    """In a process of its own; it stops without a traceback, and SIGTERM is no failure. Tests that a script started in
    the background ignore SIGINT themselves.
    """
    before = signal.signal(signal.SIGINT, here)
    try:
        stop(database_url, signal.SIGTERM, status=0)
        stop(database_url, signal.SIGINT, status=1)
        assert signal.getsignal(signal.SIGINT) is here
    finally:
        signal.signal(signal.SIGINT, before)


def stop(database_url: str, sent: signal.Signals, status: int) -> None:
    """Let it refresh twice, and send the signal."""
    environment = os.environ | {"DATABASE_URL": database_url, "VANGUARD_SECRET": SECRET, "PYTHONUNBUFFERED": "1"}
    command = [*VANGUARD, "refresh-kpis", "--every", "1"]
    with child(*command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert process.stdout.readline().startswith("pfa: ")
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == status
    assert "Traceback" not in errors
