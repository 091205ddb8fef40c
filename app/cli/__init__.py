"""The command `vanguard`."""

from app.cli import accounts, audit, development, organizations, service, upstream, watch
from app.cli.program import main

__all__ = ["accounts", "audit", "development", "main", "organizations", "service", "upstream", "watch"]
