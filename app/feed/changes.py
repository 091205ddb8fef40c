"""`GET .../changes`: the feed page by page, and the rows of an event that is too large to name them."""

from dataclasses import dataclass

import msgspec
from litestar import get
from litestar.openapi.spec import Operation
from litestar.response.base import ASGIResponse

from app.base import exact_json
from app.base.errors import EventNotFound
from app.base.statements import statement
from app.contracts.filters import INTEGER, refuse
from app.engine.cursors import Cursor
from app.engine.positions import Position, Standing, check_position, position_of_event
from app.engine.tailer import audience_of
from app.feed.reader import Event, Reader
from app.web.auth import Action, require
from app.web.etags import PRIVATE
from app.web.openapi import DATASET_PATH, DatasetName, EventId, Organization, answers, parameter
from app.web.paging import PageOperation, Size, Walk, read_given, read_page
from app.web.runtime import VanguardRequest, contract_of

READ_KEYS = statement("feed/read_keys")

ORGANIZATION_PATH = "/api/v1/orgs/{org:str}"
EARLIEST, NOW = "earliest", "now"
LIMIT = Size("limit", 100, 1000)
IDS = Size("limit", 1000, 10_000)


class ChangesAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What happened after a position, in order; `next_since` is the position behind it, `up_to_date` whether that is
    all so far.
    """

    data: list[Event]
    next_since: str
    up_to_date: bool


class IdsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of an event's rows; `next_cursor` is null on the last one."""

    data: list[str]
    total: int
    next_cursor: str | None


@dataclass
class ChangesOperation(Operation):
    """The parameters for /schema: the handler reads the query string itself."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("since", "string", "A position, earliest or now", examples=[EARLIEST]),
            parameter("limit", "integer", "How many", minimum=1, maximum=LIMIT.most, default=LIMIT.default),
        ]


def start_of(since: str, organization: str, user: str, standing: Standing) -> Position:
    """Where somebody begins to read: at a position, at the oldest entry, or now; raises FeedExpired."""
    if since == NOW:
        return standing.position
    if since == EARLIEST:
        position = standing.position
        before = position.number if standing.oldest is None else standing.oldest - 1
        return Position(position.epoch, before, position.own)
    return check_position(since, organization, user, standing)


async def reader_of(request: VanguardRequest, organization: str, dataset: str | None) -> Reader:
    """Who asks; raises DatasetNotFound."""
    contract = None if dataset is None else await contract_of(request, organization, dataset)
    user = request.user
    return Reader(
        organization,
        user.user_id,
        user.name,
        request.runtime.clock,
        admin=user.may(Action.REVIEW),
        engineer=user.may(Action.SEE_SHADOW),
        contract=contract,
    )


async def answer_changes(request: VanguardRequest, organization: str, dataset: str | None) -> ASGIResponse:
    """A page of what happened; raises InvalidFilter, FeedExpired, DatasetNotFound."""
    reader = await reader_of(request, organization, dataset)
    given = read_given(request, "since", LIMIT.name)
    text = given.get(LIMIT.name, str(LIMIT.default))
    if not INTEGER.fullmatch(text) or not 1 <= int(text) <= LIMIT.most:
        raise refuse(LIMIT.name, f"a whole number from 1 to {LIMIT.most}.")
    if "since" not in given:
        raise refuse("since", f"say from where: a position, {EARLIEST} or {NOW}.")
    async with request.runtime.database.connection() as connection:
        standing = await reader.standing(connection)
        reader.start(start_of(given["since"], organization, reader.user, standing))
        head = standing.position.number
        events = [event for _, event in await reader.read(connection, head, int(text))]
    up_to_date = reader.number >= head
    if up_to_date:
        events += [event for _, event in reader.take_own(standing.position.own)]
    body = b'{"data":[%b],"nextSince":"%b","upToDate":%b}' % (
        b",".join(events),
        reader.position.encode(),
        b"true" if up_to_date else b"false",
    )
    return ASGIResponse(body=body, media_type="application/json", headers=PRIVATE)


@get(
    f"{ORGANIZATION_PATH}/changes",
    opt=require(Action.QUERY),
    tags=["feed"],
    summary="What happened in an organization",
    operation_class=ChangesOperation,
    responses=answers(ChangesAnswer, 410),
)
async def get_organization_changes(request: VanguardRequest, org: Organization) -> ASGIResponse:
    """After a position, in the order of commits, none missing and none twice. Your own drafts are told coalesced."""
    return await answer_changes(request, org, None)


@get(
    f"{DATASET_PATH}/changes",
    opt=require(Action.QUERY),
    tags=["feed"],
    summary="What happened in a dataset",
    operation_class=ChangesOperation,
    responses=answers(ChangesAnswer, 404, 410),
)
async def get_changes(request: VanguardRequest, org: Organization, dataset: DatasetName) -> ASGIResponse:
    """The organization's feed, of one dataset alone; positions go for both."""
    return await answer_changes(request, org, dataset)


@get(
    f"{DATASET_PATH}/changes/{{event_id:str}}/ids",
    opt=require(Action.QUERY),
    tags=["feed"],
    summary="The rows of an event",
    operation_class=PageOperation,
    responses=answers(IdsAnswer, 404),
)
async def get_ids(request: VanguardRequest, org: Organization, dataset: DatasetName, event_id: EventId) -> ASGIResponse:
    """All rows that an event is about, which names up to 1,000 by itself. Parameters: limit, after."""
    runtime = request.runtime
    reader = await reader_of(request, org, dataset)
    contract = await contract_of(request, org, dataset)
    limit, given = read_page(request, IDS)
    walk = Walk(runtime, f"{org}/{contract.name}/changes/{event_id}", given.get("after"))
    offset = int(walk.key or 0)
    event = position_of_event(event_id)
    async with runtime.desk(contract, org) as desk:
        row = None
        if event is not None:
            row = await desk.row(READ_KEYS, number=event.number, epoch=event.epoch, offset=offset, limit=limit)
    if row is None or row["keys"] is None or not reader.may_see(audience_of(row)):
        raise EventNotFound("There is no such event, it is about no rows, or it is not kept any more.")
    end = offset + len(row["keys"])
    following = walk.next(Cursor((), str(end)) if end < row["row_count"] else None)
    answer = IdsAnswer(data=row["keys"], total=row["row_count"], next_cursor=following)
    return ASGIResponse(body=exact_json.encode(answer), media_type="application/json", headers=PRIVATE)


ROUTES = [get_organization_changes, get_changes, get_ids]
