"""When a full pull is due."""

from datetime import UTC, datetime, time, timedelta, tzinfo

from app.worker.target import Target


def is_full_due(target: Target, last: datetime, at: datetime) -> bool:
    """Whether a pull that begins now has to be a full one, `last` being when the last one of them began."""
    if target.full_at is None:
        return at >= last + target.full_every
    return last < latest(target.full_at, target.full_at_zone, at)


def latest(of_day: time, zone: tzinfo, at: datetime) -> datetime:
    """The last moment, now or before, when clocks in the zone came to this time of day.

    Where clocks are put forward over it, it is as long after midnight as on other days. Where they are put back to it,
    the first time counts. A zone may pass over a whole day: so three of them are looked at.
    """
    today = at.astimezone(zone).date()
    moments = (datetime.combine(today - timedelta(days=ago), of_day, zone).astimezone(UTC) for ago in range(3))
    return max(moment for moment in moments if moment <= at)
