"""The whole way: three people, from the start of a session to PEMS having the values, over HTTP; and back again."""

from pathlib import Path
from typing import Any

from app.base.clock import now
from app.web.auth import Role
from tests.support.crashing import Site, open_site, working
from tests.support.requests import act, cells, done, previewed, request, told
from tests.support.sessions import begin, edit
from tests.support.world import NEW, User, refused


async def closed(site: Site, user: User, of: dict[str, Any]) -> dict[str, Any]:
    """The request once a worker has closed it."""
    await site.until("SELECT EXISTS (SELECT FROM change_request WHERE id = $1 AND state = 'closed')", of["id"])
    return await request(user, of)


async def test_from_the_start_of_a_session_to_pems_and_back(database_url: str, tmp_path: Path) -> None:
    async with open_site(database_url, tmp_path, rows=30, fullEvery=900) as site:
        world = site.world
        world.clock.at = now()
        ann, bob, boss = [
            await world.user(name, role=role)
            for name, role in (("ann", Role.ANALYST), ("bob", Role.ANALYST), ("carla", Role.ADMIN))
        ]
        async with working(site):
            await site.connected()
            first, second, third = site.keys()[:3]
            told(await boss.request("PUT", "settings", json={"requireApproval": True}))

            # Ann edits, as in a spreadsheet: a value of a wrong type is kept, shown, and mended.
            session = await begin(ann, title="Cranes")
            bad = await edit(ann, session, first, "monthlyRate", "much")
            assert (bad["status"], bad["validation"]["severity"]) == ("kept_invalid", "ERROR")
            await edit(ann, session, first, "monthlyRate", 1250.5)
            await edit(ann, session, first, "equipment", "CR-1")
            await edit(ann, session, second, "equipment", "CR-2")
            drafts = [{"id": third, "op": "delete"}, {"id": "N-1", "op": "insert", "delta": NEW}]
            told(await ann.post("drafts", {"sessionId": session["id"], "modifications": drafts}))
            refused(await ann.post("commit", {"sessionId": session["id"]}), 403, "APPROVAL_REQUIRED")
            refused(await ann.post("/api/pfa/acme/commit", {"pfaIds": [first]}), 403, "APPROVAL_REQUIRED")
            seen = await previewed(ann, session)
            body = {"title": "Cranes", "digest": seen["digest"], "approvers": ["bob"]}
            found = told(await ann.post(f"sessions/{session['id']}/submit", body), 201)
            before = site.records()

            # Bob accepts all but one cell; Carla merges.
            refused(await act(boss, found, "approve"), 403, "FORBIDDEN")
            approved = await done(bob, found, "approve", **{"except": [{"id": second, "field": "equipment"}]})
            assert approved["status"] == "approved"
            assert site.records() == before
            answer = await done(boss, found, "merge")
            assert (answer["status"], answer["mergedRevision"], answer["rowsAffected"]) == ("merged", None, 3)
            settled = await closed(site, ann, found)
            assert settled["pushes"] == {"pending": 0, "synced": 3, "conflict": 0, "syncError": 0, "discarded": 0}
            assert settled["mergedRevision"] == (await done(boss, found, "merge"))["mergedRevision"] > 0
            after = site.records()
            assert (after[first]["monthlyRate"], after[first]["equipment"]) == (1250.5, "CR-1")
            assert (third in after, after[second]) == (False, before[second])
            (added,) = after.keys() - before.keys()
            assert (await ann.row(second))["delta"] == {"equipment": "CR-2"}
            assert len(await cells(ann, found)) == 2 + len(NEW) + 1 + 2  # what is derived of a new line, too

            # Ann takes all of it back, by another request.
            undo = await done(ann, found, "revert", title="As it was")
            # The deleted line comes back under another id, without what PEMS alone writes.
            assert [(each["id"], "pfaId" in each["fields"]) for each in undo["leftOut"]] == [(third, True)]
            await done(boss, undo, "approve")
            await done(boss, undo, "merge")
            await closed(site, ann, undo)
            restored = site.records()
            assert restored[first]["monthlyRate"] == before[first]["monthlyRate"]
            assert added not in restored
            (back,) = restored.keys() - before.keys()
            assert restored[back]["category"] == before[third]["category"]
            assert await site.mirror() == restored
