"""Reports of drift over HTTP: contracts held against samples, schemas and versions, and what people decide."""

from app.drift_reports.mapping_routes import ROUTES as MAPPING_ROUTES
from app.drift_reports.routes import ROUTES as REPORT_ROUTES

ROUTES = [*REPORT_ROUTES, *MAPPING_ROUTES]

__all__ = ["ROUTES"]
