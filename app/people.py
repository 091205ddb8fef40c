"""What people are called: `GET /api/v1/orgs/{org}/people`, and the names that stand beside ids.

A name is told of members only (`vanguard.name_of`), so that nobody learns of a stranger by naming an id. A statement
that returns somebody returns their name, too; where an answer is made of several, `read_names` asks for all at once.
"""

from collections.abc import Iterable

import msgspec
from litestar import Response, get

from app.base import exact_json
from app.base.database import Connection
from app.base.statements import statement
from app.engine.cursors import Cursor
from app.web.auth import Action, require
from app.web.openapi import Organization, answers
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import VanguardRequest

LIST_PEOPLE = statement("people/list_people")
READ_NAMES = statement("people/read_names")

NO_STORE = {"Cache-Control": "no-store"}


class NamedPerson(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the organization."""

    id: str
    name: str


class PeopleAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of the organization's members, by name and id."""

    data: list[NamedPerson]
    next_cursor: str | None


async def read_names(connection: Connection, organization: str, people: Iterable[str]) -> dict[str, str | None]:
    """What each is called; None for whoever is no member."""
    wanted = sorted(set(people))
    if not wanted:
        return {}
    rows = await connection.rows(READ_NAMES, organization=organization, people=wanted)
    return {row["id"]: row["name"] for row in rows}


@get(
    "/api/v1/orgs/{org:str}/people",
    opt=require(Action.QUERY),
    tags=["members"],
    summary="What the members are called",
    operation_class=PageOperation,
    responses=answers(PeopleAnswer),
)
async def list_people(request: VanguardRequest, org: Organization) -> Response[bytes]:
    """By name and id. Parameters: limit, after."""
    runtime = request.runtime
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/people", given.get("after"))
    after, after_id = (str(walk.cursor.values[0]), walk.cursor.key) if walk.cursor else ("", "")
    async with runtime.database.connection() as connection:
        rows = await connection.rows(LIST_PEOPLE, organization=org, after=after, after_id=after_id, limit=limit + 1)
    walk.check(rows[0]["incarnation"])
    shown = [NamedPerson(id=row["id"], name=row["name"]) for row in rows[:limit] if row["id"] is not None]
    following = walk.following(rows, limit, lambda last: Cursor((last["name"],), last["id"]))
    body = exact_json.encode(PeopleAnswer(data=shown, next_cursor=following))
    return Response(body, media_type="application/json", headers=NO_STORE)


ROUTES = [list_people]
