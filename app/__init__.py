"""Vanguard: plan data merged live with everybody's private drafts."""

__version__ = "0.1.0"
