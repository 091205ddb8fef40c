"""The feed of an organization: what happened, page by page and as a stream."""

from app.feed.changes import ROUTES as CHANGES
from app.feed.events import ROUTES as EVENTS

ROUTES = [*CHANGES, *EVENTS]
