"""Where what is done here comes from: a client's address, or the command line."""

from collections.abc import Callable
from contextvars import ContextVar

import structlog

# What tells the address of the client whose request is at work, once somebody asks; None where nobody came over the
# network.
client: ContextVar[Callable[[], str] | None] = ContextVar("client", default=None)
# What acts for somebody whom the service does not know by an account.
by: ContextVar[str | None] = ContextVar("by", default=None)

COMMAND_LINE = "command line"


def address() -> str | None:
    """The client's address; None where nobody came over the network."""
    tell = client.get()
    return None if tell is None else tell()


def tell_whose(user: str, organization: str | None = None) -> None:
    """Every line of the log from here on says whose request it is: by an account's id, never by email or name."""
    known = {"user": user} if organization is None else {"user": user, "organization": organization}
    structlog.contextvars.bind_contextvars(**known)
