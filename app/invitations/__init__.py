"""Invitations: how somebody becomes a member. An ADMIN gets a link to hand over, and whoever is invited accepts it.

The link is signed, and nothing of it is stored: the table has those that are open, and no others. Known and unknown
addresses are invited alike.
"""

from app.invitations.routes import ROUTES

__all__ = ["ROUTES"]
