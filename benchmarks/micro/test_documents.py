"""What a request's documents pass: JSON with digits, the contract, its rules."""

from decimal import Decimal

from pytest_benchmark.fixture import BenchmarkFixture

from app.base import exact_json
from app.contracts import PFA
from app.contracts.rules import check_rules
from app.contracts.validation import check_delta
from app.drafts import Draft, SaveRequest, check
from benchmarks.micro.conftest import result
from tests.support.world import line

DELTA = {
    "category": "Cranes",
    "source": "Rental",
    "monthlyRate": Decimal("1250.50"),
    "forecastStart": "2026-04-01",
    "forecastEnd": "2027-03-31",
    "isDiscontinued": False,
}
DRAFTS = tuple(Draft(id=f"PFA-{number:07d}", delta=DELTA) for number in range(100))
BODY = exact_json.encode({"modifications": [{"id": draft.id, "delta": draft.delta} for draft in DRAFTS]})


def test_a_delta_is_checked_against_its_contract(benchmark: BenchmarkFixture) -> None:
    assert benchmark(check_delta, PFA, "PFA-0000001", DELTA, inserting=False) == []


def test_a_batch_of_100_drafts_is_checked(benchmark: BenchmarkFixture) -> None:
    good, wrong = benchmark(lambda: result(check(PFA, DRAFTS)))
    assert (len(good), wrong) == (100, [])


def test_the_rules_look_at_a_merged_row(benchmark: BenchmarkFixture) -> None:
    before, after = line(), line(**DELTA)
    assert benchmark(check_rules, PFA, "PFA-0000001", before, after) == []


def test_a_row_is_written_as_json_with_its_digits(benchmark: BenchmarkFixture) -> None:
    row = line(monthlyRate=Decimal("1250.50"), purchasePrice=Decimal("123456789012345.67"))
    assert b"123456789012345.67" in benchmark(exact_json.encode, row)


def test_a_row_is_read_from_json_with_its_digits(benchmark: BenchmarkFixture) -> None:
    text = exact_json.encode(line(monthlyRate=Decimal("1250.50"), purchasePrice=Decimal("123456789012345.67")))
    assert benchmark(exact_json.decode, text)["purchasePrice"] == Decimal("123456789012345.67")


def test_a_request_with_100_drafts_is_read(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(exact_json.read, BODY, SaveRequest).modifications) == 100
