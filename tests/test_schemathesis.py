"""Whatever the OpenAPI document allows, and what it does not, is answered as it says: schemathesis sends both."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.base.settings import Settings
from app.invitations.links import write_link
from app.main import create_app
from app.web.auth import Role
from tests.conftest import new_database
from tests.support.own import moved, ready, registered
from tests.support.records import add_run, begin_session, connect, quarantine, settled_changes
from tests.support.requests import submitted
from tests.support.world import CONTRACTS, FLEET, NEW, SECRET, User, World, committed, line, open_world, vehicle

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
BASE = "http://vanguard.test"
EXAMPLES = 12
EVENT = "000000000001.0.AAAAAAAA."  # bob's commit, the first that happens, whoever asks for it
INVITATION = UUID("8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d14")
# Most cases are about what is there; the others keep the random words that they came with.
KNOWN = {
    "org": ["acme"],
    "dataset": ["pfa", "fleet", "customers"],
    "row_id": ["A", "B", "C"],
    "account": ["bob", "carol@example.com"],
    "invitation_id": [str(INVITATION)],
    "token": [write_link(SECRET, "acme", INVITATION, datetime(2026, 3, 8, 12, tzinfo=UTC))],
    "run_id": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d11"],
    "commit_id": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d12"],
    "resolution_id": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d13"],
    "event_id": [EVENT],
    "version": ["1.0"],
    "report": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d14"],
    "field": ["company"],
    "execution": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d15"],
    "join_id": ["8a0e4a5e-6f0b-4d0e-9b8e-0a4f6f3c2d15"],
}

APPLICATION = create_app(Settings(database_url="postgresql://nowhere", secret=SECRET), contracts=CONTRACTS)
DOCUMENT = APPLICATION.app.openapi_schema.to_schema()
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
FOUND: list[Any] = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
# In the same order in each process: the paths of a route that has two come in any.
OPERATIONS = {operation.label: operation for operation in sorted(FOUND, key=lambda operation: str(operation.path))}


@pytest.fixture(scope="module")
async def populated(server_url: str, template: str) -> AsyncIterator[World]:
    """Two datasets with some rows and drafts; what the cases do to it is their own business."""
    with new_database(server_url, template) as url:
        # All cases of an operation are sent at once, those of a login, too.
        async with open_world(url, login_queue=1000) as world:
            await world.organization("acme")
            await world.mirror({key: line() for key in "ABC"})
            await world.mirror({key: vehicle() for key in "ABC"}, contract=FLEET)
            await world.user("carol")
            await connect(world)
            await add_run(world, id=KNOWN["run_id"][0])
            await quarantine(world, "A", {"pfaId": "A"}, {"code": "INVALID_ID", "message": "Too long."})
            await settled_changes(world, 3, "conflict", world.clock())
            bob = await world.user("bob")
            await bob.draft("C", {"model": "M"})
            assert (await committed(bob))["position"].startswith(EVENT.removesuffix("AAAAAAAA."))
            await ready(world)
            dora = (await world.user("dora", role=Role.ADMIN)).on("customers")
            await registered(dora)
            await moved(dora, "promote")
            records = [{"customerId": key, "company": key} for key in "ABC"]
            assert (await dora.post("ingest", {"records": [*records, {"company": "no key"}]})).status_code == 200
            world.runtime.tailer.end()  # a stream tells what there is, and is over
            yield world


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize("label", OPERATIONS)
async def test_a_route_answers_as_the_document_says(
    populated: World, label: str, mode: GenerationMode, cases: list[Any]
) -> None:
    """Status, content type and shape of every answer are documented, and none is a failure of ours."""
    name = f"user-{list(OPERATIONS).index(label)}-{mode.value}"
    user = await populated.user(name, role=Role.ADMIN)
    await in_use(populated)
    await invited(populated)
    await user.draft("A", {"model": "M"})
    await user.on("fleet").draft("B", {"remark": "R"})
    # One in each dataset, in the order of the datasets.
    known = KNOWN | {
        "session_id": [await edited(user.on(dataset)) for dataset in KNOWN["dataset"]],
        "request_id": [await asked(user.on(dataset)) for dataset in KNOWN["dataset"]],
    }
    for number, case in enumerate(cases):
        if number % 5:
            case.path_parameters = {
                name: known[name][number % len(known[name])] for name in case.path_parameters or {}
            } or case.path_parameters
    answers = await asyncio.gather(*(send(user, case) for case in cases))
    found = {}
    for case, answer in zip(cases, answers, strict=True):
        if answer is not None:
            assert answer.headers["X-Request-ID"]
            try:
                case.validate_response(answer, checks=CHECKS)
            except FailureGroup as failures:
                found[str(failures)] = answer.status_code
    assert not found, "\n\n".join(found)
    assert mode is GenerationMode.NEGATIVE or any(answers)


async def in_use(world: World) -> None:
    """The datasets are in use again, whatever cases before have made of them."""
    active = "UPDATE dataset SET state = 'ACTIVE', deprecated_at = NULL WHERE name = ANY ($1)"
    await world.db.execute(active, KNOWN["dataset"])
    await ready(world)
    for dataset in KNOWN["dataset"]:
        world.runtime.datasets.forget_state("acme", dataset)


async def invited(world: World) -> None:
    """Somebody is invited, whatever cases before have made of it."""
    await world.db.execute(
        "INSERT INTO invitation (organization_id, id, email, role, invited_by, created_at, expires_at)"
        " VALUES ('acme', $1, 'nina@example.com', 'VIEWER', 'dora', $2, $3) ON CONFLICT DO NOTHING",
        INVITATION, world.clock(), datetime(2026, 3, 8, 12, tzinfo=UTC),
    )  # fmt: skip


async def edited(user: User) -> str:
    """The id of a session of the user's, with an edit."""
    session_id = f"{user.id}-{user.dataset}"
    await begin_session(user.world, user, session_id)
    new = {"id": f"new-{user.id}", "op": "insert", "delta": {}}
    assert (await user.post("drafts", {"sessionId": session_id, "modifications": [new]})).status_code == 200
    return session_id


async def asked(user: User) -> str:
    """The id of a change request of the user's."""
    new = {"id": f"asked-{user.id}", "op": "insert", "delta": {"depot": "North", "kind": "Van"}}
    if user.dataset == "pfa":
        new["delta"] = NEW
    elif user.dataset == "customers":
        new["delta"] = {"company": "Acme"}
    return str((await submitted(user, new))["id"])


@pytest.fixture
def cases(label: str, mode: GenerationMode) -> list[Any]:
    """The same cases at every run; none where a route takes nothing that could be wrong."""
    found: list[Any] = []

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(OPERATIONS[label].as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        found.append(case)

    with suppress(Unsatisfiable):
        collect()
    return found


async def send(user: User, case: Any) -> httpx.Response | None:
    """The answer; None for what no client could send."""
    options = case.as_transport_kwargs(base_url=BASE)
    names = ("method", "url", "headers", "params", "json", "data", "files", "cookies")
    try:
        request = requests.Request(**{name: options[name] for name in names if options.get(name) is not None}).prepare()
        message = httpx.Request(
            str(request.method),
            str(request.url),
            headers=[*_pairs(request.headers), (b"Authorization", f"Bearer {user.token}".encode())],
            content=request.body if isinstance(request.body, str | bytes) else None,
        )
    except (requests.RequestException, httpx.InvalidURL, UnicodeError):
        return None
    return await user.world.http.send(message)


def _pairs(headers: Mapping[str, str | bytes]) -> list[tuple[bytes, bytes]]:
    return [
        (name.encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
        if name.lower() != "authorization"
    ]


def test_the_document_says_what_every_path_holds() -> None:
    """A class of an operation that names parameters of its own keeps those of the path."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
            assert named == {*re.findall(r"{(\w+)}", path)}, f"{method} {path}"


def test_the_document_says_in_what_forms_an_answer_can_be_had() -> None:
    execute = DOCUMENT["paths"]["/api/v1/orgs/{org}/query/execute"]["post"]["responses"]["200"]["content"]
    assert [*execute] == ["application/json", "text/csv", "application/x-ndjson"]


def test_the_document_lists_every_parameter_that_a_list_takes() -> None:
    """The handlers of lists read the query string themselves, so the document has to be told."""
    parameters = {
        path: {parameter["name"] for parameter in item["get"].get("parameters", [])}
        for path, item in DOCUMENT["paths"].items()
        if "get" in item
    }
    dataset = "/api/v1/orgs/{org}/datasets/{dataset}"
    assert {"sort", "page", "pageSize", "after", "count", "fields", "search"} <= parameters[f"{dataset}/rows"]
    assert {"pageSize", "after"} <= parameters[f"{dataset}/drafts"]
    assert {"kind", "state", "limit", "after"} <= parameters[f"{dataset}/sync/runs"]
    assert {"limit", "after"} <= parameters[f"{dataset}/sync/quarantine"] & parameters[f"{dataset}/sync/failed"]
    assert {"category", "dateRangeStart", "searchText", "sortBy", "page"} <= parameters["/api/pfa/{org}"]


@pytest.mark.parametrize(
    ("body", "member", "item"),
    [
        ("SaveRequest", "modifications", "Draft"),
        ("PfaDraftRequest", "modifications", "PfaDraft"),
        ("CommitRequest", "resolutions", "Resolution"),
    ],
)
def test_the_document_says_what_the_lists_of_a_body_hold(body: str, member: str, item: str) -> None:
    """Litestar makes "one of this or anything" out of an annotated tuple, which nothing valid satisfies."""
    found = DOCUMENT["components"]["schemas"][body]["properties"][member]
    assert found["items"] == {"$ref": f"#/components/schemas/{item}"}
