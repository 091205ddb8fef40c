"""Change requests: submitting a session of 50,000 rows against saving it, and merging it against a plain UPDATE."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from statistics import median
from typing import Any

import msgspec

from app.change_requests.conflicts import find_conflicts
from app.change_requests.merge import MergeRequest, merge
from app.change_requests.requests import ChangeRequest, Person, digest_of
from app.change_requests.review import ApproveRequest, approve
from app.change_requests.submission import SubmitRequest, submit
from app.contracts import PFA
from app.drafts import MAX_DRAFTS, Draft, Saving, save
from app.engine.desk import Desk
from app.previews.look import DiffPage
from app.previews.preview import preview
from benchmarks.data import AT, ORGANIZATION, Bench, Place, save_drafts
from benchmarks.figures import Figure, at_most, plain

EDITED, OTHERS, TURNS = 50_000, 10_000, 2
SCHEMA = PFA.schema
# The same tables without an upstream: what is merged is in the mirror at once.
LOCAL = msgspec.structs.replace(PFA, upstream=None)
BOSS = Person("boss", admin=True)

MISSED_SUBMIT = """\
A submission looks at every row as a preview does, writes a change for each, and each modification again: see which of
the three has grown."""
MISSED_MERGE = """\
A merge writes the mirror as a plain UPDATE does, and beside it the changes, the history and the modifications of these
rows, whose images it makes anew: see which of them has grown."""

BEGIN = """
INSERT INTO public.edit_session (organization_id, id, dataset, user_id, mode, created_at, expires_at)
VALUES ($1, $2, $3, $4, 'full_table', $5, $5::timestamptz + interval '10 years')"""
PLAIN = f"""
UPDATE {SCHEMA}.mirror AS m
   SET data = m.data || jsonb_build_object('monthlyRate', $3::int, 'forecastEnd', '2034-01-01', 'model', 'P' || $3),
       version = m.version + 1
 WHERE m.organization_id = $1
   AND m.row_key = ANY ($2::text[])"""
FORGET = (
    f"DELETE FROM {SCHEMA}.modification WHERE organization_id = $1 AND user_id = ANY ($2::text[])",
    f"DELETE FROM {SCHEMA}.change WHERE organization_id = $1 AND user_id = ANY ($2::text[])",
    f"DELETE FROM {SCHEMA}.step WHERE organization_id = $1 AND user_id = ANY ($2::text[])",
)


async def requests(bench: Bench) -> AsyncIterator[Figure]:
    """Saving, submitting and merging a session; the plain UPDATE of its rows before it."""
    rows = min(EDITED, bench.big.rows // 4)
    turns = [await _Turn(bench.big, rows, number).take() for number in range(1 if bench.quick else TURNS)]
    saved, submitted, plainly, merged = (median(column) for column in zip(*turns, strict=True))
    yield plain(f"submitting a session of {rows:,} rows", rows / submitted, "rows/s")
    name = f"submitting a session of {rows:,} rows against saving its drafts"
    yield at_most(name, submitted / saved, 1, missed=MISSED_SUBMIT)
    yield plain(f"merging {rows:,} rows", rows / merged, "rows/s")
    name = f"merging {rows:,} rows under {min(OTHERS, rows // 5):,} drafts of others against a plain UPDATE of them"
    yield at_most(name, merged / plainly, 3, missed=MISSED_MERGE)


class _Turn:
    """Every fourth line has three cells edited, two of which rules look at; somebody else has drafts over some."""

    def __init__(self, place: Place, rows: int, number: int):
        self._place, self._number = replace(place), number
        self._editor, self._writer = place.people["editor"].id, place.people["writer"].id
        self._session = f"bench-{number}"
        self._keys = [f"PFA-{n * 4:07d}" for n in range(1, rows + 1)]

    async def take(self) -> tuple[float, float, float, float]:
        """Seconds of saving, submitting, the plain UPDATE, and merging."""
        owner = self._place.owner
        others = self._keys[:: max(1, len(self._keys) // min(OTHERS, len(self._keys) // 5))]
        await save_drafts(self._place, "writer", [Draft(id=key, delta={"equipment": "E"}) for key in others])
        await owner.execute(BEGIN, ORGANIZATION, self._session, PFA.name, self._editor, AT)
        saved = await self._save()
        await owner.execute(f"VACUUM (ANALYZE) {SCHEMA}.modification")
        seen = await self._in_transaction(
            lambda desk: preview(desk, self._editor, self._session, DiffPage(1, None), AT)
        )
        wanted = SubmitRequest(title="bench", digest=seen["digest"])
        started = time.perf_counter()
        found = await self._in_transaction(lambda desk: submit(desk, self._editor, self._session, wanted, AT))
        submitted = time.perf_counter() - started
        started = time.perf_counter()
        await owner.execute(PLAIN, ORGANIZATION, self._keys, self._number)
        plainly = time.perf_counter() - started
        await self._restore(found)
        await owner.execute(f"VACUUM (ANALYZE) {SCHEMA}.mirror, {SCHEMA}.change, {SCHEMA}.modification")
        digest = await self._in_transaction(lambda desk: self._digest(desk, found))
        await self._in_transaction(lambda desk: approve(desk, BOSS, found.id, ApproveRequest(digest=digest), AT))
        started = time.perf_counter()
        answer = await self._in_transaction(lambda desk: merge(desk, BOSS, found.id, MergeRequest(digest=digest), AT))
        merged = time.perf_counter() - started
        assert answer["rowsAffected"] == len(self._keys)
        for statement in FORGET:
            await owner.execute(statement, ORGANIZATION, [self._editor, self._writer])
        await owner.execute(f"VACUUM {SCHEMA}.mirror, {SCHEMA}.change, {SCHEMA}.modification")
        return saved, submitted, plainly, merged

    async def _save(self) -> float:
        drafts = [
            Draft(
                id=key, delta={"monthlyRate": 100 + n % 900, "forecastEnd": "2033-01-01", "model": f"M{self._number}"}
            )
            for n, key in enumerate(self._keys)
        ]
        how, seconds = Saving(session_id=self._session), 0.0
        for start in range(0, len(drafts), MAX_DRAFTS):
            batch = drafts[start : start + MAX_DRAFTS]
            started = time.perf_counter()
            await self._in_transaction(lambda desk, batch=batch: save(desk, self._editor, batch, AT, how))
            seconds += time.perf_counter() - started
        return seconds

    async def _restore(self, found: ChangeRequest) -> None:
        """The lines are again as they were drafted on: what is to be merged meets no conflict."""
        await self._place.owner.execute(
            f"UPDATE {SCHEMA}.mirror AS m SET data = m.data || c.base FROM {SCHEMA}.change AS c"
            " WHERE c.organization_id = $1 AND c.change_request_id = $2 AND m.organization_id = $1"
            " AND m.row_key = c.row_key",
            ORGANIZATION,
            found.id,
        )

    async def _digest(self, desk: Desk, found: ChangeRequest) -> str:
        conflicts = await find_conflicts(desk, found.id)
        assert not conflicts, conflicts[0]
        return digest_of(found, conflicts)

    async def _in_transaction(self, work: Any) -> Any:
        async with self._place.database.transaction() as connection:
            return await work(Desk(connection, LOCAL, ORGANIZATION))
