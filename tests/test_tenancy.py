"""Nobody sees or changes what is another organization's, another user's, or above one's role: on every route there is.

A new route has to be entered here, with who may use it; until then the first test fails.
"""

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import httpx
import pytest

from app.base import exact_json
from app.web.auth import ALLOWED, Account, Action, Role
from tests.conftest import new_database
from tests.support.joining import MEASURED
from tests.support.own import customers, moved, ready, registered
from tests.support.querying import executed, previewed
from tests.support.querying import path as querying
from tests.support.records import add_run, begin_session, connect, quarantine, settle
from tests.support.requests import submitted
from tests.support.world import CONTRACTS, FLEET, User, World, committed, line, open_world, refused, vehicle, written

ACME, RIVAL = "SECRET-OF-ACME", "SECRET-OF-THE-RIVAL"
D = "/api/v1/orgs/{org}/datasets/{dataset}"
MEMBERS = "/api/v1/orgs/{org}/members"
INVITATIONS = "/api/v1/orgs/{org}/invitations"
INVITED: dict[str, str] = {}  # an open invitation of each organization
AUDIT = "/api/v1/orgs/{org}/audit"
CONTRACT = "/api/v1/orgs/{org}/contracts"
DRIFT = f"{CONTRACT}/{{dataset}}/drift"
JOINS = "/api/v1/orgs/{org}/joins"
JOINED: dict[str, str] = {}  # an accepted join of each organization
REPORTS: dict[str, str] = {}  # a report of drift of each organization
QUERY = "/api/v1/orgs/{org}/query"
PREVIEWED: dict[str, dict[str, str]] = {}  # a preview of each organization's administrator, by id and digest
EXECUTED: dict[str, str] = {}  # and its execution
TIME = {"from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z"}
REHEARSED = {"reason": "as the test has it", "dryRun": True}
OWN = "customers"  # a dataset that both organizations have registered
SESSION = "the-same"  # of ann and of eve, each in her own organization
SESSIONS = f"{D}/sessions"
AT_SESSION = f"{SESSIONS}/{{session_id}}"
RUN = "8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11"
REQUESTS = f"{D}/change-requests"
AT_REQUEST = f"{REQUESTS}/{{request_id}}"
NOBODYS = "00000000-0000-0000-0000-000000000000"
# What only its author may do with a request, is asked of one that there is not.
# Nor is a contract made of a report, which would be a schema more.
ACCEPTED = f"POST {DRIFT}/{{report}}/accept"
AUTHORS = (f"POST {AT_REQUEST}/withdraw", f"POST {AT_REQUEST}/resubmit")
SUBMITTED: dict[str, str] = {}  # the request of each organization's clerk


COMMITTED: dict[str, str] = {}  # the event of each organization's last commit


class Door(NamedTuple):
    """A route below an organization: what its users have to be allowed, a body and a query that it takes."""

    action: Action
    body: Any = None
    query: str = ""


ORGANIZATION_ROUTES = {
    f"GET {MEMBERS}": Door(Action.ADMINISTER),
    f"PUT {MEMBERS}/{{account}}": Door(Action.ADMINISTER, {"role": "VIEWER"}),
    f"DELETE {MEMBERS}/{{account}}": Door(Action.ADMINISTER),
    f"DELETE {MEMBERS}/{{account}}/tokens": Door(Action.ADMINISTER),
    f"GET {INVITATIONS}": Door(Action.ADMINISTER),
    f"POST {INVITATIONS}": Door(Action.ADMINISTER, {"email": "somebody@example.com", "role": "VIEWER"}),
    f"DELETE {INVITATIONS}/{{invitation_id}}": Door(Action.ADMINISTER),
    "GET /api/v1/orgs/{org}/people": Door(Action.QUERY),
    f"GET {AUDIT}": Door(Action.ADMINISTER),
    "GET /api/v1/orgs/{org}/changes": Door(Action.QUERY, query="?since=earliest"),
    "GET /api/v1/orgs/{org}/events": Door(Action.QUERY, query="?since=earliest"),
    f"GET {D}/changes": Door(Action.QUERY, query="?since=earliest"),
    f"GET {D}/changes/{{event_id}}/ids": Door(Action.QUERY),
    f"GET {D}/events": Door(Action.QUERY, query="?since=earliest"),
    "GET /api/v1/orgs/{org}/datasets": Door(Action.QUERY),
    f"POST {CONTRACT}": Door(Action.REGISTER_CONTRACT, customers()),
    f"GET {CONTRACT}": Door(Action.QUERY),
    f"GET {CONTRACT}/{{dataset}}/diff": Door(Action.QUERY, query="?from=1.0&to=1.0"),
    f"GET {CONTRACT}/{{dataset}}/{{version}}": Door(Action.QUERY),
    f"DELETE {CONTRACT}/{{dataset}}/{{version}}": Door(Action.REGISTER_CONTRACT),
    f"POST {DRIFT}": Door(Action.REGISTER_CONTRACT, {"version": "1.0"}),
    f"GET {DRIFT}": Door(Action.QUERY),
    f"GET {DRIFT}/{{report}}": Door(Action.QUERY),
    f"POST {DRIFT}/{{report}}/accept": Door(Action.DECIDE_DRIFT, {}),
    f"POST {DRIFT}/{{report}}/map": Door(Action.DECIDE_DRIFT, {"from": "company", "to": "x"}),
    f"POST {DRIFT}/{{report}}/reject": Door(Action.DECIDE_DRIFT, {"reason": "as the test has it"}),
    f"GET {CONTRACT}/{{dataset}}/mappings": Door(Action.QUERY),
    f"DELETE {CONTRACT}/{{dataset}}/mappings/{{field}}": Door(Action.DECIDE_DRIFT),
    f"GET {JOINS}": Door(Action.QUERY),
    f"GET {JOINS}/candidates": Door(Action.QUERY, query="?left=customers&right=pfa"),
    f"GET {JOINS}/{{join_id}}": Door(Action.QUERY),
    f"POST {JOINS}/accept": Door(Action.DECIDE_JOINS, {"candidateId": "x", "rationale": "as the test has it"}),
    f"POST {JOINS}/{{join_id}}/deprecate": Door(Action.DECIDE_JOINS, {"reason": "as the test has it"}),
    f"GET {D}/state": Door(Action.QUERY),
    f"POST {D}/promote": Door(Action.PROMOTE, REHEARSED),
    f"POST {D}/deprecate": Door(Action.PROMOTE, REHEARSED),
    f"POST {D}/restore": Door(Action.PROMOTE, REHEARSED),
    f"POST {D}/rollback": Door(Action.PROMOTE, REHEARSED),
    f"POST {CONTRACT}/infer": Door(Action.REGISTER_CONTRACT, {"sample": [{"customerId": "C-1"}]}),
    f"POST {D}/ingest": Door(Action.INGEST, {"records": [{"customerId": "C-1", "company": "x"}]}),
    f"POST {D}/replay": Door(Action.REPLAY, TIME),
    f"POST {D}/backfill": Door(Action.REPLAY, TIME),
    f"GET {D}/quarantine": Door(Action.SYNCHRONIZE),
    f"POST {D}/quarantine/replay": Door(Action.INGEST, {"runId": RUN, "dryRun": True}),
    f"POST {D}/quarantine/discard": Door(Action.INGEST, {"ids": [f"{RUN}:000000001"], "reason": "as the test has it"}),
    f"POST {QUERY}/preview": Door(Action.QUERY, {"query": {"dataset": OWN}}),
    f"POST {QUERY}/validate": Door(Action.QUERY, {"query": {"dataset": OWN}}),
    f"POST {QUERY}/correct": Door(Action.QUERY, {"previewId": "", "type": "FILTER", "correction": {"filters": {}}}),
    f"POST {QUERY}/execute": Door(Action.QUERY, {"previewId": "", "digest": ""}),
    f"GET {QUERY}/executions": Door(Action.QUERY),
    f"GET {QUERY}/executions/{{execution}}": Door(Action.QUERY),
    f"GET {D}": Door(Action.QUERY),
    f"PUT {D}/settings": Door(Action.ADMINISTER, {"requireApproval": False}),
    f"POST {D}/rows/search": Door(Action.QUERY, {"filters": {"id": ["A", "B"]}}),
    f"GET {D}/rows": Door(Action.QUERY),
    f"GET {D}/rows/{{row_id}}": Door(Action.QUERY),
    f"GET {D}/rows/{{row_id}}/history": Door(Action.QUERY),
    f"PATCH {D}/rows/{{row_id}}": Door(Action.EDIT, {"forecastStart": "2026-02-02"}),
    f"GET {D}/export": Door(Action.QUERY),
    f"GET {D}/drafts": Door(Action.QUERY),
    f"POST {D}/drafts": Door(Action.EDIT, {"modifications": [{"id": "A", "delta": {"forecastStart": "2026-02-02"}}]}),
    f"POST {D}/drafts/undo": Door(Action.EDIT, {}),
    f"POST {D}/drafts/redo": Door(Action.EDIT, {}),
    f"GET {SESSIONS}": Door(Action.QUERY),
    f"POST {SESSIONS}": Door(Action.EDIT, {"mode": "row_selection", "rows": ["A"]}),
    f"GET {AT_SESSION}": Door(Action.QUERY),
    f"DELETE {AT_SESSION}": Door(Action.EDIT),
    f"POST {AT_SESSION}/extend": Door(Action.EDIT, {}),
    f"GET {AT_SESSION}/rows": Door(Action.QUERY),
    f"GET {AT_SESSION}/edits": Door(Action.QUERY),
    f"POST {AT_SESSION}/edits": Door(Action.EDIT, {"id": "A", "field": "equipment", "value": "x"}),
    f"POST {AT_SESSION}/edits/batch": Door(Action.EDIT, {"edits": [{"id": "A", "field": "equipment", "value": "x"}]}),
    f"POST {AT_SESSION}/undo": Door(Action.EDIT, {}),
    f"POST {AT_SESSION}/redo": Door(Action.EDIT, {}),
    f"GET {D}/kpis": Door(Action.QUERY),
    f"POST {D}/commit": Door(Action.EDIT, {"all": True}),
    f"POST {D}/discard": Door(Action.EDIT, {"all": True}),
    f"POST {D}/sessions/{{session_id}}/preview": Door(Action.EDIT, {"pageSize": 1}),
    f"GET {D}/sessions/{{session_id}}/preview": Door(Action.QUERY),
    f"GET {D}/sessions/{{session_id}}/validation": Door(Action.QUERY),
    f"POST {D}/sessions/{{session_id}}/validation/override": Door(Action.EDIT, {"reason": "Agreed"}),
    f"POST {AT_SESSION}/submit": Door(Action.EDIT, {"title": "Mine", "digest": "x"}),
    f"GET {REQUESTS}": Door(Action.QUERY),
    f"GET {AT_REQUEST}": Door(Action.QUERY),
    f"GET {AT_REQUEST}/diff": Door(Action.QUERY),
    f"GET {AT_REQUEST}/conflicts": Door(Action.QUERY),
    f"GET {AT_REQUEST}/comments": Door(Action.QUERY),
    f"POST {AT_REQUEST}/comments": Door(Action.QUERY, {"text": "Why?", "id": "A"}),
    f"POST {AT_REQUEST}/approve": Door(Action.EDIT, {"digest": "x"}),
    f"POST {AT_REQUEST}/resolutions": Door(Action.EDIT, {"default": "theirs"}),
    f"POST {AT_REQUEST}/merge": Door(Action.EDIT, {"digest": "x"}),
    f"POST {AT_REQUEST}/revert": Door(Action.EDIT, {"title": "Back"}),
    f"GET {AT_REQUEST}/audit": Door(Action.QUERY),
    f"POST {AT_REQUEST}/withdraw": Door(Action.EDIT, {}),
    f"POST {AT_REQUEST}/resubmit": Door(Action.EDIT, {}),
    f"POST {AT_REQUEST}/reject": Door(Action.EDIT, {"comment": "No"}),
    f"POST {D}/commits/{{commit_id}}/revert": Door(Action.EDIT, {"title": "Back"}),
    f"GET {D}/resolutions": Door(Action.REVIEW),
    f"DELETE {D}/resolutions/{{resolution_id}}": Door(Action.REVIEW),
    f"POST {D}/sync/pull": Door(Action.SYNCHRONIZE, {"full": True}),
    f"POST {D}/sync/push": Door(Action.SYNCHRONIZE, {}),
    f"POST {D}/sync/check": Door(Action.SYNCHRONIZE, {}),
    f"POST {D}/sync/pause": Door(Action.SYNCHRONIZE, {}),
    f"POST {D}/sync/resume": Door(Action.SYNCHRONIZE, {}),
    f"POST {D}/sync/runs/{{run_id}}/stop": Door(Action.SYNCHRONIZE, {}),
    f"GET {D}/sync/runs": Door(Action.SYNCHRONIZE),
    f"GET {D}/sync/runs/{{run_id}}": Door(Action.SYNCHRONIZE),
    f"GET {D}/sync/quarantine": Door(Action.SYNCHRONIZE),
    f"GET {D}/sync/failed": Door(Action.SYNCHRONIZE),
    f"POST {D}/sync/retry": Door(Action.SYNCHRONIZE, {"all": True}),
    f"GET {D}/sync/health": Door(Action.SYNCHRONIZE),
    "GET /api/pfa/{org}": Door(Action.QUERY),
    "GET /api/pfa/{org}/stats": Door(Action.QUERY),
    "POST /api/pfa/{org}/draft": Door(
        Action.EDIT, {"modifications": [{"pfaId": "A", "delta": {"forecastStart": "2026-02-02"}}]}
    ),
    "POST /api/pfa/{org}/commit": Door(Action.EDIT, {"pfaIds": ["A"]}),
    "POST /api/pfa/{org}/discard": Door(Action.EDIT, {"discardAll": True}),
}
# These belong to no organization, and tell about none but one's own.
OTHER_ROUTES = {
    "GET /health",
    "GET /health/ready",
    "GET /metrics",
    "POST /api/auth/login",
    "POST /api/auth/invitations/{token}/accept",
    "GET /api/auth/me",
    "POST /api/auth/logout",
    "POST /api/auth/renew",
    "POST /api/auth/password",
    "POST /api/v1/admin/sessions/cleanup",
    "GET /api/v1/admin/status",
    "GET /api/v1/system/mode",
    "PUT /api/v1/system/mode",
    "GET /schema",
    "GET /schema/swagger",
    "GET /schema/openapi.json",
    "GET /schema/assets/{name}",
    "GET /schema/{path}",
}

every_organization_route = pytest.mark.parametrize("route", ORGANIZATION_ROUTES)


@pytest.fixture(scope="module")
async def two(server_url: str, template: str) -> AsyncIterator[World]:
    """acme and its rival with the same row ids and other contents; ann and eve administer one each, and both draft."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await ready(world)
            for name, administrator, secret in (("acme", "ann", ACME), ("rival", "eve", RIVAL)):
                await world.organization(name)
                await world.mirror({key: line(equipment=secret) for key in "ABC"}, name)
                await world.mirror({key: vehicle(remark=secret) for key in "ABC"}, name, FLEET)
                user = await world.user(administrator, name, Role.ADMIN)
                clerk = await world.user(f"clerk-of-{name}", name)
                await user.draft("A", {"model": secret, "forecastCategory": secret})
                await user.draft(f"new-{name}", {"equipment": secret}, op="insert")
                await user.on("fleet").draft("A", {"depot": secret}, changeReason=secret)
                await own_dataset(user.on(OWN), secret)
                request = await submitted(clerk, {"id": "A", "delta": {"model": secret}}, title=secret)
                SUBMITTED[name] = request["id"]
                invited = {"email": f"{secret.lower()}@example.com", "role": "VIEWER"}
                found = await user.post(
                    DRIFT.format(org=name, dataset=OWN), {"sample": [{"customerId": "C", secret: "x"}]}
                )
                REPORTS[name] = written(found, 201)["id"]
                JOINED[name] = await joined(world, name, administrator, secret)
                INVITED[name] = written(await user.post(INVITATIONS.format(org=name), invited), 201)["id"]
                preview = await previewed(user, {"dataset": OWN, "filters": {"company": {"contains": secret}}})
                PREVIEWED[name] = {each: preview[each] for each in ("previewId", "digest")}
                EXECUTED[name] = (await executed(user, preview)).json()["executionId"]
                await begin_session(world, user, SESSION)
                fresh = {"id": f"fresh-{name}", "op": "insert", "delta": {"equipment": secret}}
                assert (await user.post("drafts", {"sessionId": SESSION, "modifications": [fresh]})).is_success
                await user.draft("B", {"model": secret})
                assert (await user.commit("B")).status_code == 200
                await user.draft("C", {"model": secret})
                assert (await user.commit("C")).status_code == 200
                await settle(world, "C", "sync_error", secret, name)
                await connect(world, name)
                await add_run(world, state="failed", id=RUN, organization_id=name, error_code="X", error=secret)
                await quarantine(world, "A", {"pfaId": secret}, {"code": "X", "message": secret}, organization_id=name)
                last = "SELECT max(number) FROM feed WHERE organization_id = $1 AND type = 'commit'"
                COMMITTED[name] = f"{await world.db.fetchval(last, name):012x}.0.AAAAAAAA."
            world.runtime.tailer.end()  # a stream tells what there is, and is over
            yield world


async def joined(world: World, organization: str, person: str, secret: str) -> str:
    """The id of a join that somebody has accepted."""
    made = await world.db.fetchval(
        "INSERT INTO dataset_join (organization_id, id, version, child, child_fields, parent, parent_fields, rationale,"
        " confidence, statistics, accepted_by, accepted_at) VALUES ($1, gen_random_uuid(), 1, 'pfa', '{dor}',"
        " 'customers', '{company}', $3, 1, $4, $2, now()) RETURNING id",
        organization, person, secret, MEASURED,
    )  # fmt: skip
    return str(made)


async def own_dataset(user: User, secret: str) -> None:
    """A dataset in use, with a row and a draft on it, and a record in quarantine; a second version of it in SHADOW."""
    await registered(user, customers(title=secret))
    await moved(user, "promote")
    written(await user.post("ingest", {"records": [{"customerId": "B", "revenue": secret}]}))
    await user.draft("A", {"company": secret}, op="insert")
    await committed(user)
    await user.draft("A", {"company": f"{secret} again"})
    fields = [field for field in customers()["fields"] if field["name"] != "customerSince"]
    await registered(user, customers(version="2.0", title=secret, fields=fields))


@pytest.fixture
async def eve(two: World) -> User:
    """An ADMIN of the rival, with drafts."""
    return member(two, "eve", "rival", Role.ADMIN)


def member(world: World, name: str, organization: str, role: Role) -> User:
    """Somebody who is in the world already, with a new token."""
    account = Account(id=name, email=f"{name}@example.com", name=name, operator=False, roles={organization: role})
    return User(world, name, organization, world.runtime.auth.issue(account))


async def call(user: User, route: str, organization: str, **names: str) -> httpx.Response:
    method, _, path = route.partition(" ")
    given = {"dataset": "pfa", "row_id": "A", "account": f"clerk-of-{organization}", "run_id": RUN}
    request_id = NOBODYS if route in AUTHORS else SUBMITTED.get(organization, NOBODYS)
    given |= {"request_id": request_id, "commit_id": NOBODYS, "resolution_id": NOBODYS}
    given |= {"invitation_id": INVITED.get(organization, NOBODYS)}
    report = NOBODYS if route == ACCEPTED else REPORTS.get(organization, NOBODYS)
    given |= {"report": report, "field": "company", "execution": EXECUTED.get(organization, NOBODYS)}
    given |= {"join_id": JOINED.get(organization, NOBODYS)}
    given |= {"event_id": COMMITTED.get(organization, COMMITTED["acme"]), "version": "1.0"}
    names = given | {"session_id": SESSION} | names
    _, body, query = ORGANIZATION_ROUTES[route]
    if body is not None and "previewId" in body:
        told = PREVIEWED.get(organization, PREVIEWED["acme"])
        body = {name: told.get(name, value) for name, value in body.items()}
    return await user.request(
        method,
        path.format(org=organization, **names) + query,
        content=None if body is None else exact_json.encode(body),
        headers={"Content-Type": "application/json"},
    )


async def belongings(world: World, organization: str) -> dict[str, str]:
    """A digest of what an organization has in every table."""
    tables = await world.db.fetch(
        "SELECT table_schema || '.' || table_name, column_name FROM information_schema.columns"
        " WHERE (column_name = 'organization_id' OR (table_name, column_name) = ('organization', 'id'))"
        " AND (table_schema IN ('public', 'pfa', 'fleet') OR table_schema LIKE 'own%')"
    )
    assert len(tables) >= 12
    digests = " UNION ALL ".join(
        f"SELECT '{table}', md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} AS t WHERE {column} = $1"
        for table, column in tables
    )
    return dict(await world.db.fetch(digests, organization))


def without_place(response: httpx.Response) -> tuple[int, dict[str, Any], dict[str, str]]:
    """An answer but for where and when it was given."""
    body = {name: value for name, value in response.json().items() if name not in ("instance", "requestId")}
    left_out = ("x-request-id", "content-length")
    return response.status_code, body, {n: value for n, value in response.headers.items() if n not in left_out}


async def test_every_route_is_entered_here(two: World) -> None:
    routes = {
        f"{method} {route.path_format}"
        for route in two.application.app.routes
        for method in getattr(route, "methods", ["SOCKET"])
        if method not in ("OPTIONS", "HEAD")
    }
    assert routes == ORGANIZATION_ROUTES.keys() | OTHER_ROUTES
    assert all("{org}" in route for route in ORGANIZATION_ROUTES)
    assert not any("{org" in route for route in OTHER_ROUTES)


# -- between organizations ---------------------------------------------------------------------------------------------


@every_organization_route
async def test_an_organization_that_is_anothers_answers_like_one_that_does_not_exist(
    two: World, eve: User, route: str
) -> None:
    before = await belongings(two, "acme")
    refusal = await call(eve, route, "acme")
    assert without_place(refusal) == without_place(await call(eve, route, "nowhere"))
    assert (refusal.status_code, refusal.json()["code"]) == (403, "FORBIDDEN")
    assert ACME not in refusal.text
    assert await belongings(two, "acme") == before


@every_organization_route
async def test_a_token_that_claims_an_organization_is_not_enough(two: World, route: str) -> None:
    """Nor is a membership that the token does not claim: both have to be there."""
    claimed = member(two, "eve", "acme", Role.ADMIN)
    unclaimed = member(two, "ann", "rival", Role.ADMIN)
    for user in (claimed, unclaimed):
        refusal = await call(user, route, "acme")
        assert (refusal.status_code, refusal.json()["code"]) == (403, "FORBIDDEN")
        assert without_place(refusal) == without_place(await call(user, route, "nowhere"))


@every_organization_route
async def test_without_a_token_no_organization_can_be_told_from_another(two: World, route: str) -> None:
    nobody = User(two, "nobody", "acme", "x")
    refusal = await call(nobody, route, "acme")
    assert refusal.status_code == 401
    assert without_place(refusal) == without_place(await call(nobody, route, "nowhere"))


@pytest.mark.parametrize("dataset", [*(contract.name for contract in CONTRACTS), OWN, f"{OWN}@2"])
@every_organization_route
async def test_what_is_done_at_home_neither_shows_nor_changes_anything_elsewhere(
    two: World, eve: User, route: str, dataset: str
) -> None:
    """With the same row ids on both sides, and drafts and changes on the same rows."""
    await eve.on("fleet").draft("A", {"lastDay": "2026-05-05"})
    before = await belongings(two, "acme")
    answer = await call(eve, route, "rival", dataset=dataset)
    assert answer.status_code not in (401, 403, 405, 500)
    assert ACME not in answer.text
    assert await belongings(two, "acme") == before


async def test_a_dataset_that_only_another_organization_has_is_not_there(two: World, eve: User) -> None:
    """In whatever state it is, and on every route: the answer is that of a name that nobody has."""
    ann = member(two, "ann", "acme", Role.ADMIN)
    await registered(ann, customers(name="ledger", title=ACME))
    for action in ("promote", "deprecate", "restore"):
        before = await belongings(two, "acme")
        for route in ORGANIZATION_ROUTES:
            if "{dataset}" in route:
                told = await call(eve, route, "rival", dataset="ledger")
                nothing = await call(eve, route, "rival", dataset="nobody")
                assert told.status_code in (400, 404), route
                said = [
                    each.replace("ledger", "nobody").partition('"instance"')[0] for each in (told.text, nothing.text)
                ]
                assert said[0] == said[1], route
        assert await belongings(two, "acme") == before
        await moved(ann.on("ledger"), action)


async def test_two_datasets_of_one_name_are_two(two: World, eve: User) -> None:
    """Their lists, versions, rows and states: what the one organization does with its own is nothing to the other."""
    ann = member(two, "ann", "acme", Role.ADMIN)
    fields = [*customers()["fields"], {"name": "region", "type": "text", "indexed": True}]
    before = await belongings(two, "rival")
    await registered(ann, customers(version="1.1", title=ACME, fields=fields))
    await moved(ann.on(f"{OWN}@2"), "promote")
    await moved(ann.on(OWN), "deprecate")
    await moved(ann.on(OWN), "restore")
    assert await belongings(two, "rival") == before
    found = (await eve.get("/api/v1/orgs/rival/datasets")).json()["data"]
    assert [(each["name"], each["contractVersion"], each["state"]) for each in found if each["dataset"] == OWN] == [
        (OWN, "1.0", "ACTIVE"),
        (f"{OWN}@2", "2.0", "SHADOW"),
    ]
    assert [row["data"]["company"] for row in await eve.on(OWN).rows(id="A")] == [f"{RIVAL} again"]
    for path in ("/api/v1/orgs/rival/contracts", "/api/v1/orgs/rival/changes?since=earliest", "state"):
        assert ACME not in (await eve.on(OWN).get(path)).text


async def test_records_of_another_organization_are_neither_listed_nor_sent_nor_put_away(two: World, eve: User) -> None:
    """Not even by their ids, which a former member may know; nor does a replay of all times read them."""
    ann, eve = member(two, "ann", "acme", Role.ADMIN).on(OWN), eve.on(OWN)
    anns, eves = [(await user.get("quarantine")).json() for user in (ann, eve)]
    assert ACME in anns["data"][0]["raw"]
    assert (eves["total"], ACME in str(eves)) == (1, False)
    before = await belongings(two, "acme")
    theirs = {"ids": [anns["data"][0]["id"]]}
    assert written(await eve.post("quarantine/replay", theirs))["read"] == 0
    assert written(await eve.post("quarantine/replay", {"runId": anns["data"][0]["runId"]}))["read"] == 0
    assert written(await eve.post("quarantine/discard", theirs | {"reason": "x"})) == {"discarded": 0}
    tried = written(await eve.post("replay", TIME | {"from": "0001-01-01T00:00:00Z"}))
    assert {each["line"] for each in tried["preview"]} == {1}
    assert ACME not in str(tried)
    assert await belongings(two, "acme") == before


async def test_previews_and_executions_of_another_organization_are_nobodys(two: World, eve: User) -> None:
    """Asked at home by their ids, which a former member may know, they answer like ids that nobody has."""
    before = await belongings(two, "acme")
    theirs, home = PREVIEWED["acme"], QUERY.format(org="rival")
    correction = {"type": "FILTER", "correction": {"filters": {}}}
    for path, more in (("execute", {"digest": theirs["digest"]}), ("correct", correction)):
        told = refused(await eve.post(f"{home}/{path}", more | {"previewId": theirs["previewId"]}), 404,
                       "PREVIEW_NOT_FOUND")  # fmt: skip
        nobodys = refused(await eve.post(f"{home}/{path}", more | {"previewId": NOBODYS}), 404, "PREVIEW_NOT_FOUND")
        assert told["detail"].replace(theirs["previewId"], NOBODYS) == nobodys["detail"]
    told = refused(await eve.get(f"{home}/executions/{EXECUTED['acme']}"), 404, "EXECUTION_NOT_FOUND")
    nobodys = refused(await eve.get(f"{home}/executions/{NOBODYS}"), 404, "EXECUTION_NOT_FOUND")
    assert told["detail"].replace(EXECUTED["acme"], NOBODYS) == nobodys["detail"]
    listed = (await eve.get(f"{home}/executions")).text
    assert EXECUTED["rival"] in listed
    assert EXECUTED["acme"] not in listed
    assert ACME not in listed
    assert await belongings(two, "acme") == before


async def test_filters_searches_and_totals_count_ones_own_rows_only(two: World, eve: User) -> None:
    for name, params in (
        ("pfa", {"equipment": ACME}),
        ("pfa", {"equipment[contains]": "acme"}),
        ("pfa", {"search": "acme"}),
        ("pfa", {"model": ACME}),
        ("pfa", {"id": "new-acme"}),
        ("fleet", {"remark": ACME}),
        ("fleet", {"depot": ACME}),
    ):
        page = await eve.on(name).page(**params)
        assert (page["data"], page["pagination"]["totalRecords"]) == ([], 0), params
        estimate = await eve.on(name).page(count="estimated", **params)
        assert estimate["data"] == []
    assert (await eve.get("rows/new-acme")).status_code == 404


async def test_whoever_is_a_member_of_both_keeps_them_apart(world: World) -> None:
    """Cursors, ETags, Idempotency-Keys, versions and sessions of one organization mean nothing in the other."""
    for name in ("acme", "rival"):
        if name == "rival":
            await world.organization(name)
        await world.mirror({key: line(equipment=name) for key in "ABC"}, name)
    here = await world.user("max", "acme")
    there = await world.user("max", "rival")
    bodies = {}
    for user in (here, there):
        answer = await user.post(
            "drafts",
            {"sessionId": "s", "modifications": [{"id": "A", "delta": {"model": user.organization}}]},
            headers={"Idempotency-Key": "the-same"},
        )
        assert answer.status_code == 200
        bodies[user.organization] = answer.json()["saved"][0]["modificationId"]
        await user.draft("B", {"model": user.organization})
    assert bodies["acme"] != bodies["rival"]
    assert [(await user.row("A"))["data"]["model"] for user in (here, there)] == ["acme", "rival"]

    for path in ("rows", "drafts"):
        cursor = (await here.get(path, {"pageSize": 1})).json()["pagination"]["nextCursor"]
        assert (await here.get(path, {"after": cursor})).status_code == 200
        refusal = await there.get(path, {"after": cursor})
        assert (refusal.status_code, refusal.json()["code"]) == (400, "INVALID_CURSOR")

    for path in ("rows", "/api/pfa/{}"):
        tag = (await here.get(path.format("acme"))).headers["ETag"]
        assert (await here.get(path.format("acme"), headers={"If-None-Match": tag})).status_code == 304
        assert (await there.get(path.format("rival"), headers={"If-None-Match": tag})).status_code == 200

    assert (await here.post("commit", {"sessionId": "s"})).json()["committed"] == 1
    assert (await here.discard()).json()["discarded"] == 1
    assert [row["syncState"] for row in await there.rows(sort="id")] == ["draft", "draft", "pristine"]


# -- between users of an organization ----------------------------------------------------------------------------------


async def test_a_draft_is_its_authors_alone(world: World, ann: User, bob: User) -> None:
    """Until it is committed nobody else can see it, find it, count it, commit it or discard it."""
    await world.mirror({"A": line(equipment="old"), "B": line()})
    pristine = await bob.rows(sort="id")
    await ann.draft("A", {"equipment": ACME, "model": ACME}, changeReason=ACME)
    await ann.draft("N", {"equipment": ACME}, op="insert")
    await ann.draft("B", op="delete")
    await ann.post("drafts", {"sessionId": "s", "modifications": [{"id": "A", "delta": {"forecastCategory": ACME}}]})

    page = await bob.page(sort="id")
    assert (page["data"], page["pagination"]["totalRecords"]) == (pristine, 2)
    for params in ({"equipment": ACME}, {"model": ACME}, {"search": ACME}, {"id": "N"}, {"syncState": "draft"}):
        assert (await bob.page(**params))["pagination"]["totalRecords"] == 0, params
    for path in ("rows/N", "rows/N?include=explain", "rows/N/history"):
        assert (await bob.get(path)).status_code == 404
    for path in (
        "rows/A?include=overlap,explain",
        "rows/A/history",
        "rows?include=overlap",
        "rows?include=deleted,layers,computed",
        "drafts",
        "/api/pfa/acme",
        "rows/B",
    ):
        answer = await bob.get(path)
        assert answer.status_code == 200
        assert ACME not in answer.text
    assert (await bob.get("drafts")).json()["data"] == []

    before = await world.db.fetch("SELECT * FROM pfa.modification WHERE user_id = 'ann' ORDER BY row_key")
    for body in ({"ids": ["A", "N", "B"]}, {"sessionId": "s"}, {"all": True}):
        refusal = await bob.post("commit", body)
        assert (refusal.status_code, refusal.json()["code"]) == (404, "NO_DRAFTS")
        assert written(await bob.post("discard", body)) == {"discarded": 0}
    assert (await bob.post("/api/pfa/acme/discard", {"discardAll": True})).json()["discarded"] == 0
    assert await world.db.fetch("SELECT * FROM pfa.modification WHERE user_id = 'ann' ORDER BY row_key") == before


async def test_a_preview_is_its_makers_alone_and_an_execution_administrators_too(
    world: World, ann: User, bob: User
) -> None:
    """Nobody runs or corrects somebody else's preview, an ADMIN neither; an ADMIN sees what was run."""
    await world.mirror({"A": line(category=ACME)})
    boss = await world.user("boss", role=Role.ADMIN)
    preview = await previewed(ann, {"dataset": "pfa", "filters": {"category": ACME}})
    run = (await executed(ann, preview)).json()["executionId"]
    correction = {"previewId": preview["previewId"], "type": "FILTER", "correction": {"filters": {}}}
    for user in (bob, boss):
        refused(await executed(user, preview), 404, "PREVIEW_NOT_FOUND")
        refused(await user.post(querying(user, "correct"), correction), 404, "PREVIEW_NOT_FOUND")
    refused(await bob.get(querying(bob, f"executions/{run}")), 404, "EXECUTION_NOT_FOUND")
    assert (await bob.get(querying(bob, "executions"))).json() == {"data": [], "nextCursor": None}
    for user in (ann, boss):
        assert (await user.get(querying(user, f"executions/{run}"))).json()["query"]["filters"] == {"category": ACME}
        assert [each["id"] for each in (await user.get(querying(user, "executions"))).json()["data"]] == [run]


async def test_an_etag_or_a_key_of_anothers_is_nothing_to_oneself(world: World, ann: User, bob: User) -> None:
    await world.mirror({"A": line()})
    tag = (await ann.get("rows")).headers["ETag"]
    assert (await bob.get("rows", headers={"If-None-Match": tag})).status_code == 200

    body = {"modifications": [{"id": "A", "delta": {"model": ACME}}]}
    first = await ann.post("drafts", body, headers={"Idempotency-Key": "k"})
    second = await bob.post("drafts", body, headers={"Idempotency-Key": "k"})
    assert first.status_code == second.status_code == 200
    assert first.json()["saved"][0]["modificationId"] != second.json()["saved"][0]["modificationId"]
    other = {"modifications": [{"id": "A", "delta": {"model": "mine"}}]}
    assert (await bob.post("drafts", other, headers={"Idempotency-Key": "k"})).status_code == 422


async def test_a_conflict_shows_what_was_committed_and_nobodys_draft(world: World, ann: User, bob: User) -> None:
    """Given ann who committed one field and drafts more, when bob meets her commit, then he learns that field only."""
    await world.mirror({"A": line(model="old", equipment="old")})
    await bob.draft("A", {"model": "bob's"})
    await ann.draft("A", {"model": "ann's"})
    assert (await ann.commit()).status_code == 200
    await ann.draft("A", {"equipment": ACME, "model": ACME})
    refusal = await bob.commit()
    assert refusal.status_code == 409
    assert [(c["field"], c["theirs"]) for c in refusal.json()["conflicts"]] == [("model", "ann's")]
    assert ACME not in refusal.text
    assert ACME not in (await bob.get("rows/A")).text
    assert ACME not in (await bob.get("drafts")).text


# -- between roles -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", Role)
@every_organization_route
async def test_each_role_may_do_what_the_matrix_says(two: World, route: str, role: Role) -> None:
    door = ORGANIZATION_ROUTES[route]
    name = f"role-{role.value}".lower()
    await two.db.execute("INSERT INTO account (id, email, name) VALUES ($1, $1, $1) ON CONFLICT DO NOTHING", name)
    await two.db.execute(
        "INSERT INTO membership (organization_id, account_id, role) VALUES ('acme', $1, $2) ON CONFLICT DO NOTHING",
        name,
        role.value,
    )
    user = member(two, name, "acme", role)
    before = await belongings(two, "acme")
    answer = await call(user, route, "acme")
    if role in ALLOWED[door.action]:
        assert answer.status_code not in (401, 403, 405, 500), answer.text
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "FORBIDDEN")
        assert await belongings(two, "acme") == before


@pytest.mark.parametrize(("claimed", "stored"), [(Role.ADMIN, Role.VIEWER), (Role.VIEWER, Role.ADMIN)])
async def test_of_two_roles_the_lesser_counts(world: World, claimed: Role, stored: Role) -> None:
    await world.mirror({"A": line()})
    await world.user("ann", role=stored)
    user = member(world, "ann", "acme", claimed)
    assert (await user.get("rows")).status_code == 200
    for method, path in (
        ("PATCH", "rows/A"),
        ("POST", "drafts"),
        ("POST", "commit"),
        ("GET", "/api/v1/orgs/acme/members"),
    ):
        assert (await user.request(method, path, json={})).status_code == 403
