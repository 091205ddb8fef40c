"""What a record of an upload passes: its line, and the contract that makes a row of it. A thousand at a time."""

import datetime
from decimal import Decimal
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from app.base import exact_json
from app.contracts import stored_contract
from app.records.conversion import Converter
from app.records.inference import infer
from app.records.records import Raw, read_csv, read_ndjson

NOW = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
COUNT = 1_000
RECORDS: list[dict[str, Any]] = [
    {
        "tag": f"T{number:07d}",
        "name": f"Name number {number}",
        "city": ("Oslo", "Rome", "Paris")[number % 3],
        "kind": ("A", "B")[number % 2],
        "amount": Decimal(number * 137) / 100,
        "rate": Decimal(number * 7919 % 10_000) / 10_000,
        "pieces": number % 977,
        "seats": number % 89,
        "active": number % 2 == 0,
        "start": f"2026-01-{number % 28 + 1:02}",
        "end": f"2026-02-{number % 28 + 1:02}",
        "seenAt": f"2026-01-01T10:{number % 60:02}:{number * 7 % 60:02}Z",
        "note": "some words here",
        "ref": f"x{number * 999_983}",
        "score": number % 101,
    }
    for number in range(COUNT)
]
NDJSON = b"\n".join(exact_json.encode(record) for record in RECORDS)
CSV = "\n".join([",".join(RECORDS[0]), *(",".join(str(cell) for cell in row.values()) for row in RECORDS)]).encode()


def raws(kind: str) -> list[Raw]:
    return list(read_csv([CSV]) if kind == "csv" else read_ndjson([NDJSON]))


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_an_upload_is_read(benchmark: BenchmarkFixture, kind: str) -> None:
    assert len(benchmark(raws, kind)) == COUNT


@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_records_become_documents(benchmark: BenchmarkFixture, kind: str) -> None:
    inferred = infer(RECORDS, name="things", key=["tag"], textual=False, whole=True)
    contract = stored_contract(exact_json.encode(inferred.contract).decode(), schema="things", name="things")
    converter = Converter(contract, textual=kind == "csv")
    records = [raw.members or {} for raw in raws(kind)]

    def convert() -> int:
        return sum(not converter.convert(record, NOW).culprits for record in records)

    assert benchmark(convert) == COUNT
