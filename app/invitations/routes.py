"""The routes of invitations: an ADMIN's, and the one by which they are accepted."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

import msgspec
from litestar import Response, delete, get, post
from litestar.openapi.spec import OpenAPIMediaType, OpenAPIType, Operation, RequestBody, Schema
from litestar.params import JSONBody, PathParameter

from app import accounts
from app.base import exact_json
from app.base.errors import (
    Forbidden,
    MalformedRequest,
    TokenMissing,
)
from app.base.settings import Settings
from app.contracts import PFA
from app.engine.cursors import Cursor
from app.engine.desk import Desk
from app.invitations.invitations import (
    LIST_INVITATIONS,
    Invitation,
    accept_anew,
    accept_as,
    invite,
    over,
    read_offer,
    withdraw,
)
from app.invitations.links import Link, read_link, write_link
from app.login.routes import Password, ours
from app.login.tickets import Ticket, ticket
from app.members import LONGEST_EMAIL
from app.web.addresses import client_address
from app.web.auth import Action, Role, bearer, require
from app.web.budgets import LOGIN
from app.web.cookies import check_sender
from app.web.idempotency import answer_once
from app.web.openapi import Organization, answers, answers_with_position
from app.web.paging import PageOperation, Walk, read_page
from app.web.runtime import VanguardRequest

PATH = "/api/v1/orgs/{org:str}/invitations"
ACCEPT_PATH = "/api/auth/invitations/{token:str}/accept"
NO_STORE = {"Cache-Control": "no-store"}

InvitationId = Annotated[str, PathParameter(description="Id of the invitation")]
LinkToken = Annotated[str, PathParameter(description="Token of the invitation")]


class Invitee(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Who is invited, and as what."""

    email: Annotated[str, msgspec.Meta(max_length=LONGEST_EMAIL, examples=["ann@demo.example"])]
    role: Annotated[Role, msgspec.Meta(examples=["ANALYST"])]


class Invited(Invitation, frozen=True, kw_only=True, rename="camel"):
    """An invitation with its link. `token` is told this once, `path` accepts it; `link` is a page for people, null
    where VANGUARD_INVITATION_PAGE names none.
    """

    token: str
    path: str
    link: str | None


class InvitationsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A page of open invitations, by address."""

    data: list[Invitation]
    next_cursor: str | None


class Newcomer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Somebody who has no account yet: what people call them, and their password."""

    name: Annotated[str, msgspec.Meta(max_length=accounts.LONGEST_NAME, examples=["Ann Analyst"])]
    password: Password


@post(
    PATH,
    opt=require(Action.ADMINISTER),
    status_code=201,
    tags=["members"],
    summary="Invite somebody",
    responses=answers_with_position(Invited, 409, 422, 429, status=201, description="Invited"),
)
async def post_invitation(request: VanguardRequest, org: Organization, data: JSONBody[Invitee]) -> Response[bytes]:
    """A link to hand over, good for one use and for VANGUARD_INVITATION_DAYS. Known and unknown addresses answer alike.
    A second invitation of an address replaces the first.
    """
    runtime = request.runtime

    async def work(desk: Desk) -> bytes:
        made = await invite(
            desk.connection, org, request.user.user_id, data.email, data.role, runtime.clock(), runtime.settings
        )
        return exact_json.encode(made)

    kept = await answer_once(request, runtime, PFA, org, work, status=201)
    return _with_link(runtime.settings, org, kept)


def _with_link(settings: Settings, organization: str, kept: Response[bytes]) -> Response[bytes]:
    """The answer with the link, which is not kept under an Idempotency-Key."""
    if kept.status_code != 201:
        return kept
    answer: dict[str, Any] = exact_json.decode(kept.content)
    expires_at = datetime.fromisoformat(answer["expiresAt"])
    token = write_link(settings.secret, organization, uuid.UUID(answer["id"]), expires_at)
    page = settings.invitation_page
    answer |= {
        "token": token,
        # Without a host: that of a request could be forged.
        "path": ACCEPT_PATH.replace("{token:str}", token),
        # Behind a #, which browsers keep to themselves.
        "link": None if page is None else f"{page}#{token}",
    }
    return Response(exact_json.encode(answer), status_code=201, media_type="application/json", headers=NO_STORE)


@get(
    PATH,
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="Open invitations",
    operation_class=PageOperation,
    responses=answers(InvitationsAnswer),
)
async def list_invitations(request: VanguardRequest, org: Organization) -> Response[InvitationsAnswer]:
    """By address, without their links. Parameters: limit, after."""
    runtime = request.runtime
    limit, given = read_page(request)
    walk = Walk(runtime, f"{org}/invitations", given.get("after"))
    async with runtime.database.connection() as connection:
        rows = await connection.rows(
            LIST_INVITATIONS, organization=org, at=runtime.clock(), after=walk.key, limit=limit + 1
        )
    shown = [Invitation(**{**row, "role": Role(row["role"])}) for row in rows[:limit]]
    following = walk.following(rows, limit, lambda last: Cursor((), last["email"]))
    return Response(InvitationsAnswer(data=shown, next_cursor=following), headers=NO_STORE)


@delete(
    f"{PATH}/{{invitation_id:str}}",
    opt=require(Action.ADMINISTER),
    tags=["members"],
    summary="Withdraw an invitation",
    responses=answers(None, 404, status=204),
)
async def delete_invitation(request: VanguardRequest, org: Organization, invitation_id: InvitationId) -> None:
    """Its link is dead at once, everywhere."""
    runtime = request.runtime
    async with runtime.database.transaction() as connection:
        await withdraw(connection, org, request.user.user_id, _id_of(invitation_id), runtime.clock())


def _id_of(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise over() from None


@dataclass
class AcceptOperation(Operation):
    """A body for those who have no account, for /schema: the handler reads it itself."""

    def __post_init__(self) -> None:
        properties = {each: Schema(type=OpenAPIType.STRING) for each in ("name", "password")}
        shape = Schema(type=OpenAPIType.OBJECT, properties=dict(properties), required=["name", "password"])
        self.request_body = RequestBody(content={"application/json": OpenAPIMediaType(schema=shape)}, required=False)


@post(
    ACCEPT_PATH,
    opt={"public": True, **LOGIN},
    status_code=200,
    tags=["auth"],
    summary="Accept an invitation",
    security=[{}, {"token": []}],
    operation_class=AcceptOperation,
    responses=answers(Ticket, 404, 409, 422, 429, 503),
)
async def accept(request: VanguardRequest, token: LinkToken) -> Response[Ticket]:
    """With the token of a login of the invited address; or, where no account has it yet, with a name and a password, by
    which this makes the account. The answer is that of a login, with the organization in it.
    """
    runtime = request.runtime
    if not runtime.auth.issues:
        raise Forbidden("Log in at your identity provider, which says what you belong to.")
    link = read_link(runtime.settings.secret, runtime.clock, token)
    async with runtime.database.connection() as connection:
        offer = await read_offer(connection, link, runtime.clock())
    sent = await request.body()
    if "authorization" in request.headers:
        if sent.strip() not in (b"", b"{}"):
            raise MalformedRequest("Send a token, or a name and a password: not both.")
        answer = await _accept_as_bearer(request, link)
    elif sent.strip() in (b"", b"{}"):
        raise TokenMissing("Log in and send your token; or send a name and a password, for an account of your own.")
    else:
        # No page of elsewhere has somebody logged in as whom it made.
        check_sender(request, runtime.settings)
        newcomer = exact_json.read(sent, Newcomer)
        address = client_address(request.scope, runtime.settings.trusted_proxies)
        answer = ticket(runtime, *await accept_anew(runtime, offer, newcomer.name, newcomer.password, address))
    runtime.auth.forget()
    return answer


async def _accept_as_bearer(request: VanguardRequest, link: Link) -> Response[Ticket]:
    """As whom the gate lets in. The new token ends when that one does, and with the same logout."""
    runtime, at = request.runtime, request.runtime.clock()
    principal = await runtime.auth.verify(bearer(request, runtime.settings))
    principal = ours(await runtime.auth.counted(principal, None, fresh=True))
    account = await accept_as(runtime, link, principal)
    left = int((principal.expires_at - at).total_seconds())
    return ticket(runtime, account, at, principal, ttl=min(left, runtime.settings.token_ttl))


ROUTES = [post_invitation, list_invitations, delete_invitation, accept]
