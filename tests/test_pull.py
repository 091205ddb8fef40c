"""Pull: upstream's rows into the mirror, exactly what differs, and everybody's drafts brought up to date."""

from collections.abc import AsyncIterator

import pytest

from tests.ledger import Ledger
from tests.syncing import Yard, open_yard, van


@pytest.fixture
async def yard(database_url: str) -> AsyncIterator[Yard]:
    """A ledger of seven vehicles, read three at a time."""
    ledger = Ledger("plate", {f"V-{number}": van(mileage=number * 100) for number in range(1, 8)})
    async with open_yard(database_url, ledger) as yard:
        yield yard


async def test_the_first_pull_brings_everything(yard: Yard) -> None:
    await yard.work()
    mirror = await yard.mirror()
    assert mirror == yard.ledger.rows
    (run,) = await yard.runs()
    assert (run["state"], run["whole"], run["rows_read"], run["inserted"]) == ("succeeded", True, 7, 7)


async def test_nothing_is_written_for_rows_that_did_not_change(yard: Yard) -> None:
    await yard.work()
    before = await yard.world.db.fetch("SELECT row_key, version, revision, xmin::text FROM fleet.mirror")
    revision = await yard.world.db.fetchval("SELECT revision FROM dataset WHERE name = 'fleet'")
    await yard.later(days=1)
    assert await yard.world.db.fetch("SELECT row_key, version, revision, xmin::text FROM fleet.mirror") == before
    assert await yard.world.db.fetchval("SELECT revision FROM dataset WHERE name = 'fleet'") == revision
    assert (await yard.runs())[-1]["unchanged"] == 7


async def test_a_pull_of_what_is_new_reads_that_and_an_overlap(yard: Yard) -> None:
    """Given one row that is an hour younger than the others, then two pulls later it alone is read."""
    await yard.work()
    yard.ledger.at = yard.world.clock()
    yard.ledger.put("V-3", mileage=999)
    for read in (7, 1):
        await yard.later(hours=1)
        run = (await yard.runs())[-1]
        assert (run["whole"], run["rows_read"]) == (False, read)
    assert (await yard.mirror())["V-3"]["mileage"] == 999
