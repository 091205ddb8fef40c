"""The command `vanguard`. Each module here has some of its commands; program.py says which."""

from app.cli.program import main

__all__ = ["main"]
