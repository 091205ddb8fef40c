"""Change requests at once, and killed in the middle: one outcome, as if one came after the other, and all of it told.

A race is prepared once and run many times: the database is put back as it was before each.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.base import exact_json
from app.contracts import PFA, Contract
from app.web.auth import Role
from tests.support.ledger import Ledger
from tests.support.requests import Answer, act, done, drafted, previewed, request, submitted, told
from tests.support.syncing import open_yard, van
from tests.support.world import FLEET, NEW, User, World, line, mirrored, refused, vehicle, written
from tests.test_contention import at_once as asked
from tests.test_contention import paused, until_waiting

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

ROUNDS = 20  # of each of five pairs of merges

# What a request is, with the layers of its changes; the history and the audit are only added to.
KEPT = ("change_request", "approval", "request_event", "edit_session", "validation_run")
LAYERS = ("mirror", "modification", "change")
COLUMNS = """
SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute
 WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
"""


@dataclass
class Arena:
    """Two who submit, and boss, who merges; `again` puts everything back as it was when it was kept."""

    world: World
    contract: Contract
    ann: User
    bob: User
    boss: User
    back: str = ""
    audited: int = 0

    async def keep(self) -> None:
        """What there is now is what there will be again, at another revision."""
        db, schema = self.world.db, self.contract.schema
        back = ["UPDATE dataset SET revision = revision + 1", "UPDATE workspace SET revision = revision + 1"]
        for table in (*KEPT, *(f"{schema}.{name}" for name in LAYERS)):
            kept, columns = f"kept_{table.replace('.', '_')}", await db.fetchval(COLUMNS, table)
            await db.execute(f"CREATE TABLE {kept} AS SELECT {columns} FROM {table}")
            back += [
                f"DELETE FROM {table}",
                f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {kept}",
            ]
        self.back = ";".join(back)

    async def again(self) -> None:
        """Everything is as it was kept."""
        await self.world.db.execute(self.back)
        self.audited = await self.world.db.fetchval("SELECT coalesce(max(id), 0) FROM audit")

    async def acts(self) -> "Counter[str]":
        """What was recorded since."""
        rows = await self.world.db.fetch("SELECT action FROM audit WHERE id > $1", self.audited)
        return Counter(row["action"] for row in rows)

    async def row(self, key: str) -> Answer:
        """The row with all that is committed, in the mirror or on its way."""
        row = await mirrored(self.world, key, self.contract) or {}
        changes = await self.world.db.fetch(
            f"SELECT delta FROM {self.contract.schema}.change WHERE row_key = $1 AND state = 'committed' ORDER BY id",
            key,
        )
        for change in changes:
            row |= exact_json.decode(change["delta"])
        return row


@asynccontextmanager
async def arena(world: World, contract: Contract) -> AsyncIterator[Arena]:
    """People on a dataset with three rows."""
    fresh = line(equipment="A", model="A") if contract is PFA else vehicle(remark="A", depot="A")
    await world.mirror(dict.fromkeys(("V1", "V2", "V3"), fresh), contract=contract)
    ann, bob = await world.user("ann"), await world.user("bob")
    boss = await world.user("boss", role=Role.ADMIN)
    name = contract.name
    yield Arena(world, contract, ann.on(name), bob.on(name), boss.on(name))


async def at_once(*requests: Awaitable[httpx.Response]) -> list[httpx.Response]:
    """The answers to requests that run side by side."""
    return list(await asyncio.gather(*requests))


# -- two merges --------------------------------------------------------------------------------------------------------

TEXTS = {"fleet": ("remark", "depot"), "pfa": ("equipment", "model")}


@pytest.mark.parametrize(
    ("contract", "pair"),
    [(FLEET, "clash"), (FLEET, "apart"), (FLEET, "alike"), (PFA, "clash"), (PFA, "born")],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
async def test_two_merges_of_overlapping_requests(world: World, contract: Contract, pair: str) -> None:
    """The second one sees the first: the same cell is a conflict, another one is merged, the same value is nothing."""
    one, other = TEXTS[contract.name]
    mine, theirs = {
        "clash": ({one: "ann"}, {one: "bob"}),
        "apart": ({one: "ann"}, {other: "bob"}),
        "alike": ({one: "both"}, {one: "both"}),
        "born": ({one: "ann"}, {one: "bob"}),
    }[pair]
    key = "N" if pair == "born" else "V1"
    more = {"op": "insert"} if pair == "born" else {}
    async with arena(world, contract) as at:
        requests = []
        for user, delta in ((at.ann, mine), (at.bob, theirs)):
            new = NEW if pair == "born" else {}
            found = await submitted(
                user, {"id": key, "delta": new | delta, **more}, {"id": "V2", "delta": {other: "X"}}
            )
            requests.append(await done(at.boss, found, "approve"))
        await at.keep()
        for _ in range(ROUNDS):
            await at.again()
            answers = await at_once(*(act(at.boss, each, "merge", digest=each["digest"]) for each in requests))
            statuses = [answer.status_code for answer in answers]
            row = await at.row(key)
            if pair in ("clash", "born"):
                assert sorted(statuses) == [200, 409], [answer.text for answer in answers]
                winner = statuses.index(200)
                assert row[one] == ("ann", "bob")[winner]
                conflicts = refused(answers[1 - winner], 409, "MERGE_CONFLICT")["conflicts"]
                assert [(each["field"], each["theirs"]) for each in conflicts] == [(one, row[one])]
                states = [(await request(at.boss, each))["status"] for each in requests]
                assert states[winner] == ("merged" if contract.upstream else "closed")
                assert states[1 - winner] == "pending_review"
                expected = {"request.merged": 1, "request.merge_failed": 1}
            else:
                assert statuses == [200, 200], [answer.text for answer in answers]
                assert row.items() >= {**mine, **theirs}.items()
                changed = sorted(answer.json()["rowsAffected"] for answer in answers)
                assert changed == ([1, 2] if pair == "apart" else [0, 2])
                expected = {"request.merged": 2}
            if not contract.upstream:
                expected["request.closed"] = expected["request.merged"]
            assert await at.acts() == expected
            assert (await at.row("V2"))[other] == "X"


# -- a merge, a review, an edit, and something else --------------------------------------------------------------------


async def status_of(at: Arena, of: Answer) -> str:
    return str((await request(at.boss, of))["status"])


async def test_an_approval_and_a_withdrawal(world: World) -> None:
    """One of them is too late, and what the other did stands."""
    async with arena(world, FLEET) as at:
        found = await submitted(at.ann, {"id": "V1", "delta": {"remark": "B"}})
        await at.keep()
        for _ in range(12):
            await at.again()
            approval, withdrawal = await at_once(
                act(at.boss, found, "approve", digest=found["digest"]), act(at.ann, found, "withdraw")
            )
            assert {approval.status_code, withdrawal.status_code} == {200, 409}
            refused(approval if withdrawal.status_code == 200 else withdrawal, 409, "INVALID_TRANSITION")
            approved = approval.status_code == 200
            assert await status_of(at, found) == ("approved" if approved else "withdrawn")
            assert (await at.ann.row("V1"))["syncState"] == ("in_review" if approved else "draft")
            assert await at.acts() == {"request.approved" if approved else "request.withdrawn": 1}


async def test_a_merge_that_conflicts_and_a_rejection(world: World) -> None:
    """The rejection comes too early, or finds the request in review again."""
    async with arena(world, FLEET) as at:
        found = await submitted(at.ann, {"id": "V1", "delta": {"remark": "B"}})
        found = await done(at.boss, found, "approve")
        await at.bob.draft("V1", {"remark": "C"})
        assert (await at.bob.commit()).status_code == 200
        await at.keep()
        for _ in range(12):
            await at.again()
            merge, rejection = await at_once(
                act(at.boss, found, "merge", digest=found["digest"]), act(at.boss, found, "reject", comment="No")
            )
            refused(merge, 409, "MERGE_CONFLICT")
            late = rejection.status_code == 200
            if not late:
                refused(rejection, 409, "INVALID_TRANSITION")
            assert await status_of(at, found) == ("rejected" if late else "pending_review")
            assert (await at.ann.row("V1"))["syncState"] == ("conflict" if late else "in_review")
            assert (await mirrored(world, "V1") or {})["remark"] == "C"


async def test_a_merge_and_a_commit_of_the_same_cell(world: World) -> None:
    """The second one is told of the first."""
    async with arena(world, FLEET) as at:
        found = await submitted(at.ann, {"id": "V1", "delta": {"remark": "B"}})
        found = await done(at.boss, found, "approve")
        await at.bob.draft("V1", {"remark": "C"})
        await at.keep()
        for _ in range(12):
            await at.again()
            merge, commit = await at_once(act(at.boss, found, "merge", digest=found["digest"]), at.bob.commit())
            assert {merge.status_code, commit.status_code} == {200, 409}
            late, theirs = (merge, "C") if commit.status_code == 200 else (commit, "B")
            (conflict,) = refused(late, 409, "MERGE_CONFLICT")["conflicts"]
            assert conflict["theirs"] == theirs == (await mirrored(world, "V1") or {})["remark"]


async def test_a_conflict_that_moves_while_it_is_resolved_as_before(world: World) -> None:
    """What was done about theirs of then is not done about theirs of now, which nobody has seen."""
    async with arena(world, FLEET) as at:
        for value in ("C", "A"):  # the same three sides meet twice; the first time they are resolved
            found = await submitted(at.ann, {"id": "V1", "delta": {"remark": "B"}})
            await done(at.boss, found, "approve")
            await at.bob.draft("V1", {"remark": "C"})
            assert (await at.bob.commit()).status_code == 200
            if value == "C":
                refused(await act(at.boss, found, "merge"), 409, "MERGE_CONFLICT")
                await done(at.ann, found, "resolutions", default="mine")
                await done(at.ann, found, "withdraw")
                assert (await at.ann.post("discard", {"sessionId": found["sessionId"]})).status_code == 200
                await at.bob.draft("V1", {"remark": "A"})
                assert (await at.bob.commit()).status_code == 200
        await at.bob.draft("V1", {"remark": "D"})
        async with paused(world, "resolution"):
            (merge,) = asked(act(at.boss, found, "merge"))
            await until_waiting(world, 1, merge)
            (commit,) = asked(at.bob.commit())
            # It waits for the merge; it would not, had that let its rows go.
            await asyncio.wait([commit], timeout=0.2)
        refused(await merge, 409, "MERGE_CONFLICT")
        assert (await commit).status_code == 200
        (conflict,) = (await request(at.boss, found))["conflicts"]
        assert (conflict["theirs"], conflict["mine"]) == ("D", "B")


async def test_a_submission_and_an_edit_of_its_session(world: World) -> None:
    """What is submitted is what was previewed: an edit comes too late, or the submission does."""
    async with arena(world, FLEET) as at:
        session = await drafted(at.ann, {"id": "V1", "delta": {"remark": "B"}})
        seen = await previewed(at.ann, session)
        await at.keep()
        for _ in range(12):
            await at.again()
            body = {"title": "Vans", "digest": seen["digest"]}
            edit = {"id": "V1", "field": "remark", "value": "C"}
            submission, edited = await at_once(
                at.ann.post(f"sessions/{session['id']}/submit", body),
                at.ann.post(f"sessions/{session['id']}/edits", edit),
            )
            row = await at.ann.row("V1")
            if submission.status_code == 201:
                refused(edited, 409, "INVALID_TRANSITION")
                assert (row["syncState"], row["data"]["remark"]) == ("in_review", "B")
            else:
                assert submission.json()["code"] in ("INVALID_TRANSITION", "PREVIEW_STALE")
                assert told(edited)["status"] == "saved"
                assert (row["syncState"], row["data"]["remark"]) == ("draft", "C")


async def test_a_merge_and_a_pull_of_the_same_cell(database_url: str) -> None:
    """Pulled first, it is a conflict of the merge; merged first, one of the push; never is one lost unseen."""
    ledger = Ledger("plate", {f"V{n}": van(remark="A") for n in range(8)})
    async with open_yard(database_url, ledger) as yard:
        await yard.work()
        ann, boss = await yard.user("ann"), await yard.user("boss", role=Role.ADMIN)
        requests = []
        for number in range(8):
            found = await submitted(ann, {"id": f"V{number}", "delta": {"remark": "B"}})
            requests.append((f"V{number}", await done(boss, found, "approve")))
        for key, _ in requests:
            ledger.put(key, **van(remark="C"))
        merges = [act(boss, found, "merge", digest=found["digest"]) for _, found in requests]
        answers, _ = await asyncio.gather(at_once(*merges), yard.later(minutes=30))
        await yard.later(minutes=30)
        for (key, found), answer in zip(requests, answers, strict=True):
            assert (ledger.rows[key]["remark"], answer.status_code) in (("C", 200), ("C", 409))
            now = await request(boss, found)
            if answer.status_code == 409:
                assert [(each["theirs"], each["mine"]) for each in now["conflicts"]] == [("C", "B")]
            else:
                assert now["pushes"]["conflict"] == 1
        await yard.check()


# -- killed in the middle ----------------------------------------------------------------------------------------------

KILL = """
CREATE SEQUENCE public.written;
CREATE TABLE public.fatal (number bigint);
INSERT INTO public.fatal VALUES (0);
CREATE FUNCTION public.kill() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF nextval('public.written') = (SELECT number FROM public.fatal) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(10);
    END IF;
    RETURN NULL;
END
$$;
"""
WRITTEN = (
    *("change_request", "approval", "request_event", "audit", "dataset", "workspace"),
    *(f"fleet.{name}" for name in ("change", "modification", "mirror", "history")),
)


async def test_a_connection_that_is_lost_at_any_statement_of_a_merge(world: World) -> None:
    """The request is approved as before, or merged, and nothing else; another try merges it once."""
    async with arena(world, FLEET) as at:
        found = await submitted(
            at.ann,
            {"id": "V1", "delta": {"remark": "B"}},
            {"id": "V2", "op": "delete"},
            {"id": "N", "op": "insert", "delta": {"depot": "B", "kind": "Van"}},
        )
        await at.bob.draft("V1", {"remark": "C", "seats": 9})
        found = await done(at.boss, found, "approve")
        await world.db.execute(KILL)
        for table in WRITTEN:
            await world.db.execute(
                f"CREATE TRIGGER kill AFTER INSERT OR UPDATE OR DELETE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION public.kill()"
            )
        # The last one is killed while it commits.
        await world.db.execute(
            "CREATE CONSTRAINT TRIGGER kill_late AFTER UPDATE ON change_request DEFERRABLE INITIALLY DEFERRED"
            " FOR EACH ROW WHEN (NEW.state = 'closed') EXECUTE FUNCTION public.kill()"
        )
        before, number = await everything(at), 0
        while True:
            number += 1
            await world.db.execute("SELECT setval('public.written', 1, FALSE)")
            await world.db.execute("UPDATE public.fatal SET number = $1", number)
            answer = await act(at.boss, found, "merge", digest=found["digest"])
            if answer.status_code == 200:
                break
            assert answer.status_code == 503, answer.text
            assert await everything(at) == before
        assert number > 12, "a merge writes to more tables than that"
        await world.db.execute("UPDATE public.fatal SET number = 0")
        assert await done(at.boss, found, "merge", digest=found["digest"]) == written(answer)
        assert await status_of(at, found) == "closed"
        assert [await mirrored(world, key) is None for key in ("V1", "V2", "N")] == [False, True, False]
        assert (await at.bob.row("V1"))["syncState"] == "conflict"
        acts = await world.db.fetch("SELECT action FROM audit WHERE action = 'request.merged'")
        assert len(acts) == 1


async def everything(at: Arena) -> list[Any]:
    """All that a merge could have left."""
    tables = [*WRITTEN, "resolution", "edit_session"]
    return [
        [row[0] for row in await at.world.db.fetch(f"SELECT to_jsonb(t)::text FROM {table} AS t ORDER BY 1")]
        for table in tables
    ]
