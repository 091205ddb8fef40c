"""A database that was put back to an earlier state: nothing that somebody remembers of the lost time fits it."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.base.migrations import head
from app.dev.postgres import embedded_bin_dir
from app.migrate import migrate
from app.web.auth import Role
from tests.support.children import child
from tests.support.world import CONTRACTS, FLEET, User, World, committed, line, open_world, refused, vehicle

TOLD = "the database was restored or copied: its counters go on from a new number"


@pytest.fixture
def database_url(create_database: Callable[..., str], template: str) -> str:
    """A database that nobody else is connected to: it is copied, and put back."""
    return create_database(template)


def migrated(url: str, **options: Any) -> list[str]:
    """What a migration tells."""
    told: list[str] = []
    assert migrate(url, CONTRACTS, told.append, **options) == head()
    return told


def number(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT number FROM incarnation").fetchone()
        assert found is not None
        return int(found[0])


async def people(world: World) -> tuple[User, User]:
    """Ann, who had a workspace when the backup was made, and bob, who came later."""
    return await world.user("ann"), await world.user("bob")


async def begin(url: str) -> dict[str, User]:
    """What is in the backup: rows, a draft of ann's, a refused change."""
    async with open_world(url) as world:
        await world.organization("acme")
        ann, bob = await people(world)
        await world.mirror({key: line() for key in "ABCDE"})
        await world.mirror({key: vehicle() for key in "VW"}, contract=FLEET)
        await ann.draft("A", {"model": "of the backup"})
    return {"ann": ann, "bob": bob}


def at(world: World, user: User, dataset: str = "pfa") -> User:
    """The same person, at a world over another database."""
    return User(world, user.id, user.organization, user.token, dataset)


async def live(world: World, users: dict[str, User], word: str) -> dict[str, Any]:
    """Some work, the same each time but for a word; what clients remember of it."""
    ann, bob = at(world, users["ann"]), at(world, users["bob"])
    seen: dict[str, Any] = {"versions": {}, "mirror": {}, "tags": {}}
    for key in ("A", "B"):
        seen["versions"][key] = (await ann.draft(key, {"model": word}))["version"]
    seen["versions"]["C"] = (await bob.draft("C", {"model": word}))["version"]
    for _ in range(2):
        await ann.on("fleet").draft("V", {"remark": word + str(_)})
        await committed(ann.on("fleet"))
    await ann.on("fleet").draft("W", op="delete")
    await committed(ann.on("fleet"))
    await ann.on("fleet").draft("W", vehicle(), op="insert")
    await committed(ann.on("fleet"))
    for key in ("V", "W"):
        seen["mirror"][key] = (await ann.on("fleet").row(key))["mirrorVersion"]
    await bob.draft("D", {"model": word})
    await committed(bob, "D")
    seen["change"] = str(await world.db.fetchval("SELECT max(id) FROM pfa.change"))
    seen["tags"]["ann", "rows/A"] = (await ann.get("rows/A")).headers["ETag"]
    for user in (ann, bob):
        for path in ("rows", "kpis", "rows?syncState=draft", "rows?search=crane"):
            seen["tags"][user.id, path] = (await user.get(path)).headers["ETag"]
        seen[user.id] = (await user.get("rows", params={"pageSize": "2"})).json()["pagination"]["nextCursor"]
    seen["drafts"] = (await ann.get("drafts", params={"pageSize": "1"})).json()["pagination"]["nextCursor"]
    assert seen["ann"]
    assert seen["drafts"]
    return seen


async def check_nothing_fits(url: str, users: dict[str, User], *lost: dict[str, Any]) -> None:
    """Nothing of what was seen in the lost times fits the restored database, before and after the same work there."""
    async with open_world(url) as world:
        erin = await world.user("erin", role=Role.ENGINEER)
        assert (await at(world, users["ann"]).row("A"))["data"]["model"] == "of the backup"
        for seen in lost:
            await check_refused(world, users, erin, seen)
        await live(world, users, "after the restore")
        await world.db.execute(
            "UPDATE pfa.change SET state = 'sync_error', settled_at = now() WHERE state = 'committed'"
        )
        for seen in lost:
            await check_refused(world, users, erin, seen)


async def check_refused(world: World, users: dict[str, User], erin: User, seen: dict[str, Any]) -> None:
    """ETags, cursors, versions of drafts and rows, ids of changes."""
    ann, bob = at(world, users["ann"]), at(world, users["bob"])
    for (who, path), tag in seen["tags"].items():
        answer = await at(world, users[who]).get(path, headers={"If-None-Match": tag})
        assert answer.status_code == 200, (who, path)
    for user in (ann, bob):
        refused(await user.get("rows", params={"after": seen[user.id], "pageSize": "2"}), 400, "INVALID_CURSOR")
    refused(await ann.get("drafts", params={"after": seen["drafts"]}), 400, "INVALID_CURSOR")
    for key, version in seen["versions"].items():
        person = bob if key == "C" else ann
        draft = {"id": key, "delta": {"model": "lost"}, "expectedVersion": version}
        problem = refused(await person.post("drafts", {"modifications": [draft]}), 422, "VALIDATION_FAILED")
        assert problem["errors"][0]["code"] == "VERSION_CONFLICT"
    for key, version in seen["mirror"].items():
        assert (await ann.on("fleet").row(key))["mirrorVersion"] != version
    refused(await erin.post("sync/retry", {"ids": [seen["change"]]}), 404, "NOTHING_FAILED")


async def test_nothing_remembered_fits_a_restored_database(
    database_url: str, create_database: Callable[..., str]
) -> None:
    """Given a backup, and work after it, when the backup is restored and migrated, then ETags, versions, cursors and
    ids of the lost time are refused; and so they are when it is restored a second time.
    """
    assert migrated(database_url) == []  # nobody has seen a counter of this copy
    users = await begin(database_url)
    backup = create_database(database_url)
    async with open_world(database_url) as world:
        seen = await live(world, users, "lost")
    again = create_database(backup)
    assert migrated(backup) == [TOLD]
    await check_nothing_fits(backup, users, seen)
    first = number(backup)
    assert migrated(backup) == []
    assert number(backup) == first
    async with open_world(backup) as world:
        lost_too = await live(world, users, "lost, too")
    assert migrated(again) == [TOLD]
    await check_nothing_fits(again, users, seen, lost_too)
    assert number(again) != first


async def test_what_is_of_the_backup_goes_on(database_url: str, create_database: Callable[..., str]) -> None:
    """Versions that the backup has itself stay good, figures stay what they were, and new organizations begin beyond
    the number.
    """
    migrated(database_url)
    users = await begin(database_url)
    async with open_world(database_url) as world:
        ann = at(world, users["ann"])
        row, page, kpis = await ann.row("A"), await ann.page(), (await ann.get("kpis")).json()
    restored = create_database(database_url)
    migrated(restored)
    async with open_world(restored) as world:
        ann = at(world, users["ann"])
        assert await ann.row("A") == row
        assert (await ann.page())["data"] == page["data"]
        assert (await ann.get("kpis")).json()["totals"] == kpis["totals"]
        await ann.draft("A", {"model": "next"}, expectedVersion=row["version"])


def programs(bin_dir: Path | None) -> Path:
    """Where pg_dump and pg_restore of the server's own release are."""
    if "TEST_DATABASE_URL" in os.environ:
        pytest.skip("pg_dump of the given server's release is not known to be here")
    return bin_dir or embedded_bin_dir()


def run(program: Path, *options: str) -> None:
    with child(str(program), *options, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output


@pytest.mark.parametrize("in_place", [False, True], ids=["into a new database", "into the same database"])
async def test_a_dump_is_noticed(
    database_url: str, create_database: Callable[..., str], bin_dir: Path | None, tmp_path: Path, in_place: bool
) -> None:
    """With pg_dump and pg_restore, as docs/operations.md has it."""
    folder, dump = programs(bin_dir), str(tmp_path / "dump")
    migrated(database_url)
    users = await begin(database_url)
    run(folder / "pg_dump", "--format=custom", f"--file={dump}", database_url)
    async with open_world(database_url) as world:
        seen = await live(world, users, "lost")
    target = database_url if in_place else create_database()
    clean = ["--clean", "--if-exists"] if in_place else []
    run(folder / "pg_restore", *clean, "--exit-on-error", f"--dbname={target}", dump)
    assert migrated(target) == [TOLD]
    await check_nothing_fits(target, users, seen)


async def test_a_snapshot_is_told(database_url: str) -> None:
    """What leaves no trace is told by the operator, each time."""
    migrated(database_url)
    await begin(database_url)
    assert migrated(database_url) == []
    assert migrated(database_url, restored=True) == [TOLD]
    first = number(database_url)
    assert migrated(database_url, restored=True) == [TOLD]
    assert number(database_url) > first
    assert number(database_url) < 2**53  # a client of JavaScript counts so far


def test_an_empty_database_counts_from_nothing(database_url: str) -> None:
    """A copy that nobody has worked with, and a new database, are not restored, whatever is told."""
    assert migrated(database_url, restored=True) == []
    assert number(database_url) == 0
