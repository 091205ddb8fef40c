"""Joins between datasets: candidates with statistics and a confidence, and those that an ADMIN has accepted.

accepted       joins as questions take them
confidence     how much speaks for a candidate: the formula
names          how alike fields are called
texts          values as texts, and where they are looked for
sampling       what is measured of rows, within bounds
candidates     what could be joined, and how much speaks for it
deciding       a candidate is accepted, a join deprecated
wire           as the wire has them
routes         over HTTP
"""

from app.joins.routes import ROUTES

__all__ = ["ROUTES"]
