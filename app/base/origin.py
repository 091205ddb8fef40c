"""Where what is done here comes from: a client's address, or the command line."""

from contextvars import ContextVar

import structlog

# The address of the client whose request is at work; None where nobody came over the network. No more than its text:
# contexts outlive requests, in timers, and would keep what they hold of a connection open.
address: ContextVar[str | None] = ContextVar("address", default=None)
# What acts for somebody whom the service does not know by an account.
by: ContextVar[str | None] = ContextVar("by", default=None)

COMMAND_LINE = "command line"


def tell_whose(user: str, organization: str | None = None) -> None:
    """Every line of the log from here on says whose request it is: by an account's id, never by email or name."""
    known = {"user": user} if organization is None else {"user": user, "organization": organization}
    structlog.contextvars.bind_contextvars(**known)
