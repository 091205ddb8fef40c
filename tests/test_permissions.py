"""Who may do what: the table of roles, role by role and action by action, on every route that the application has.

The table is written out once, here; the matrix of app/web/auth.py is held against it, and each route against the
matrix, over HTTP. A new route has to fall under a column of the table before these tests pass.
"""

import re
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest

from app.web.auth import ALLOWED, Account, Action, Role
from tests.conftest import new_database
from tests.support.own import moved, ready, registered
from tests.support.requests import act, submitted
from tests.support.routes import Route, walk
from tests.support.world import User, World, line, open_world, refused

# Each column with the actions that it stands for.
COLUMNS = {
    "query": (Action.QUERY,),
    "edit": (Action.EDIT,),
    "register": (Action.REGISTER_CONTRACT,),
    "ingest": (Action.INGEST,),
    "synchronize": (Action.SYNCHRONIZE,),
    "review": (Action.REVIEW,),
    "promote": (Action.PROMOTE, Action.LIFT_GUARDS),
    "shadow": (Action.SEE_SHADOW,),
    "decide": (Action.DECIDE_DRIFT, Action.DECIDE_JOINS),
    "replay": (Action.REPLAY,),
    "override": (Action.OVERRIDE_GUARDS,),
    "administer": (Action.ADMINISTER,),
}
TABLE = """
role      query edit register ingest synchronize review promote shadow decide replay override administer
VIEWER    yes   -    -        -      -           -      -       -      -      -      -        -
ANALYST   yes   yes  -        -      -           -      -       -      -      -      -        -
ENGINEER  yes   yes  yes      yes    yes         -      -       yes    -      -      -        -
ADMIN     yes   yes  yes      yes    yes         yes    yes     yes    yes    yes    yes      yes
"""

# Under which column a route falls: the first of these that its method and path match.
FALLS = [
    (r"\w+ /api/v1/orgs/\{org\}/(members|audit)(/\{account\}(/tokens)?)?", "administer"),
    (r"\w+ /api/v1/orgs/\{org\}/invitations(/\{invitation_id\})?", "administer"),
    (r"PUT .*/settings", "administer"),
    (r"POST .*/datasets/\{dataset\}/(promote|deprecate|restore|rollback)", "promote"),
    (r"POST .*/datasets/\{dataset\}/(replay|backfill)", "replay"),
    (r"POST .*/datasets/\{dataset\}/(ingest|quarantine/.*)", "ingest"),
    (r"\w+ .*/datasets/\{dataset\}/(sync/.*|quarantine|received)", "synchronize"),
    (r"(GET|DELETE) .*/datasets/\{dataset\}/resolutions(/.*)?", "review"),
    (r"POST .*/contracts/\{dataset\}/drift/\{report\}/(accept|map|reject)", "decide"),
    (r"DELETE .*/contracts/\{dataset\}/mappings/\{field\}", "decide"),
    (r"POST .*/joins/(accept|\{join_id\}/deprecate)", "decide"),
    (r"(POST|PUT|DELETE) .*/orgs/\{org\}/contracts.*", "register"),
    # A guard is overridden in the body of an execution, and the handler sees to that.
    (r"POST .*/orgs/\{org\}/query/(preview|correct)", "query"),
    # Whoever is named as an approver reviews, and the handler sees to that; whoever sees a request asks about it.
    (r"POST .*/change-requests/\{request_id\}/comments", "query"),
    (r"GET .*", "query"),
    (r"(POST|PATCH|PUT|DELETE) .*", "edit"),
]
# These belong to no organization.
OPEN = re.compile(r"GET /(health.*|metrics|schema.*)|POST /api/auth/(login|invitations/\{token\}/accept)")
ONES_OWN = re.compile(r"\w+ /api/auth/(me|logout|renew|password)")
OPERATORS = re.compile(r"\w+ /api/v1/(system|admin)/.*")


class Granted(NamedTuple):
    """A role, and what the table says it may do."""

    role: Role
    columns: frozenset[str]


def granted() -> list[Granted]:
    """The table, a role a line."""
    head, *lines = (text.split() for text in TABLE.strip().splitlines())
    return [
        Granted(Role(role), frozenset(name for name, said in zip(head[1:], said, strict=True) if said == "yes"))
        for role, *said in lines
    ]


def column_of(route: Route) -> str:
    """The column that a route falls under."""
    name = f"GET {route.path}" if route.reads else route.name
    return next(column for pattern, column in FALLS if re.fullmatch(pattern, name))


@pytest.fixture(scope="module")
async def house(server_url: str, template: str) -> AsyncIterator[World]:
    """acme with somebody in each role, a dataset in use, and a version in SHADOW beside."""
    with new_database(server_url, template) as url:
        async with open_world(url) as world:
            await world.organization("acme")
            await ready(world)
            for role in Role:
                await world.user(role.value.lower(), role=role)
            await world.mirror({"A": line()})
            contract = (await registered(member(world, Role.ENGINEER)))["contract"]
            await moved(member(world, Role.ADMIN).on("customers"), "promote")
            fields = [field for field in contract["fields"] if field["name"] != "customerSince"]
            await registered(member(world, Role.ENGINEER), contract | {"version": "2.0", "fields": fields})
            await world.db.execute("UPDATE account SET operator = true")  # what their tokens claim decides
            world.runtime.tailer.end()  # a stream tells what there is, and is over
            yield world


def member(world: World, role: Role, *, operator: bool = False) -> User:
    """The one in this role."""
    name = role.value.lower()
    account = Account(id=name, email=f"{name}@example.com", name=name, operator=operator, roles={"acme": role})
    return User(world, name, "acme", world.runtime.auth.issue(account))


def test_the_matrix_is_the_table() -> None:
    wanted = {
        action: frozenset(each.role for each in granted() if column in each.columns)
        for column, actions in COLUMNS.items()
        for action in actions
    }
    assert wanted == ALLOWED
    assert [each.role for each in granted()] == list(Role)


async def test_every_route_is_open_ones_own_an_operators_or_asks_the_matrix(house: World) -> None:
    for route in walk(house):
        if "{org}" in route.path:
            assert route.requires is not None, route.name
            assert not route.public, route.name
            continue
        kinds = [bool(kind.fullmatch(route.name)) for kind in (OPEN, ONES_OWN, OPERATORS)]
        assert sum(kinds) == 1, route.name
        assert (route.public, route.requires is not None) == (kinds[0], kinds[2]), route.name


@pytest.mark.parametrize("each", granted(), ids=lambda each: each.role.value)
async def test_a_role_may_do_what_the_table_says_on_every_route(house: World, each: Granted) -> None:
    """What is asked of is not there, so that nothing comes of what is allowed."""
    user = member(house, each.role)
    for route in walk(house):
        if "{org}" not in route.path:
            continue
        answer = await user.request(route.method, route.at("acme"), json={})
        if column_of(route) in each.columns:
            assert answer.status_code not in (401, 403, 405, 500), (route.name, answer.text)
        else:
            refused(answer, 403, "FORBIDDEN")


@pytest.mark.parametrize("role", Role)
async def test_operators_alone_do_what_belongs_to_no_organization(house: World, role: Role) -> None:
    """Whatever their role: the claim is apart from the roles."""
    for route in walk(house):
        if OPERATORS.fullmatch(route.name):
            refused(await member(house, role).request(route.method, route.path, json={}), 403, "FORBIDDEN")
            answer = await member(house, role, operator=True).request(route.method, route.path, json={})
            assert answer.status_code not in (401, 403, 405, 500), (route.name, answer.text)


@pytest.mark.parametrize("each", granted(), ids=lambda each: each.role.value)
async def test_a_version_in_shadow_is_there_for_those_who_may_see_it(house: World, each: Granted) -> None:
    user, sees = member(house, each.role), "shadow" in each.columns
    assert (await user.on("customers@2").get("rows")).status_code == (200 if sees else 404)
    listed = (await user.get("/api/v1/orgs/acme/contracts")).json()["data"]
    assert [version["version"] for version in listed] == (["2.0", "1.0"] if sees else ["1.0"])
    assert (await user.get("/api/v1/orgs/acme/contracts/customers/2.0")).status_code == (200 if sees else 404)


@pytest.mark.parametrize("each", granted(), ids=lambda each: each.role.value)
async def test_guards_of_a_pull_are_lifted_by_those_who_may(house: World, each: Granted) -> None:
    answer = await member(house, each.role).post("sync/pull", {"allow": ["deletions"]})
    assert (answer.status_code == 403) == ("promote" not in each.columns), answer.text


async def test_an_analyst_reviews_where_named_as_an_approver_and_nobody_what_is_their_own(world: World) -> None:
    await world.mirror({"A": line()})
    author, named, other = [await world.user(name) for name in ("author", "named", "other")]
    boss = await world.user("boss", role=Role.ADMIN)
    mine = await submitted(boss, {"id": "A", "delta": {"model": "mine"}})
    refused(await act(boss, mine, "approve"), 403, "FORBIDDEN")
    wanted = await submitted(author, {"id": "A", "delta": {"model": "new"}}, approvers=("named",))
    assert (await other.post(f"change-requests/{wanted['id']}/approve", {"digest": "x"})).status_code in (403, 404)
    refused(await act(author, wanted, "approve"), 403, "FORBIDDEN")
    assert (await act(named, wanted, "approve")).status_code == 200
    assert (await act(named, wanted, "merge")).status_code == 200
