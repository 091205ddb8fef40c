"""A database of the release before roles had bounds, made by its own code: what of it goes on after the upgrade."""

import asyncio
import io
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from alembic import command
from sqlalchemy import create_engine

from app.base import exact_json
from app.base.migrations import head
from app.migrate import alembic_config, migrate, sqlalchemy_url
from app.web.auth import Role
from tests.support.own import ready, registered
from tests.support.world import CONTRACTS, User, ids, open_world

ROOT = Path(__file__).parent.parent
# The last commit without readers, floors and narrow grants.
BEFORE = "02e829dfafa4"

# Run by the code of then: rows, a draft, a commit in history, a dataset of the organization's own, tokens.
FILL = """
import asyncio, json, sys
from app.migrate import migrate
from tests.support.own import customers, moved, ready, registered
from app.web.auth import Role
from tests.support.world import CONTRACTS, FLEET, line, open_world, vehicle

async def fill(url):
    async with open_world(url) as world:
        tokens = {}
        for organization in ("acme", "other"):
            await world.organization(organization)
            await ready(world)
            ann = await world.user(f"ann-{organization}", organization, Role.ADMIN)
            await world.mirror({"A": line(equipment=organization)}, organization)
            await world.mirror({"V": vehicle(remark=organization)}, organization, FLEET)
            await ann.draft("A", {"model": organization})
            await ann.on("fleet").draft("V", {"seats": 5})
            assert (await ann.on("fleet").commit("V")).status_code == 200
            await registered(ann)
            await moved(ann.on("customers"), "promote")
            own = ann.on("customers")
            await own.draft("C", {"company": organization, "tier": "gold"}, op="insert")
            assert (await own.commit("C")).status_code == 200
            await own.draft("C", {"tier": "silver"})
            tokens[organization] = ann.token
        print(json.dumps(tokens))

migrate(sys.argv[1], CONTRACTS)
asyncio.run(fill(sys.argv[1]))
"""


@pytest.fixture(scope="session")
def code_of_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of that commit; skipped where this is no checkout with its history."""
    directory = tmp_path_factory.mktemp("before")
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "app", "migrations", "sql", "tests", "alembic.ini"],
        capture_output=True,
        timeout=60,
    )
    if packed.returncode:
        pytest.skip(f"{BEFORE} is not here: this is no checkout with its history")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory


async def test_a_database_of_before_goes_on_with_roles(
    create_database: Callable[..., str], code_of_before: Path
) -> None:
    """Given a database of before with tokens, drafts, history and datasets of two organizations' own in use, when it is
    migrated, then all of that goes on, policies are in every schema, and a reader sees its own organization alone.
    """
    url = create_database()
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", FILL, url], cwd=code_of_before, env={"PYTHONPATH": str(code_of_before), "PATH": ""},
        capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    tokens = exact_json.decode(done.stdout.splitlines()[-1].encode())
    assert migrate(url, CONTRACTS, retention={"history": 365}) == head()
    async with open_world(url) as world:
        for organization, token in tokens.items():
            ann = User(world, f"ann-{organization}", organization, token)
            assert ids(await ann.rows(syncState="draft")) == ["A"]
            assert ids(await ann.rows(search=organization)) == ["A"]
            assert (await ann.commit("A")).status_code == 200
            assert (await ann.on("fleet").get("rows/V/history")).status_code == 200
            assert ids(await ann.on("customers").rows(syncState="draft")) == ["C"]
            assert (await ann.on("customers").commit("C")).status_code == 200
        schemas = [row[0] for row in await world.db.fetch("SELECT schema_name FROM contract")]
    assert len(schemas) == 2
    with psycopg.connect(url, autocommit=True) as owner:
        for schema in (*schemas, "pfa", "fleet"):
            secured = owner.execute(
                "SELECT array_agg(tablename ORDER BY tablename) FROM pg_policies WHERE schemaname = %s"
                " AND policyname = 'reader'",
                [schema],
            ).fetchone()
            assert secured == (["change", "history", "report"],), schema
        assert owner.execute("SELECT days FROM retention WHERE kind = 'history'").fetchone() == (365,)
        owner.execute("CREATE ROLE read_upgraded LOGIN IN ROLE vanguard_read")
        try:
            owner.execute("INSERT INTO reader VALUES ('read_upgraded', 'acme')")
            with psycopg.connect(url, user="read_upgraded", autocommit=True) as reader:
                found: list[object] = []
                for schema in (*schemas, "pfa", "fleet"):
                    for relation in ("report", "history", "change"):
                        rows = reader.execute(f"SELECT organization_id FROM {schema}.{relation}".encode()).fetchall()
                        found += rows
                assert set(found) == {("acme",)}
                assert len(found) > 4
        finally:
            owner.execute("DROP OWNED BY read_upgraded")
            owner.execute("DROP ROLE read_upgraded")


async def test_down_and_up_again_policies_are_in_every_schema(database_url: str) -> None:
    """Given an organization's own dataset, when a release goes back and comes again, then reports see it as before."""
    async with open_world(database_url) as world:
        await world.organization("acme")
        await ready(world)
        await registered(await world.user("ann", "acme", Role.ADMIN))
    before = policies(database_url)
    assert {schema for schema, *_ in before} > {"pfa", "public"}
    with create_engine(sqlalchemy_url(database_url)).begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0015")
    migrate(database_url, CONTRACTS)
    assert policies(database_url) == before


def policies(url: str) -> list[tuple[object, ...]]:
    """All that there are, with what they ask."""
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT schemaname, tablename, policyname, qual FROM pg_policies ORDER BY 1, 2, 3"
        ).fetchall()
