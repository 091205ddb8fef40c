"""KPIs that are read while commits and refreshes run: each answer has the figures of one revision, the one it names.

Writers note what they committed at which revision. When all is over, the model tells the figures of every revision, and
each answer is held against them. For a long run:

    VANGUARD_KPI_COMMITS=3000 python -m pytest -s tests/test_kpis_concurrent.py
"""

import asyncio
import os
from dataclasses import dataclass
from itertools import count
from typing import Any

import pytest

from app.base import exact_json
from tests.support.kpi_model import Kpis, plain
from tests.support.model import Document, Draft, Model, Query
from tests.support.world import FLEET, User, World, vehicle

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

READERS, WRITERS, EACH = 3, 3, 4
COMMITS = int(os.environ.get("VANGUARD_KPI_COMMITS", "12"))  # of each writer
FLEET_ROWS = {
    f"V{number:02}": vehicle(
        depot="North" if number % 2 else "South", mileage=1000, seats=number, inspectedOn=f"2026-01-{number + 1:02}"
    )
    for number in range(WRITERS * EACH)
}
# What one reader has drafted all the time: another value, a deletion, a value that is not there.
DRAFTED = {
    "V00": Draft("update", {"mileage": 7}),
    "V01": Draft("delete"),
    "V05": Draft("update", {"depot": None, "inspectedOn": "2025-12-31"}),
}
QUESTIONS: list[tuple[Query, tuple[str, ...]]] = [
    ((), ()),
    ((), ("depot",)),
    ([("depot", "North")], ("kind", "depot")),
    ((), ("depot", "inService")),
    ([("mileage[gt]", "900")], ("depot",)),
]


@dataclass
class Answer:
    """What a reader was told."""

    user: str
    question: int
    body: Document


async def writes(user: User, mine: list[str], told: dict[int, dict[str, Document]]) -> None:
    """Move mileage between one's own vehicles, and one of them between the depots, in one commit each time."""
    mileage = dict.fromkeys(mine, 1000)
    for number in range(COMMITS):
        giver, taker = mine[number % EACH], mine[(number + 1) % EACH]
        mileage[giver] -= number
        mileage[taker] += number
        deltas: dict[str, Document] = {key: {"mileage": mileage[key]} for key in (giver, taker)}
        deltas[giver] |= {"depot": ("North", "South")[number // EACH % 2], "inService": number % 3 > 0}
        deltas[taker] |= {"inspectedOn": f"2026-{1 + number % 9:02}-01"}
        body = {"modifications": [{"id": key, "delta": delta} for key, delta in deltas.items()]}
        assert (await user.post("drafts", body)).status_code == 200
        response = await user.commit()
        assert response.status_code == 200, response.text
        revision = response.json()["revision"]
        assert revision not in told
        told[revision] = deltas


async def reads(user: User, answers: list[Answer], told: dict[int, dict[str, Document]]) -> None:
    """Ask one question after the other, until the writers are done and each was asked once more."""
    turns = count()
    while len(told) <= WRITERS * COMMITS or next(turns) < len(QUESTIONS):
        question = len(answers) % len(QUESTIONS)
        query, keys = QUESTIONS[question]
        response = await user.get("kpis", [*query, ("groupBy", ",".join(keys))])
        assert response.status_code == 200, response.text
        answers.append(Answer(user.id, question, exact_json.decode(response.content)))


async def refreshes(world: World, told: dict[int, dict[str, Document]]) -> None:
    """One refresh after the other, as long as there are commits."""
    while len(told) <= WRITERS * COMMITS:
        await world.db.execute("SELECT fleet.refresh_kpi()")


async def test_every_answer_has_the_figures_of_its_revision(world: World) -> None:
    """Given writers whose commits keep the sum of mileage, when readers ask while a refresh runs, then no answer mixes
    two revisions.
    """
    await world.mirror(FLEET_ROWS, contract=FLEET)
    await world.db.execute("SELECT fleet.refresh_kpi()")
    keys = sorted(FLEET_ROWS)
    writers = [(await world.user(f"writer{n}")).on("fleet") for n in range(WRITERS)]
    readers = [(await world.user(f"reader{n}")).on("fleet") for n in range(READERS)]
    for key, draft in DRAFTED.items():
        await readers[0].draft(key, draft.delta, op=draft.op)

    told: dict[int, dict[str, Document]] = {0: {}}
    answers: list[Answer] = []
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(refreshes(world, told))
        for number, user in enumerate(writers):
            tasks.create_task(writes(user, keys[number * EACH : (number + 1) * EACH], told))
        for user in readers:
            tasks.create_task(reads(user, answers, told))
    assert sorted(told) == list(range(WRITERS * COMMITS + 1))

    wrong = list(wrong_ones(answers, told))
    from_view = [answer for answer in answers if answer.body["metadata"]["viewRevision"] is not None]
    print(
        f"{len(answers)} answers, {len({answer.body['metadata']['revision'] for answer in answers})} revisions,"
        f" {len(from_view)} from the view, {len(wrong)} wrong"
    )
    assert from_view, "some answers started from the view"
    assert not wrong, wrong[:3]


def wrong_ones(answers: list[Answer], told: dict[int, dict[str, Document]]) -> Any:
    """The answers that differ from the model at their revision."""
    model = Model(FLEET, {key: {"plate": key, **row} for key, row in FLEET_ROWS.items()})
    model.of("reader0").drafts |= DRAFTED
    by_revision: dict[int, list[Answer]] = {}
    for answer in answers:
        by_revision.setdefault(answer.body["metadata"]["revision"], []).append(answer)
    for revision in sorted(told):
        for key, delta in told[revision].items():
            model.mirror[key] |= delta
        for answer in by_revision.get(revision, []):
            query, keys = QUESTIONS[answer.question]
            wanted = Kpis(model, answer.user, query, keys, ())
            view = answer.body["metadata"]["viewRevision"]
            told_right = (
                plain(answer.body["totals"]) == wanted.totals()
                and plain(answer.body["groups"]) == (wanted.groups() if keys else [])
                and plain(answer.body["bounds"]) == wanted.bounds()
                and (view is None or view <= revision)
            )
            if not query and answer.user != "reader0":
                told_right = told_right and answer.body["totals"]["mine"]["mileage"] == 1000 * len(FLEET_ROWS)
            if not told_right:
                yield revision, answer, wanted.totals()
