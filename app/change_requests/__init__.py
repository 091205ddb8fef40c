"""Change requests: a session under review, merged in one act, and undone by another request."""

from app.change_requests.routes import ROUTES

__all__ = ["ROUTES"]
