"""The fence taken down in one place after the other: the proof finds each, in every statement and in what is composed.

What is taken is found by names of columns and parameters alone (tests/support/mutations.py), not by what the proof says
that binds. None is left out: every condition with an organization is one that something is bound by.
"""

from collections import Counter
from collections.abc import Sequence

import pytest

from app.base.fence import reason
from app.base.fence.proof import Proof
from app.base.statements import STATEMENTS
from app.contracts import PFA, Contract
from app.contracts.filters import read_listing
from app.engine.export import ExportComposer
from app.engine.figures import FigureComposer
from app.engine.page import PageComposer
from app.engine.view import Composed
from app.kpis import read_wanted
from tests.support import questions
from tests.support.mutations import GIVEN, mutations, parsed
from tests.support.world import CONTRACTS

# Every statement that is of one organization, by its noun.
NOUNS: dict[str, list[str]] = {}
for name, item in STATEMENTS.items():
    if not name.startswith("schema/") and reason(item.text) is None:
        NOUNS.setdefault(name.partition("/")[0], []).append(name)


def missed(text: str, names: Sequence[str], count: Counter[str]) -> list[str]:
    """The changes of a text that the proof does not find."""
    found = []
    for raw in parsed(text):
        assert Proof(tuple(names)).run(raw.stmt) == []
        for mutation in mutations(raw, names):
            with mutation.made:
                if not Proof(tuple(names)).run(raw.stmt):
                    found.append(mutation.told)
            count[mutation.told.partition(" ")[0]] += 1
        assert Proof(tuple(names)).run(raw.stmt) == [], "and it is put back"
    return found


@pytest.mark.no_cover
@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_no_condition_can_be_left_out(noun: str) -> None:
    """Given each condition in turn left out, turned round, under an OR, or about another parameter."""
    count = Counter[str]()
    assert {name: found for name in NOUNS[noun] if (found := missed(text_of(name), names_of(name), count))} == {}


def text_of(name: str) -> str:
    return STATEMENTS[name].text


def names_of(name: str) -> tuple[str, ...]:
    return STATEMENTS[name].parameters


def test_whoever_names_an_organization_can_be_mutated() -> None:
    """Given a statement of sql/ with the parameter, then there is something to leave out; but for locks that stand for
    no row.
    """
    for name in (name for names in NOUNS.values() for name in names if {*names_of(name)} & GIVEN):
        found = [mutation for raw in parsed(text_of(name)) for mutation in mutations(raw, names_of(name))]
        assert bool(found) != ("pg_advisory" in text_of(name) or "pg_try_advisory" in text_of(name)), name


LISTINGS = {
    "plain": "",
    "filtered": "category=Cranes&monthlyRate[gte]=10&originalStart[isnull]=true",
    "sorted": "sort=-forecastStart,category&search=a",
    "everything": "include=computed,layers,overlap,deleted&syncState=pristine,draft&sort=originalStart",
}


def composed(query: str) -> list[Composed]:
    listing = read_listing(
        PFA, [(name, value) for name, _, value in (p.partition("=") for p in query.split("&")) if name]
    )
    pages, exports = PageComposer(PFA, listing, "acme", "ann"), ExportComposer(PFA, listing, "acme", "ann")
    return [
        pages.page(None, counted=True, base_count=True),
        pages.page(None, counted=False, base_count=False),
        pages.estimate(),
        exports.rows("object"),
        exports.estimate(),
    ]


@pytest.mark.no_cover
@pytest.mark.parametrize("listing", LISTINGS)
def test_no_condition_of_a_listing_can_be_left_out(listing: str) -> None:
    count = Counter[str]()
    for item in composed(LISTINGS[listing]):
        assert missed(item.text, item.parameters, count) == [], item.name
    assert count["without"] > 10


@pytest.mark.no_cover
@pytest.mark.parametrize("name", questions.QUESTIONS)
def test_no_condition_of_a_question_can_be_left_out(name: str) -> None:
    """Of every dataset that is joined both arms, and what covers the mirror's rows."""
    count = Counter[str]()
    for item in questions.composed(name):
        assert missed(item.text, item.parameters, count) == [], item.name
    assert count["without"] >= 3 * len(questions.question(name).sources)


@pytest.mark.no_cover
def test_no_condition_of_a_word_can_be_left_out() -> None:
    count = Counter[str]()
    for item in questions.words():
        assert missed(item.text, item.parameters, count) == [], item.name
    assert count["without"] >= 9


@pytest.mark.no_cover
@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract.name)
def test_no_condition_of_figures_can_be_left_out(contract: Contract) -> None:
    count = Counter[str]()
    wanted = read_wanted(contract, [("groupBy", contract.dimensions[0])])
    figures = FigureComposer(contract, wanted, "acme", "ann")
    for from_view in (True, False):
        item = figures.kpis(from_view=from_view)
        assert missed(item.text, item.parameters, count) == [], item.name
    assert count["without"] > 10
