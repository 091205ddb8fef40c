"""Change requests: a session under review, merged in one act, and undone by another request."""

from app.change_requests import merge_routes, reading_routes, review_routes

ROUTES = [*reading_routes.ROUTES, *review_routes.ROUTES, *merge_routes.ROUTES]

__all__ = ["ROUTES"]
