"""Contracts that organizations register, and their versions."""

from app.contract_versions.routes import ROUTES

__all__ = ["ROUTES"]
