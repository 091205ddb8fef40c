"""The life of a dataset: its states, and how one version takes the place of another."""

from app.lifecycle.routes import ROUTES

__all__ = ["ROUTES"]
