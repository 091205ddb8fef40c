"""Logging in: how attempts are bounded, and the routes."""

from app.login.routes import ROUTES

__all__ = ["ROUTES"]
