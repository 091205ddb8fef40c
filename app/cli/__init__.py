"""The command `vanguard`."""

from app.cli import accounts, audit, development, drift, organizations, service, upstream, watch
from app.cli.program import main

__all__ = ["accounts", "audit", "development", "drift", "main", "organizations", "service", "upstream", "watch"]
