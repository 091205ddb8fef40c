"""The command `vanguard`."""

from app.cli import accounts, development, organizations, service, upstream
from app.cli.program import main

__all__ = ["accounts", "development", "main", "organizations", "service", "upstream"]
