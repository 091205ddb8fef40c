"""Cell edits of a session against bare drafts, and taking cells out of drafts against saving them."""

from collections.abc import AsyncIterator
from statistics import median
from typing import Any

from benchmarks.api import request
from benchmarks.data import AT, ORGANIZATION, PATH, Bench
from benchmarks.figures import Figure, at_most

SESSION = "bench-edits"
BEGIN = """
INSERT INTO public.edit_session (organization_id, id, dataset, user_id, mode, created_at, expires_at)
VALUES ($1, $2, 'pfa', $3, 'full_table', $4, 'infinity')
    ON CONFLICT DO NOTHING"""
AHEAD = 5  # rounds


async def edits(bench: Bench) -> AsyncIterator[Figure]:
    """One edit and ten thousand, each against as many drafts outside of sessions; unset against save."""
    place, writer = bench.big, bench.big.people["writer"]
    await place.owner.execute(BEGIN, ORGANIZATION, SESSION, writer.id, AT)
    every = f"{bench.big.rows:,} lines"

    def drafting(keys: list[str], value: int, **more: Any) -> str:
        drafts = [{"id": key, "delta": {"monthlyRate": value}} for key in keys]
        return request("POST", f"{PATH}/drafts", writer.token, {"modifications": drafts, **more})

    def unsetting(keys: list[str]) -> str:
        drafts = [{"id": key, "unset": ["monthlyRate"]} for key in keys]
        return request("POST", f"{PATH}/drafts", writer.token, {"modifications": drafts})

    def editing(keys: list[str], value: int) -> str:
        wanted = [{"id": key, "field": "monthlyRate", "value": value} for key in keys]
        return request("POST", f"{PATH}/sessions/{SESSION}/edits/batch", writer.token, {"edits": wanted})

    async def timed(text: str) -> float:
        (taken,) = await bench.api.turns([text], rounds=1)
        return taken

    async def clear() -> None:
        await timed(request("POST", f"{PATH}/discard", writer.token, {"sessionId": SESSION}))
        await timed(request("POST", f"{PATH}/discard", writer.token, {"all": True}))

    await clear()
    drafted, edited = [], []
    for number in range(AHEAD + bench.rounds(150)):
        key, other = f"PFA-{number * 2 + 1:07d}", f"PFA-{number * 2 + 2:07d}"
        drafted.append(await timed(drafting([key], 5000 + number)))
        one = {"id": other, "field": "monthlyRate", "value": 5000 + number}
        edited.append(await timed(request("POST", f"{PATH}/sessions/{SESSION}/edits", writer.token, one)))
    name = f"one cell edit with validation against a bare draft, {every}"
    yield at_most(name, median(edited[AHEAD:]) / median(drafted[AHEAD:]), 1.5)
    await clear()

    many = min(10_000, place.rows // 4)
    first = [f"PFA-{n * 2 + 1:07d}" for n in range(many)]
    second = [f"PFA-{n * 2 + 2:07d}" for n in range(many)]
    drafted, edited, saved, unset = [], [], [], []
    for turn in range(1 if bench.quick else 5):
        drafted.append(await timed(drafting(first, 6000 + turn)))
        edited.append(await timed(editing(second, 6000 + turn)))
        await clear()
        half = first[: many // 2]
        saved.append(await timed(drafting(half, 7000 + turn)))
        unset.append(await timed(unsetting(half)))
        await place.owner.execute("VACUUM pfa.modification")
    name = f"a batch of {many:,} cell edits in as many rows against {many:,} bare drafts"
    yield at_most(name, median(edited) / median(drafted), 2)
    name = f"unset of {many // 2:,} cells against saving them"
    yield at_most(name, median(unset) / median(saved), 1.2)
