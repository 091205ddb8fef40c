"""What time it is: the one place that asks, so that tests can answer."""

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)
