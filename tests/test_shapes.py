"""Pages of one shape are one statement: the shape has everything that makes its text, and no value."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contracts import PFA
from app.contracts.filters import BOUNDS, INCLUDES, read_listing
from app.engine import page as pages
from app.engine.cursors import Cursor
from app.engine.page import PageComposer
from app.engine.page_markers import markers
from app.engine.view import Composed
from tests.support.world import FLEET, User, World, ids, line, vehicle

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\x1f,"), min_size=1, max_size=8)
DAYS = st.dates().map(str)
NUMBERS = st.integers(0, 10**9).map(str)
CONDITIONS: dict[str, st.SearchStrategy[str]] = {
    "category": st.sampled_from(["Aerial Lifts", "Cranes"]),
    "model": WORDS,
    "model[contains]": WORDS,
    "model[in]": st.lists(WORDS, min_size=1, max_size=3).map(",".join),
    "monthlyRate[gte]": NUMBERS,
    "forecastStart[lt]": DAYS,
    "equipment[isnull]": st.sampled_from(["true", "false"]),
    "purchasePrice": NUMBERS,
    "id": WORDS,
    "search": WORDS,
    "syncState": st.sampled_from(["draft", "pristine", "draft,pristine", "draft,committed"]),
    "fields": st.sampled_from(["model", "model,category", "planCost", "model,planCost,incomplete"]),
    "include": st.lists(st.sampled_from(INCLUDES)).map(",".join),
    "pageSize": st.sampled_from(["1", "100", "101", "1000"]),
    "page": st.sampled_from(["1", "2", "50"]),
}
SORTS: dict[str, tuple[str | None, ...]] = {
    "": (),
    "forecastStart": ("2026-01-01",),
    "-monthlyRate": ("5",),
    "category,-model": ("Cranes", "M"),
    "equipment": (None,),
}


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[tuple[str, str]], Cursor | None]:
    """The parameters of a list, and a cursor in it."""
    names = draw(st.lists(st.sampled_from(sorted(CONDITIONS)), unique=True, max_size=5))
    given = [(name, draw(CONDITIONS[name])) for name in names]
    sort = draw(st.sampled_from(sorted(SORTS)))
    values = tuple(value if draw(st.booleans()) else None for value in SORTS[sort])
    cursor = draw(st.none() | WORDS.map(lambda key: Cursor(values, key)))
    if cursor is not None:
        given = [(name, value) for name, value in given if name != "page"]
    return [*given, ("sort", sort)], cursor


@given(requests(), WORDS, st.booleans(), st.booleans())
def test_what_is_remembered_is_what_would_be_rendered(
    request: tuple[list[tuple[str, str]], Cursor | None], user: str, counted: bool, base: bool
) -> None:
    """Whatever was asked before, by whomever; and each value is a parameter."""
    parameters, cursor = request
    composer = PageComposer(PFA, read_listing(PFA, parameters), "acme", user)
    page = composer.page(cursor, counted=counted, base_count=base)
    plan, arguments = composer.plan(cursor, counted=counted, base_count=base)
    fresh = pages.READ_PAGE.fill(**markers(plan)).within("pfa")
    assert page.text == fresh.text
    assert page.arguments == arguments
    assert arguments[:3] == ["acme", "pfa", user]
    assert placed(page) == set(range(1, len(arguments) + 1))


def placed(page: Composed) -> set[int]:
    return {int(number) for number in re.findall(r"\$(\d+)", page.text.partition("WITH ")[2])}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"category": "Cranes"}, {"category": "Aerial Lifts"}),
        ({"model[in]": "a"}, {"model[in]": ",".join(map(str, range(BOUNDS.values)))}),
        ({"search": "a"}, {"search": "%b"}),
        ({"fields": "model"}, {"fields": "category,model"}),
        ({"syncState": "pristine"}, {"syncState": "pristine,draft"}),
        ({"pageSize": "3", "page": "2"}, {"pageSize": "4", "page": "3"}),
    ],
)
def test_other_values_are_the_same_statement(one: dict[str, str], other: dict[str, str]) -> None:
    """The same text, and neither has the other's values."""
    first, second = (composed(parameters, user) for parameters, user in ((one, "ann"), (other, "bob")))
    assert first.statement is second.statement
    assert first.arguments != second.arguments
    assert (first.arguments[2], second.arguments[2]) == ("ann", "bob")
    assert composed(one, "ann").arguments == first.arguments


def test_other_shapes_are_other_statements() -> None:
    asked: list[dict[str, Any]] = [
        {}, {"category": "Cranes"}, {"category[ne]": "Cranes"}, {"model": "M"}, {"search": "M"}, {"sort": "category"},
        {"sort": "-category"}, {"fields": "model"}, {"fields": "planCost"}, {"fields": "actualCost"},
        {"include": "overlap"}, {"include": "computed"}, {"include": "computed,overlap"}, {"include": "layers"},
        {"include": "deleted"}, {"pageSize": "500"}, {"page": "2000"}, {"syncState": "draft"},
    ]  # fmt: skip
    texts = [composed(parameters, "ann").text for parameters in asked]
    texts += [composed({}, "ann", counted=True).text, composed({}, "ann", base_count=True).text]
    assert len(set(texts)) == len(texts)
    of_fleet = PageComposer(FLEET, read_listing(FLEET, []), "acme", "ann")
    assert "fleet.mirror" in of_fleet.page(None, counted=False, base_count=False).text


def composed(parameters: dict[str, str], user: str, *, counted: bool = False, base_count: bool = False) -> Composed:
    listing = read_listing(PFA, parameters.items())
    return PageComposer(PFA, listing, "acme", user).page(None, counted=counted, base_count=base_count)


async def test_what_a_list_asks_for_is_read_once(world: World, ann: User) -> None:
    """For everybody who asks for it, in each dataset by its own contract; what was refused is refused again."""
    await world.mirror({"A": line(), "B": line()})
    await world.mirror({"V": vehicle()}, contract=FLEET)
    for _ in range(2):
        assert ids(await ann.rows(sort="id", id="A")) == ["A"]
        assert ids(await ann.rows(sort="id", id="B")) == ["B"]
        assert ids(await ann.on("fleet").rows(sort="id")) == ["V"]
        assert (await ann.get("rows", params={"seats": "3"})).status_code == 400
        assert (await ann.on("fleet").get("rows", params={"monthlyRate": "3"})).status_code == 400
        assert (await ann.get("rows", params={"id[in]": "A" * 2000})).status_code == 200
    assert len(world.runtime.listings) == 3
