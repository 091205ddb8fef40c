"""Every route that changes something, and each that lets rows out as a file: it records an act, in its transaction, or
stands in a short table with the reason why not. A new route has to stand in one of the two.
"""

import ast
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from app.base import exact_json
from app.engine.audit import Act
from app.query_previews import guards
from app.web.auth import Account, Role
from tests.support.ingesting import ingested, used
from tests.support.joining import accepted, candidates, stored, table
from tests.support.own import customers, moved, ready, registered
from tests.support.querying import executed, previewed
from tests.support.querying import path as querying
from tests.support.records import connect, settle
from tests.support.requests import act, done, merged, not_merged, request, submitted, told
from tests.support.routes import walk
from tests.support.world import FLEET, NEW, User, World, committed, refused, vehicle, written
from tests.test_login import PASSWORD, hashed

ROOT = Path(__file__).parents[1]
ORG = "/api/v1/orgs/{org}"
D = f"{ORG}/datasets/{{dataset}}"
SESSION = f"{D}/sessions/{{session_id}}"
REQUEST = f"{D}/change-requests/{{request_id}}"

# Nobody else's business until it is submitted or committed, which is recorded.
PRIVATE = "private work, whose outcome is an act of its own"
UNRECORDED = {
    f"POST {D}/drafts": PRIVATE,
    f"POST {D}/drafts/undo": PRIVATE,
    f"POST {D}/drafts/redo": PRIVATE,
    f"POST {D}/discard": PRIVATE,
    f"PATCH {D}/rows/{{row_id}}": PRIVATE,
    f"POST {D}/sessions": PRIVATE,
    f"DELETE {SESSION}": PRIVATE,
    f"POST {SESSION}/extend": PRIVATE,
    f"POST {SESSION}/edits": PRIVATE,
    f"POST {SESSION}/edits/batch": PRIVATE,
    f"POST {SESSION}/undo": PRIVATE,
    f"POST {SESSION}/redo": PRIVATE,
    f"POST {SESSION}/preview": PRIVATE,
    f"POST {SESSION}/validation/override": "kept with the session's validation, which its request shows",
    f"POST {REQUEST}/comments": "stands in the request's timeline, with who and when",
    f"POST {ORG}/contracts/{{dataset}}/drift": "the report itself says who asked; nothing else is changed by it",
    f"POST {ORG}/contracts/infer": "keeps nothing: a proposal for whoever asks",
    f"POST {ORG}/query/preview": "nothing is answered of rows: running it is an act",
    f"POST {ORG}/query/correct": "another preview, which is kept beside what it corrects",
    "POST /api/pfa/{org}/draft": PRIVATE,
    "POST /api/pfa/{org}/discard": PRIVATE,
    "POST /api/v1/admin/sessions/cleanup": "what the worker does by itself every minute, a little earlier",
}


class Cast(NamedTuple):
    """acme with somebody in each role, the operator, and a fleet of two."""

    world: World
    ann: User
    erin: User
    boss: User
    root: User


class Call(NamedTuple):
    """The request that is an act: who sends it, where to, and what; None for nobody."""

    user: User | None
    path: str
    body: Any = None
    actions: tuple[str, ...] = ()


Scene = Callable[[Cast], Awaitable[Call]]
SCENES: dict[str, Scene] = {}


def scene(route: str, *actions: str) -> Callable[[Scene], Scene]:
    """What leads to the request of a route, and which acts it records."""

    def enter(play: Scene) -> Scene:
        async def played(cast: Cast) -> Call:
            return (await play(cast))._replace(actions=actions)

        assert route not in SCENES, route
        SCENES[route] = played
        return play

    return enter


@pytest.fixture
async def cast(world: World) -> Cast:
    await ready(world)
    await world.mirror({key: vehicle() for key in ("V1", "V2")}, contract=FLEET)
    ann = (await world.user("ann", role=Role.ANALYST)).on("fleet")
    erin = (await world.user("erin", role=Role.ENGINEER)).on("customers")
    boss = (await world.user("boss", role=Role.ADMIN)).on("fleet")
    account = Account(id="root", email="root@example.com", name="root", operator=True, roles={})
    await world.db.execute(
        "INSERT INTO account (id, email, name, operator) VALUES ('root', 'root@example.com', 'root', TRUE)"
    )
    return Cast(world, ann, erin, boss, User(world, "root", "acme", world.runtime.auth.issue(account)))


# -- drafts become something -------------------------------------------------------------------------------------------


@scene(f"POST {D}/commit", "commit")
async def _(cast: Cast) -> Call:
    await cast.ann.draft("V1", {"seats": 5})
    return Call(cast.ann, "commit", {"all": True})


@scene("POST /api/pfa/{org}/commit", "commit")
async def _(cast: Cast) -> Call:
    await cast.ann.on("pfa").draft("P1", NEW, op="insert")
    return Call(cast.ann, "/api/pfa/acme/commit", {"pfaIds": ["P1"]})


@scene(f"POST {SESSION}/submit", "request.submitted")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    back = await done(cast.ann, found, "withdraw")
    path = f"sessions/{back['sessionId']}"
    assert (await cast.ann.request("DELETE", path)).status_code == 200
    session = (await cast.ann.post("sessions", {"mode": "full_table"})).json()["id"]
    body = {"sessionId": session, "modifications": [{"id": "V2", "delta": {"seats": 6}}]}
    assert (await cast.ann.post("drafts", body)).status_code == 200
    digest = (await cast.ann.post(f"sessions/{session}/preview", {})).json()["digest"]
    return Call(cast.ann, f"sessions/{session}/submit", {"title": "Vans", "digest": digest})


async def pending(cast: Cast, verb: str, user: User, **body: Any) -> Call:
    """An act on a request that waits for its review."""
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    if verb in ("approve", "merge"):
        body["digest"] = (await request(cast.boss, found))["digest"]
    return Call(user, f"change-requests/{found['id']}/{verb}", body)


@scene(f"POST {REQUEST}/approve", "request.approved")
async def _(cast: Cast) -> Call:
    return await pending(cast, "approve", cast.boss)


@scene(f"POST {REQUEST}/reject", "request.rejected")
async def _(cast: Cast) -> Call:
    return await pending(cast, "reject", cast.boss, comment="No")


@scene(f"POST {REQUEST}/withdraw", "request.withdrawn")
async def _(cast: Cast) -> Call:
    return await pending(cast, "withdraw", cast.ann)


@scene(f"POST {REQUEST}/resubmit", "request.resubmitted")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    await done(cast.boss, found, "reject", comment="No")
    return Call(cast.ann, f"change-requests/{found['id']}/resubmit", {})


@scene(f"POST {REQUEST}/merge", "request.merged", "request.closed")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    await done(cast.boss, found, "approve")
    digest = (await request(cast.boss, found))["digest"]
    return Call(cast.boss, f"change-requests/{found['id']}/merge", {"digest": digest})


@scene(f"POST {REQUEST}/revert", "request.reverted", "request.submitted")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    await merged(cast.boss, found)
    return Call(cast.boss, f"change-requests/{found['id']}/revert", {"title": "Back"})


@scene(f"POST {D}/commits/{{commit_id}}/revert", "commit.reverted", "request.submitted")
async def _(cast: Cast) -> Call:
    await cast.ann.draft("V1", {"seats": 5})
    commit = (await committed(cast.ann))["commitId"]
    return Call(cast.ann, f"commits/{commit}/revert", {"title": "Back"})


async def in_conflict(cast: Cast) -> dict[str, Any]:
    """A request that meets what was committed since."""
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    erin = cast.erin.on("fleet")
    await erin.draft("V1", {"seats": 7})
    await committed(erin, "V1")
    return found


@scene(f"POST {REQUEST}/resolutions", "request.resolved")
async def _(cast: Cast) -> Call:
    found = await in_conflict(cast)
    return Call(cast.boss, f"change-requests/{found['id']}/resolutions", {"default": "mine"})


@scene(f"DELETE {D}/resolutions/{{resolution_id}}", "resolution.forgotten")
async def _(cast: Cast) -> Call:
    found = await in_conflict(cast)
    await not_merged(cast.boss, found, 409, "MERGE_CONFLICT")
    await done(cast.boss, found, "resolutions", default="mine")
    (kept,) = told(await cast.boss.get("resolutions"))["data"]
    return Call(cast.boss, f"resolutions/{kept['id']}")


# -- datasets, contracts, records --------------------------------------------------------------------------------------


@scene(f"PUT {D}/settings", "settings.changed")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, "settings", {"requireApproval": True})


@scene(f"POST {ORG}/contracts", "contract.registered")
async def _(cast: Cast) -> Call:
    return Call(cast.erin, "/api/v1/orgs/acme/contracts", customers())


@scene(f"DELETE {ORG}/contracts/{{dataset}}/{{version}}", "contract.deleted")
async def _(cast: Cast) -> Call:
    await registered(cast.erin)
    return Call(cast.erin, "/api/v1/orgs/acme/contracts/customers/1.0")


@scene(f"POST {D}/promote", "dataset.promoted")
async def _(cast: Cast) -> Call:
    await registered(cast.erin)
    return Call(cast.boss.on("customers"), "promote", {"reason": "It is ready"})


async def in_use(cast: Cast) -> User:
    """The ADMIN, at a dataset that is in use."""
    await used({"ENGINEER": cast.erin, "ADMIN": cast.boss.on("customers")})
    return cast.boss.on("customers")


DRIFT = f"{ORG}/contracts/{{dataset}}/drift/{{report}}"


async def drifted(cast: Cast) -> tuple[User, str]:
    """The ADMIN, and the path of a report of records whose field is called otherwise."""
    boss = await in_use(cast)
    await ingested(boss, *({"customerId": f"C{n}", "company": f"Company {n}"} for n in range(12)))
    renamed = [{"customerId": f"C{n}", "companyName": f"Company {n}"} for n in range(12)]
    report = refused(await boss.post("ingest", {"records": renamed}), 409, "SCHEMA_DRIFT")["report"]
    return boss, f"/api/v1/orgs/acme/contracts/customers/drift/{report}"


@scene(f"POST {DRIFT}/accept", "drift.accepted", "contract.registered")
async def _(cast: Cast) -> Call:
    boss, report = await drifted(cast)
    return Call(boss, f"{report}/accept", {})


@scene(f"POST {DRIFT}/map", "drift.mapped")
async def _(cast: Cast) -> Call:
    boss, report = await drifted(cast)
    return Call(boss, f"{report}/map", {"from": "company", "to": "companyName"})


@scene(f"POST {DRIFT}/reject", "drift.rejected")
async def _(cast: Cast) -> Call:
    boss, report = await drifted(cast)
    return Call(boss, f"{report}/reject", {"reason": "Send it as before"})


@scene(f"DELETE {ORG}/contracts/{{dataset}}/mappings/{{field}}", "mapping.removed")
async def _(cast: Cast) -> Call:
    boss, report = await drifted(cast)
    written(await boss.post(f"{report}/map", {"from": "company", "to": "companyName"}))
    return Call(boss, "/api/v1/orgs/acme/contracts/customers/mappings/company")


async def suggested(cast: Cast) -> tuple[User, dict[str, Any]]:
    """The ADMIN, and a candidate of a join."""
    people = {"ENGINEER": cast.erin, "ADMIN": cast.boss}
    await stored(people, table("parents", "code", "code text"), [{"code": f"P{n}"} for n in range(20)])
    children = [{"n": f"N{n}", "code": f"P{n}"} for n in range(9)]
    await stored(people, table("children", "n", "n text", "code text"), children)
    return cast.boss, (await candidates(cast.boss, "children", "parents"))[0]


@scene(f"POST {ORG}/joins/accept", "join.accepted")
async def _(cast: Cast) -> Call:
    boss, candidate = await suggested(cast)
    body = {"candidateId": candidate["candidateId"], "rationale": "Children name their parent"}
    return Call(boss, "/api/v1/orgs/acme/joins/accept", body)


@scene(f"POST {ORG}/joins/{{join_id}}/deprecate", "join.deprecated")
async def _(cast: Cast) -> Call:
    boss, candidate = await suggested(cast)
    join = await accepted(boss, candidate)
    return Call(boss, f"/api/v1/orgs/acme/joins/{join['id']}/deprecate", {"reason": "The key has changed"})


@scene(f"POST {D}/deprecate", "dataset.deprecated")
async def _(cast: Cast) -> Call:
    return Call(await in_use(cast), "deprecate", {"reason": "Nobody needs it"})


@scene(f"POST {D}/restore", "dataset.restored")
async def _(cast: Cast) -> Call:
    boss = await in_use(cast)
    await moved(boss, "deprecate")
    return Call(boss, "restore", {"reason": "Somebody needs it"})


@scene(f"POST {D}/rollback", "dataset.rolled_back")
async def _(cast: Cast) -> Call:
    boss = await in_use(cast)
    await registered(cast.erin, customers(version="2.0", fields=customers()["fields"][:4]))
    await moved(boss.on("customers@2"), "promote")
    return Call(boss, "rollback", {"reason": "It is worse"})


@scene(f"POST {D}/ingest", "records.sent")
async def _(cast: Cast) -> Call:
    await in_use(cast)
    return Call(cast.erin, "ingest", {"records": [{"customerId": "C1"}]})


async def quarantined(cast: Cast) -> str:
    """A record that cannot become a row; its id."""
    await in_use(cast)
    await ingested(cast.erin, {"customerId": "C1", "revenue": "much"})
    found: str = told(await cast.erin.get("quarantine"))["data"][0]["id"]
    return found


@scene(f"POST {D}/quarantine/replay", "quarantine.replayed")
async def _(cast: Cast) -> Call:
    return Call(cast.erin, "quarantine/replay", {"ids": [await quarantined(cast)]})


@scene(f"POST {D}/quarantine/discard", "quarantine.discarded")
async def _(cast: Cast) -> Call:
    return Call(cast.erin, "quarantine/discard", {"ids": [await quarantined(cast)], "reason": "Not ours"})


async def replayed(cast: Cast, boss: User, path: str) -> Call:
    """A confirmed replay of the hour."""
    hour = timedelta(hours=1)
    time = {"from": (cast.world.clock.at - hour).isoformat(), "to": (cast.world.clock.at + hour).isoformat()}
    tried = told(await boss.post(path, time))
    return Call(boss, path, time | {"dryRun": False, "digest": tried["digest"]})


@scene(f"POST {D}/replay", "records.replayed")
async def _(cast: Cast) -> Call:
    boss = await in_use(cast)
    await ingested(cast.erin, {"customerId": "C1"})
    return await replayed(cast, boss, "replay")


@scene(f"POST {D}/backfill", "records.backfilled")
async def _(cast: Cast) -> Call:
    boss = await in_use(cast)
    await ingested(cast.erin, {"customerId": "C1"})
    await registered(cast.erin, customers(version="2.0", fields=customers()["fields"][:4]))
    return await replayed(cast, boss.on("customers@2"), "backfill")


@scene("PUT /api/v1/system/mode", "system.mode_changed")
async def _(cast: Cast) -> Call:
    return Call(cast.root, "/api/v1/system/mode", {"mode": "READ_ONLY"})


# -- synchronization ---------------------------------------------------------------------------------------------------


async def connected(cast: Cast, path: str, body: Any = None) -> Call:
    """A request about the synchronization of pfa, for which a worker is configured."""
    await connect(cast.world)
    return Call(cast.erin.on("pfa"), f"sync/{path}", {} if body is None else body)


@scene(f"POST {D}/sync/pull", "sync.requested")
async def _(cast: Cast) -> Call:
    return await connected(cast, "pull", {"full": True})


@scene(f"POST {D}/sync/push", "sync.requested")
async def _(cast: Cast) -> Call:
    return await connected(cast, "push")


@scene(f"POST {D}/sync/check", "sync.requested")
async def _(cast: Cast) -> Call:
    return await connected(cast, "check")


@scene(f"POST {D}/sync/pause", "sync.paused")
async def _(cast: Cast) -> Call:
    return await connected(cast, "pause")


@scene(f"POST {D}/sync/resume", "sync.resumed")
async def _(cast: Cast) -> Call:
    call = await connected(cast, "resume")
    assert (await cast.erin.on("pfa").post("sync/pause", {})).status_code == 200
    return call


@scene(f"POST {D}/sync/runs/{{run_id}}/stop", "sync.stopped")
async def _(cast: Cast) -> Call:
    await connect(cast.world)
    run = told(await cast.erin.on("pfa").post("sync/pull", {}), 202)["runId"]
    return Call(cast.erin.on("pfa"), f"sync/runs/{run}/stop", {})


@scene(f"POST {D}/sync/retry", "sync.retried")
async def _(cast: Cast) -> Call:
    ann = cast.ann.on("pfa")
    await ann.draft("P1", NEW, op="insert")
    await committed(ann)
    await settle(cast.world, "P1", "sync_error", "Refused")
    return Call(cast.erin.on("pfa"), "sync/retry", {"all": True})


# -- people ------------------------------------------------------------------------------------------------------------


@scene("POST /api/auth/login", "login.succeeded")
async def _(cast: Cast) -> Call:
    await cast.world.db.execute("UPDATE account SET password_hash = $1 WHERE id = 'ann'", hashed())
    return Call(None, "/api/auth/login", {"email": "ann@example.com", "password": PASSWORD})


@scene("POST /api/auth/logout", "token.revoked")
async def _(cast: Cast) -> Call:
    return Call(cast.ann, "/api/auth/logout")


@scene("POST /api/auth/renew", "token.renewed")
async def _(cast: Cast) -> Call:
    return Call(cast.ann, "/api/auth/renew")


@scene("POST /api/auth/password", "password.changed")
async def _(cast: Cast) -> Call:
    await cast.world.db.execute("UPDATE account SET password_hash = $1 WHERE id = 'ann'", hashed())
    return Call(cast.ann, "/api/auth/password", {"old": PASSWORD, "new": "another horse, another battery"})


@scene(f"DELETE {ORG}/members/{{account}}/tokens", "logout.everywhere")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, "/api/v1/orgs/acme/members/ann/tokens")


@scene(f"PUT {ORG}/members/{{account}}", "member.role_changed")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, "/api/v1/orgs/acme/members/ann", {"role": "VIEWER"})


@scene(f"DELETE {ORG}/members/{{account}}", "member.removed")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, "/api/v1/orgs/acme/members/ann")


INVITATIONS = "/api/v1/orgs/acme/invitations"


async def invited(cast: Cast) -> dict[str, Any]:
    """An open invitation of nina, with its link."""
    await cast.world.db.execute("INSERT INTO account (id, email, name) VALUES ('nina', 'nina@example.com', 'nina')")
    return told(await cast.boss.post(INVITATIONS, {"email": "nina@example.com", "role": "VIEWER"}), 201)


@scene(f"POST {ORG}/invitations", "member.invited")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, INVITATIONS, {"email": "nina@example.com", "role": "VIEWER"})


@scene(f"DELETE {ORG}/invitations/{{invitation_id}}", "invitation.withdrawn")
async def _(cast: Cast) -> Call:
    return Call(cast.boss, f"{INVITATIONS}/{(await invited(cast))['id']}")


@scene("POST /api/auth/invitations/{token}/accept", "member.joined")
async def _(cast: Cast) -> Call:
    path = (await invited(cast))["path"]
    account = Account(id="nina", email="nina@example.com", name="nina", operator=False, roles={})
    return Call(User(cast.world, "nina", "acme", cast.world.runtime.auth.issue(account)), path)


# -- what leaves as a file ---------------------------------------------------------------------------------------------


@scene(f"GET {D}/export", "export.begun")
async def _(cast: Cast) -> Call:
    return Call(cast.ann, "export?format=ndjson")


@scene(f"GET {REQUEST}/diff", "export.begun")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    return Call(cast.ann, f"change-requests/{found['id']}/diff?format=csv")


@scene(f"GET {REQUEST}/audit", "export.begun")
async def _(cast: Cast) -> Call:
    found = await submitted(cast.ann, {"id": "V1", "delta": {"seats": 5}})
    return Call(cast.ann, f"change-requests/{found['id']}/audit?format=zip")


@scene(f"POST {ORG}/query/execute", "query.executed")
async def _(cast: Cast) -> Call:
    preview = await previewed(cast.ann, {"dataset": "fleet"})
    told = {"previewId": preview["previewId"], "digest": preview["digest"], "format": "csv"}
    return Call(cast.ann, querying(cast.ann, "execute"), told)


# -- the walk ----------------------------------------------------------------------------------------------------------


async def test_every_route_that_changes_something_is_recorded_or_says_why_not(world: World) -> None:
    writing = {route.name for route in walk(world) if not route.reads}
    reading = {route.name for route in walk(world) if route.reads}
    assert SCENES.keys() - reading | UNRECORDED.keys() == writing
    assert SCENES.keys() & UNRECORDED.keys() == set()
    assert SCENES.keys() <= writing | reading


def test_every_act_is_recorded_somewhere() -> None:
    """A name that nobody records is none."""
    used = set()
    for file in (ROOT / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("Act", "audit.Act"):
                used.add(node.attr)
    assert used == {act.name for act in Act}


async def send(cast: Cast, route: str, call: Call) -> httpx.Response:
    """The request of a scene, at its route."""
    method, _, template = route.partition(" ")
    organization, dataset = (call.user.organization, call.user.dataset) if call.user is not None else ("", "")
    path = call.path if call.path.startswith("/") else f"/api/v1/orgs/{organization}/datasets/{dataset}/{call.path}"
    pattern = re.sub(r"\\{\w+\\}", "[^/?]+", re.escape(template))
    assert re.fullmatch(pattern, path.partition("?")[0]), (path, template)
    content = None if call.body is None else exact_json.encode(call.body)
    headers = {"Content-Type": "application/json"} if content else {}
    if call.user is None:
        return await cast.world.http.request(method, path, headers=headers, content=content)
    return await call.user.request(method, path, headers=headers, content=content)


async def recorded(world: World, after: int = 0) -> list[dict[str, Any]]:
    """The entries beyond one, the oldest first."""
    return [dict(each) for each in await world.db.fetch("SELECT * FROM audit WHERE id > $1 ORDER BY id", after)]


@pytest.mark.parametrize("route", SCENES)
async def test_a_route_records_who_did_what_and_from_where(cast: Cast, route: str) -> None:
    call = await SCENES[route](cast)
    last = max((each["id"] for each in await recorded(cast.world)), default=0)
    answer = await send(cast, route, call)
    assert answer.status_code < 300, answer.text
    entries = await recorded(cast.world, last)
    assert {each["action"] for each in entries} == set(call.actions)
    for each in entries:
        assert each["address"] == "127.0.0.1"
        assert each["at"] == cast.world.clock()
        assert each["organization_id"] == ("" if call.user is cast.root else "acme")
        if each["action"] != "request.closed":  # which nobody does
            assert each["actor"] == (call.user.id if call.user is not None else "ann")
    assert PASSWORD not in str(entries)


@pytest.mark.parametrize("route", SCENES)
async def test_there_is_no_act_without_its_entry(cast: Cast, route: str) -> None:
    """Given a database that takes no more entries, then nothing is changed, and no file leaves."""
    call = await SCENES[route](cast)
    await cast.world.db.execute(REFUSE)
    before = await everything(cast.world)
    answer = await send(cast, route, call)
    assert answer.status_code == 500, (route, answer.text)
    assert await everything(cast.world) == before
    await cast.world.db.execute("DROP TRIGGER refuse ON audit")
    assert (await send(cast, route, call)).status_code < 300


REFUSE = """
CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'no entry';
END
$$;
CREATE TRIGGER refuse BEFORE INSERT ON public.audit FOR EACH ROW EXECUTE FUNCTION public.refuse();
"""
# What an attempt leaves on purpose: it counts before the password is looked at; and where a password was right.
SPARED = ("login_attempt", "login_address")


async def everything(world: World) -> dict[str, str]:
    """A digest of every table that there is."""
    tables = await world.db.fetch(
        "SELECT format('%I.%I', table_schema, table_name) FROM information_schema.tables"
        " WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema', 'audit')"
        "   AND table_name <> ALL ($1::text[])",
        list(SPARED),
    )
    digests = " UNION ALL ".join(
        f"SELECT '{table}', md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} AS t" for (table,) in tables
    )
    return dict(await world.db.fetch(digests))


async def test_a_request_that_is_refused_leaves_no_entry(cast: Cast) -> None:
    """One of each kind: for want of a role, of what it is about, of another state, of a right body."""
    boss, erin = cast.boss, cast.erin.on("pfa")
    asked = [
        await cast.ann.on("pfa").post("sync/pull", {}),
        await erin.post("sync/pull", {}),
        await erin.post("sync/pause", {}),
        await erin.post("sync/retry", {"ids": ["1"]}),
        await boss.request("PUT", "/api/v1/orgs/acme/members/boss", json={"role": "VIEWER"}),
        await boss.request("DELETE", "/api/v1/orgs/acme/members/nobody"),
        await boss.request("PUT", "/api/v1/system/mode", json={"mode": "READ_ONLY"}),
        await cast.ann.get("export?format=pdf"),
        await cast.ann.on("nothing").get("export"),
        await act(boss, {"id": "00000000-0000-0000-0000-000000000000"}, "withdraw"),
    ]
    assert [answer.status_code for answer in asked] == [403, 409, 409, 404, 409, 404, 403, 400, 404, 404]
    assert await recorded(cast.world) == []


async def test_a_change_to_what_it_is_already_is_no_act(cast: Cast) -> None:
    await connect(cast.world)
    erin = cast.erin.on("pfa")
    assert (await cast.root.request("PUT", "/api/v1/system/mode", json={"mode": "INGESTION_READY"})).status_code == 200
    assert (await erin.post("sync/resume", {})).status_code == 200
    assert (await erin.post("sync/retry", {"all": True})).status_code == 200
    same = await cast.boss.request("PUT", "/api/v1/orgs/acme/members/ann", json={"role": "ANALYST"})
    assert same.status_code == 200
    assert await recorded(cast.world) == []


async def test_a_request_that_is_sent_again_with_its_key_is_one_act(cast: Cast) -> None:
    await connect(cast.world)
    for _ in range(2):
        answer = await cast.erin.on("pfa").post("sync/pull", {}, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
    assert [each["action"] for each in await recorded(cast.world)] == ["sync.requested"]


async def test_a_guard_that_is_overridden_is_an_act_with_its_reason(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given a question that a guard holds, then an ADMIN alone runs it; a reason that nothing asked for is none."""
    override = {"override": {"reason": "The board asks"}}
    free = await previewed(cast.boss, {"dataset": "fleet"})
    assert (await executed(cast.boss, free, **override)).status_code == 200
    refused(await executed(cast.ann, await previewed(cast.ann, {"dataset": "fleet"}), **override), 403, "FORBIDDEN")
    monkeypatch.setattr(guards, "MOST_ROWS", 0)
    refused(await executed(cast.boss, free), 409, "OVERRIDE_REQUIRED")
    assert (await executed(cast.boss, free, **override)).status_code == 200
    told = [(each["action"], each["reason"], each["actor"]) for each in await recorded(cast.world)]
    assert told == [("query.executed", None, "boss"), ("query.overridden", "The board asks", "boss")]


async def test_of_a_file_whose_head_is_asked_for_nothing_is_recorded(cast: Cast) -> None:
    assert (await cast.ann.request("HEAD", "export")).status_code == 200
    assert await recorded(cast.world) == []
