"""Edit sessions: previewing one of 50,000 rows, against reading these rows."""

from collections.abc import AsyncIterator

from app.base import exact_json
from app.contracts import PFA
from app.drafts import MAX_DRAFTS
from app.engine.desk import Desk
from app.previews.look import DiffPage
from app.previews.preview import preview
from benchmarks.api import request
from benchmarks.data import AT, ORGANIZATION, PATH, Bench, Place
from benchmarks.figures import Figure, at_most, plain
from benchmarks.timing import clocked, interleaved

SCHEMA = PFA.schema
SESSION = "bench"
EDITED = 50_000

MISSED_PREVIEW = """\
One statement streams the session's rows, and Python asks the rules about each of them. See whether most rows are clear
(their cells are compared one by one where others have changed them), and which rules look at the cells that change."""

BEGIN = """
INSERT INTO public.edit_session (organization_id, id, dataset, user_id, mode, created_at, expires_at)
VALUES ($1, $2, $3, $4, 'full_table', $5, $5::timestamptz + interval '10 years')"""
END = "DELETE FROM public.edit_session WHERE organization_id = $1 AND id = $2"
FORGET = f"DELETE FROM {SCHEMA}.modification WHERE organization_id = $1 AND user_id = $2"
# The session's rows as the user sees them.
READ = f"""
SELECT (m.data || x.pending || x.delta)::text AS document
  FROM {SCHEMA}.modification AS x
 CROSS JOIN LATERAL (
           SELECT m.data FROM {SCHEMA}.mirror AS m WHERE m.organization_id = $1 AND m.row_key = x.row_key LIMIT 1
       ) AS m
 WHERE x.organization_id = $1 AND x.user_id = $2 AND x.session_id = $3 AND x.draft_op IS NOT NULL
 ORDER BY x.row_key"""


async def previews(bench: Bench) -> AsyncIterator[Figure]:
    """All of a preview, figures of KPIs included, and what its rows take to read and decode."""
    session = _Session(bench.big, min(EDITED, bench.big.rows // 2))
    await session.begin(bench)
    reading, previewing = await interleaved(
        clocked(session.read), clocked(session.preview), rounds=bench.rounds(10), seconds=60, warm_ups=1
    )
    await session.end()
    rows = session.rows
    yield plain(f"reading {rows:,} rows and decoding them", rows / reading, "rows/s")
    yield plain(f"previewing a session of {rows:,} rows", rows / previewing, "rows/s")
    name = f"previewing a session of {rows:,} rows against reading and decoding them"
    yield at_most(name, previewing / reading, 3, missed=MISSED_PREVIEW)


class _Session:
    """Every other line has three cells edited, two of which rules look at."""

    def __init__(self, place: Place, rows: int):
        self._place, self._editor, self.rows = place, place.people["editor"], rows

    async def begin(self, bench: Bench) -> None:
        await self._place.owner.execute(BEGIN, ORGANIZATION, SESSION, PFA.name, self._editor.id, AT)
        drafts = [
            {
                "id": f"PFA-{n * 2:07d}",
                "delta": {"monthlyRate": 100 + n % 900, "forecastEnd": "2033-01-01", "model": "M"},
            }
            for n in range(1, self.rows + 1)
        ]
        for start in range(0, self.rows, MAX_DRAFTS):
            body = {"sessionId": SESSION, "modifications": drafts[start : start + MAX_DRAFTS]}
            await bench.api.turns([request("POST", f"{PATH}/drafts", self._editor.token, body)], rounds=1)
        await self._place.owner.execute(f"VACUUM (ANALYZE) {SCHEMA}.modification")

    async def read(self) -> None:
        async with self._place.database.connection() as connection:
            records = await connection.raw.fetch(READ, ORGANIZATION, self._editor.id, SESSION)
        assert len(records) == self.rows
        for record in records:
            exact_json.decode(record["document"])

    async def preview(self) -> None:
        async with self._place.database.transaction() as connection:
            desk = Desk(connection, PFA, ORGANIZATION)
            found = await preview(desk, self._editor.id, SESSION, DiffPage(100, None), AT)
        assert found["summary"].rows_updated == self.rows

    async def end(self) -> None:
        await self._place.owner.execute(END, ORGANIZATION, SESSION)
        await self._place.owner.execute(FORGET, ORGANIZATION, self._editor.id)
        await self._place.owner.execute(f"VACUUM {SCHEMA}.modification")
