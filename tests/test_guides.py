"""Documents that are walked through: their commands, pasted one after another, do what the documents say of them."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.test_dev import free_port, started

ROOT = Path(__file__).parent.parent
NO_PROXY = {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}

pytestmark = [
    pytest.mark.slow("what a reader pastes first does what the document says"),
    pytest.mark.skipif(not shutil.which("curl"), reason="needs curl"),
]


@pytest.fixture
def served(short_dir: Path, create_database: Callable[..., str]) -> Iterator[str]:
    """Where `vanguard dev` serves the demonstration, with a worker."""
    with started(free_port(), short_dir, "--demo", DATABASE_URL=create_database()) as (_, client, _):
        yield str(client.base_url)


def walk(document: str, served: str, directory: Path, *sections: str) -> dict[str, list[str]]:
    """What the commands of each section print, block by block: of all, or of these sections, in one shell."""
    marked, places = [], []
    for part in re.split(r"^##+ ", (ROOT / document).read_text(encoding="utf-8"), flags=re.M):
        heading = part.partition("\n")[0]
        if sections and heading not in sections:
            continue
        for block in re.findall(r"^```sh\n(.*?)^```", part, re.M | re.S):
            places.append(heading)
            marked.append(f"{block}\nprintf '\\036'\n")
    done = subprocess.run(
        ["sh", "-e", "-c", "".join(marked)],
        cwd=directory, env=os.environ | NO_PROXY | {"VANGUARD": served}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr + done.stdout[-2000:]
    found: dict[str, list[str]] = {}
    for place, printed in zip(places, done.stdout.split("\036"), strict=False):
        found.setdefault(place, []).append(printed)
    return found


def values(printed: list[str]) -> list[Any]:
    """The JSON values that stand one after another."""
    found, rest, decoder = [], "".join(printed).strip(), json.JSONDecoder()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def counted(run: dict[str, Any]) -> dict[str, int]:
    return {name: count for name, count in run["counts"].items() if count}


def test_the_tutorial_brings_a_csv_to_a_reviewed_dataset(served: str, tmp_path: Path) -> None:
    told = walk("docs/tutorial.md", served, tmp_path)
    (inferred,) = values(told["What is in the file?"])
    assert [field["type"] for field in inferred["contract"]["fields"]] == ["text", "text", "text", "number", "date"]
    assert inferred["notes"]
    (registered,) = values(told["Register it"])
    assert (registered["state"], registered["contract"]["title"]) == ("SHADOW", "Our customers")
    run, quarantine = values(told["Take the file in"])
    assert (run["state"], counted(run), quarantine["total"]) == ("succeeded", {"read": 6, "inserted": 6}, 0)
    promoted, settings = values(told["Put it to use"])
    assert (promoted["state"], settings["requireApproval"]) == ("ACTIVE", True)
    page, filtered, kpis = values(told["Look at it"])
    assert [row["id"] for row in page["data"]] == ["C-1001", "C-1003"]
    assert page["pagination"]["totalRecords"] == 6
    assert [row["data"] for row in filtered["data"]] == [{"company": "Acme", "revenue": 1250.5}]
    sums = {group["key"]["tier"]: group["mine"]["totalRevenue"] for group in kpis["groups"]}
    assert sums == {"bronze": 122.1, "gold": 2230.75, "silver": 385.9}
    saved, merged, discarded, edited = values(told["Edit it"])
    assert (saved["errors"], merged["data"][0]["id"], discarded["discarded"]) == ([], "C-1005", 1)
    assert [each["status"] for each in edited["results"]] == ["saved", "saved"]
    preview, diff, approved, done, history = values(told["Have it reviewed"])
    assert (preview["summary"]["cellsChanged"], preview["validation"]["canProceed"]) == (2, True)
    assert [(cell["field"], cell["new"]) for cell in diff["data"]] == [("revenue", 410.75), ("tier", "silver")]
    assert (approved["status"], done["status"], done["rowsAffected"]) == ("approved", "closed", 1)
    assert [each["source"] for each in history["data"]] == ["merge", "ingest"]
    run, quarantine = values(told["The next file"])
    assert counted(run) == {"read": 3, "inserted": 1, "updated": 1, "quarantined": 1}
    assert quarantine["data"][0]["line"] == 4
    orders, candidates, accepted, asked, answer = values(told["Ask across two files"])
    assert orders["state"] == "ACTIVE"
    assert candidates["data"][0]["condition"] == "orders.customerNo = customers.customerNo"
    assert (accepted["state"], accepted["warnings"]) == ("accepted", [])
    assert asked["query"]["groupBy"] == ["customers.tier"]
    assert answer["data"] == [
        {"customers.tier": "gold", "sumAmount": 225.75}, {"customers.tier": "silver", "sumAmount": 82}
    ]  # fmt: skip
    (exported,) = told["Take it out"]
    header, *rows = exported.splitlines()
    assert header == "customerNo,company,tier,revenue,customerSince"
    assert [row.split(",")[0] for row in rows] == [f"C-100{number}" for number in range(1, 8)]
    assert "C-1001,Acme,gold,1400,2019-03-01" in rows
    assert "C-1005,Epsilon,silver,410.75,2024-09-09" in rows


def test_readmes_three_commands_make_a_dataset(served: str, tmp_path: Path) -> None:
    told = walk("README.md", served, tmp_path, "A dataset of your own")
    registered, received, rows = values(told["A dataset of your own"])
    assert (registered["address"], registered["state"], list(received)) == ("pumps", "SHADOW", ["runId", "position"])
    assert [row["data"] for row in rows["data"]] == [
        {"tag": "P-1", "site": "North", "hours": 12.5},
        {"tag": "P-2", "site": "South", "hours": 40},
    ]


def test_commands_of_the_founding_api_work_as_adapted(served: str, tmp_path: Path) -> None:
    told = walk("docs/from_founding_api.md", served, tmp_path)
    (registered,) = values(told["Register a contract"])
    assert (registered["address"], registered["state"]) == ("customers", "SHADOW")
    assert registered["contract"]["source"] == "/api/v1/customers"
    (ingested,) = values(told["Ingest"])
    assert (ingested["read"], ingested["inserted"]) == (2, 2)
    (promoted,) = values(told["Promote a table"])
    assert promoted["state"] == "ACTIVE"
    (answer,) = values(told["Preview a query"])
    assert ([row["id"] for row in answer["data"]], answer["truncated"]) == (["crm~17", "crm~18"], False)
    (tried,) = values(told["Replay"])
    assert (tried["estimatedRows"], tried["estimatedDuplicates"], tried["confirmationRequired"]) == (2, 2, True)
