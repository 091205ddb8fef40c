"""Questions over many datasets: previewed, corrected, then run."""

from app.query_previews.executions import ROUTES as EXECUTION_ROUTES
from app.query_previews.routes import ROUTES as PREVIEW_ROUTES

ROUTES = [*PREVIEW_ROUTES, *EXECUTION_ROUTES]

__all__ = ["ROUTES"]
