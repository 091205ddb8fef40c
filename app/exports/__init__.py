"""Rows as files: CSV, XLSX and NDJSON, streamed at any size."""

from app.exports.columns import Column
from app.exports.download import noted, stream_table
from app.exports.route import ROUTES

__all__ = ["ROUTES", "Column", "noted", "stream_table"]
