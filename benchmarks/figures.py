"""A figure: what was measured, and what it has to be."""

import msgspec


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """`missed` is told where the bound does not hold: what was tried, and what it would take."""

    figure: str
    value: float
    unit: str
    bound: str | None = None
    holds: bool | None = None
    missed: str = ""


class LeftOut(Exception):
    """A group's figures cannot be had here, and nothing is wrong with that; the message says why."""


def plain(figure: str, value: float, unit: str) -> Figure:
    """A figure that is free to be what it is."""
    return Figure(figure=figure, value=value, unit=unit)


def at_most(figure: str, value: float, limit: float, unit: str = "x", *, missed: str = "") -> Figure:
    """A figure with a bound above; in times of another one, unless a unit is named."""
    return Figure(
        figure=figure, value=value, unit=unit, bound=f"at most {limit:g}", holds=value <= limit, missed=missed
    )


def at_least(figure: str, value: float, limit: float, unit: str = "x", *, missed: str = "") -> Figure:
    """A figure with a bound below."""
    return Figure(
        figure=figure, value=value, unit=unit, bound=f"at least {limit:g}", holds=value >= limit, missed=missed
    )
