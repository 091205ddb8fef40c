"""The data that the scripts run on: seeded lines of one organization, and users whose drafts the application saved."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import asyncpg

from app.base.database import Database
from app.base.settings import Settings
from app.contracts import PFA
from app.dev.seed import FIRST_DAY, seed
from app.drafts import MAX_DRAFTS, Draft, save
from app.engine.desk import Desk
from app.migrate import migrate
from app.organizations import add_organization

ORGANIZATION = "acme"
LINES = 200_000
AT = datetime(2026, 3, 1, tzinfo=UTC)
SECRET = "nothing is signed with this in a benchmark"
OTHERS = 100
AFTER_ALL = date(2040, 1, 1)  # no seeded line begins this late


def fill(url: str, lines: int) -> None:
    """Migrate the database and fill it, unless that was done before."""
    migrate(url)
    asyncio.run(_fill(url, lines))


async def _fill(url: str, lines: int) -> None:
    connection = await asyncpg.connect(url)
    database = Database(Settings(database_url=url, secret=SECRET, statement_timeout=600))
    await database.open()
    try:
        if await connection.fetchval("SELECT count(*) FROM public.organization WHERE id = $1", ORGANIZATION):
            return
        await add_organization(database, ORGANIZATION, ORGANIZATION)
        await seed(url, ORGANIZATION, lines)
        head = await connection.fetch(
            "SELECT row_key FROM pfa.mirror WHERE organization_id = $1 ORDER BY f_forecast_start, row_key LIMIT $2",
            ORGANIZATION, lines // 4,
        )  # fmt: skip
        for user, drafts in drafts_of(lines, [record["row_key"] for record in head]).items():
            for first in range(0, len(drafts), MAX_DRAFTS):
                async with database.transaction() as transaction:
                    await save(Desk(transaction, PFA, ORGANIZATION), user, drafts[first : first + MAX_DRAFTS], AT)
        # What the server has not flushed yet, VACUUM cannot mark as visible to all.
        await connection.execute("CHECKPOINT")
        await connection.execute("VACUUM (ANALYZE) pfa.modification")
    finally:
        await connection.close()
        await database.close()


def drafts_of(lines: int, head: list[str]) -> dict[str, list[Draft]]:
    """User -> drafts: 50; a twentieth of the lines, moved to other days; the whole head, moved to the end; and others.

    A planner that knew three users only would take each for a third of everything.
    """
    return {
        "few": [_moved(_key(number * (lines // 50) + 1), FIRST_DAY, number) for number in range(50)],
        "spread": [_moved(_key(number * 20 + 1), FIRST_DAY, number) for number in range(lines // 20)],
        "mover": [_moved(key, AFTER_ALL, number) for number, key in enumerate(head)],
    } | {
        f"user{user}": [_moved(_key((user * 97 + n * 31) % lines + 1), FIRST_DAY, n) for n in range(50)]
        for user in range(OTHERS)
    }


def _key(number: int) -> str:
    return f"PFA-{number:07d}"


def _moved(key: str, begin: date, number: int) -> Draft:
    """Another start, on one of a thousand days from `begin`."""
    return Draft(id=key, delta={"forecastStart": str(begin + timedelta(number * 7919 % 1000))})
