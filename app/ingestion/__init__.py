"""Ingestion over HTTP: records come in, are received and sent again, fill another version, leave quarantine."""

from litestar.handlers import HTTPRouteHandler

from app.ingestion.quarantine import ROUTES as QUARANTINE
from app.ingestion.replays import ROUTES as REPLAYS
from app.ingestion.routes import ROUTES as INGESTION

ROUTES: list[HTTPRouteHandler] = [*INGESTION, *REPLAYS, *QUARANTINE]

__all__ = ["ROUTES"]
