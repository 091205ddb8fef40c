"""Invented lines: realistic, valid, the same every time; and a load that is whole or has not happened."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
from click.testing import CliRunner

from app.base import exact_json
from app.base.errors import ConfigurationError
from app.cli import main
from app.contracts import PFA
from app.contracts.rule_types import Ordered
from app.contracts.rules import check_rules
from app.contracts.validation import check_key, check_value
from app.dev import seed
from tests.support.world import SECRET, World

# What runs here is covered elsewhere, and coverage would take as long as it does.
pytestmark = pytest.mark.no_cover

SAMPLE = 20_000


@pytest.fixture(scope="module")
def documents() -> list[dict[str, Any]]:
    return [exact_json.decode(text) for _, text in islice(seed.pfa_lines("demo", 1), SAMPLE)]


def first(rows: int, number: int = 1) -> list[tuple[str, str]]:
    return list(islice(seed.pfa_lines("demo", number), rows))


def test_the_same_seed_makes_the_same_lines() -> None:
    assert first(2_000)[:1_000] == first(1_000)
    assert first(1_000) != first(1_000, number=2)
    # Other lines would move what benchmarks and documentation say: change all of them together.
    text = "".join(text for _, text in first(1_000))
    assert (
        hashlib.sha256(text.encode()).hexdigest() == "8364351ffd16db2b18b79d7e4fbbed48dff44524d2bd14ee6dde5842a95ae646"
    )


def test_every_value_fits_the_contract(documents: list[dict[str, Any]]) -> None:
    ordered = {rule.code for rule in PFA.rules if isinstance(rule, Ordered)}
    for document in documents:
        assert document.keys() == PFA.by_name.keys()
        assert check_key(document[PFA.text_key]) is None
        wrong = [found for field in PFA.fields if (found := check_value(field, document[field.name]))]
        broken = {culprit.code for culprit in check_rules(PFA, document[PFA.text_key], None, document)}
        # Figures may be missing, as upstream's are; nothing else may be wrong.
        assert (wrong, broken - {"MISSING_REQUIRED_FIELD"}) == ([], set())
        assert not broken & ordered
        for field in PFA.fields:
            if field.derived_from:
                assert document[field.name] == all(document[name] is not None for name in field.derived_from)


def test_lines_look_like_a_project(documents: list[dict[str, Any]]) -> None:
    def share(found: Iterator[bool]) -> float:
        return sum(found) / SAMPLE

    for name, low, high in [
        ("hasActuals", 0.33, 0.37),
        ("isActualized", 0.27, 0.33),
        ("isDiscontinued", 0.03, 0.05),
        ("isFundsTransferable", 0.02, 0.04),
    ]:
        assert low < share(document[name] for document in documents) < high, name
    assert 0.83 < share(document["source"] == "Rental" for document in documents) < 0.88
    assert 0.015 < share(document["forecastStart"] is None for document in documents) < 0.025
    assert 0.4 < share(document["forecastStart"] != document["originalStart"] for document in documents) < 0.7
    assert len(Counter(document["category"] for document in documents)) == 20


def test_amounts_keep_their_digits() -> None:
    for chance in range(200):
        text = seed._amount(1234.56, 5, chance / 200)
        assert text == "1230" or (text.startswith("1230.") and len(text) == 7)
    assert seed._amount(2, 5, 0.5) == "5"


async def test_load(world: World, database_url: str) -> None:
    done = await seed.seed(database_url, "acme", 300)
    assert (done.rows, done.revision, list(done.seconds)) == (300, 1, ["copy", "vacuum", "kpis"])
    rows = await world.db.fetch("SELECT row_key, data::text, version, revision FROM pfa.mirror ORDER BY row_key")
    assert [(row["row_key"], exact_json.decode(row["data"])) for row in rows] == [
        (key, exact_json.decode(text.replace("DEMO", "ACME"))) for key, text in first(300)
    ]
    assert {(row["version"], row["revision"]) for row in rows} == {(1, 1)}
    assert await world.db.fetchval("SELECT revision FROM dataset WHERE organization_id = 'acme' AND name = 'pfa'") == 1
    assert await world.db.fetchval("SELECT count(*) FROM pfa.history") == 0
    sizes = await world.db.fetchrow("SELECT min(length(data::text)), max(length(data::text)) FROM pfa.mirror")
    assert sizes is not None
    assert 600 < sizes["min"] < sizes["max"] < 800
    ann = await world.user("ann")
    assert [row["id"] for row in await ann.rows(pageSize=1)] == ["PFA-0000001"]


async def test_indexes_are_made_afterwards(world: World, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seed, "MANY_ROWS", 100)
    before = await indexes(world)
    phases: list[tuple[str, int]] = []
    done = await seed.seed(database_url, "acme", 300, watch=lambda phase, rows: phases.append((phase, rows)))
    assert list(done.seconds) == ["copy", "indexes", "vacuum", "kpis"]
    assert phases == [("copy", 0), ("copy", 0), ("indexes", 300), ("vacuum", 300), ("kpis", 300)]
    assert await indexes(world) == before
    # Somebody else's rows keep their indexes while others are loaded.
    await world.organization("other")
    done = await seed.seed(database_url, "other", 300)
    assert list(done.seconds) == ["copy", "vacuum", "kpis"]


async def test_an_interrupted_load_leaves_nothing(
    world: World, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seed, "MANY_ROWS", 100)
    before = await indexes(world)

    def stop(phase: str, rows: int) -> None:
        if phase == "indexes":
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await seed.seed(database_url, "acme", 300, watch=stop)
    assert await indexes(world) == before
    assert await world.db.fetchval("SELECT count(*) FROM pfa.mirror") == 0
    assert await world.db.fetchval("SELECT sum(revision) FROM dataset") == 0


async def test_refusals(world: World, database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="no organization nobody with a dataset pfa"):
        await seed.seed(database_url, "nobody", 1)
    with pytest.raises(ConfigurationError, match="no lines to invent for fleet"):
        await seed.seed(database_url, "acme", 1, dataset="fleet")
    with pytest.raises(ConfigurationError, match="cannot be reached"):
        await seed.seed("postgresql://postgres@/x?host=/nowhere", "acme", 1)
    ann = await world.user("ann")
    await ann.draft("PFA-0000001", {"category": "Cranes", "source": "Rental", "dor": "BEO"}, op="insert")
    with pytest.raises(ConfigurationError, match="rows or drafts"):
        await seed.seed(database_url, "acme", 1)
    await ann.discard()
    await seed.seed(database_url, "acme", 1)
    with pytest.raises(ConfigurationError, match="rows or drafts"):
        await seed.seed(database_url, "acme", 1)


async def indexes(world: World) -> list[str]:
    return [row["indexdef"] for row in await world.db.fetch("SELECT indexdef FROM pg_indexes ORDER BY indexdef")]


def test_command(database_url: str) -> None:
    environment = {"DATABASE_URL": database_url, "VANGUARD_DATABASE_URL": None, "VANGUARD_SECRET": SECRET}
    run = CliRunner(env=environment).invoke
    assert run(main, ["org", "add", "demo", "--name", "Demo"]).exit_code == 0
    done = run(main, ["seed", "--org", "demo", "--rows", "50"])
    assert (done.exit_code, done.output[:41]) == (0, "demo has 50 lines in pfa, revision 1 (cop")
    again = run(main, ["seed", "--org", "demo", "--rows", "50"])
    assert (again.exit_code, again.output) == (2, "demo has rows or drafts in pfa already: seed an empty one.\n")


def test_progress(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def show() -> str:
        with seed.progress(4_000) as watch:
            watch("copy", 0)
            watch("copy", 2_000)
            watch("indexes", 4_000)
        return capsys.readouterr().err

    assert show() == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    shown = show()
    assert "2,000 of 4,000 rows" in shown
    assert "indexes" in shown
