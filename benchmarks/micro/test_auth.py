"""Who is it? What each request pays for its token."""

from datetime import UTC, datetime
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from app.base.database import Database
from app.base.settings import Settings
from app.web.auth import Account, Auth, Role
from benchmarks.micro.conftest import result

ANN = Account(id="ann", email="ann@example.com", name="Ann", operator=False, roles={"acme": Role.ANALYST})


def now() -> datetime:
    """A day that stands still."""
    return datetime(2026, 3, 1, tzinfo=UTC)


def test_a_token_is_verified_for_the_first_time(benchmark: BenchmarkFixture, settings: Settings) -> None:
    database = Database(settings)
    token = Auth(settings, database, now).issue(ANN)

    def fresh() -> tuple[tuple[Auth], dict[str, Any]]:
        return (Auth(settings, database, now),), {}

    principal = benchmark.pedantic(lambda auth: result(auth.verify(token)), setup=fresh, rounds=2_000, warmup_rounds=20)
    assert principal.user_id == "ann"


def test_a_token_that_is_known_is_verified_again(benchmark: BenchmarkFixture, settings: Settings) -> None:
    auth = Auth(settings, Database(settings), now)
    token = auth.issue(ANN)
    assert benchmark(lambda: result(auth.verify(token))).user_id == "ann"
