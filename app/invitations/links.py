"""The link of an invitation: signed, so that nothing of it is stored."""

import uuid
from datetime import datetime

import msgspec

from app.base.clock import Clock
from app.base.errors import InvitationNotFound
from app.base.seals import seal, unsealed

KIND = b"vanguard invitation"
LONGEST_TOKEN = 400


class Link(msgspec.Struct, frozen=True):
    """What a link says, as its seal has it."""

    organization: str
    id: uuid.UUID
    expires: int


def write_link(secret: str, organization: str, invitation: uuid.UUID, expires_at: datetime) -> str:
    """The token of an invitation: always the same, so that it need not be kept."""
    content = msgspec.json.encode((organization, invitation, int(expires_at.timestamp())))
    return seal(secret, KIND, content)


def read_link(secret: str, clock: Clock, token: str) -> Link:
    """What the token says; raises InvitationNotFound for one that is forged or expired."""
    content = unsealed(secret, KIND, token) if len(token) <= LONGEST_TOKEN else None
    if content is None:
        raise not_valid()
    organization, invitation, expires = msgspec.json.decode(content, type=tuple[str, uuid.UUID, int])
    if expires <= clock().timestamp():
        raise not_valid()
    return Link(organization, invitation, expires)


def not_valid() -> InvitationNotFound:
    """One answer for all: whoever tries tokens learns nothing of those that there were."""
    return InvitationNotFound(
        "The link is not valid: it was used, withdrawn or replaced, or has expired. Ask for another invitation."
    )
