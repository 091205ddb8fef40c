"""KPIs: figures of the mirror and of one's own view, what they leave out, and where they come from."""

import json
import re
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.base import exact_json
from app.engine import figures
from app.kpis import EXACT, written
from app.web.auth import Role
from tests.support.world import FLEET, User, World, line, refused, vehicle

RATE = Decimal("913.20")  # 30 a day


def rental(**fields: Any) -> dict[str, Any]:
    """A complete rental: 30 days planned, 60 forecast, no actuals."""
    dates = {"originalStart": "2026-01-01", "originalEnd": "2026-01-31"}
    return line(**{"monthlyRate": RATE, **dates, "forecastStart": "2026-02-01", "forecastEnd": "2026-04-02"} | fields)


async def asked(user: User, **params: Any) -> dict[str, Any]:
    """The whole answer, numbers with their digits."""
    response = await user.get("kpis", params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = exact_json.decode(response.content)
    return answer


async def totals(user: User, side: str = "mine", **params: Any) -> dict[str, Any]:
    """The figures of all rows."""
    found: dict[str, Any] = (await asked(user, **params))["totals"][side]
    return found


def picked(figures: Mapping[str, Any], *names: str) -> tuple[Any, ...]:
    """Some figures in this order."""
    return tuple(figures[name] for name in names)


async def refresh(world: World, schema: str = "pfa") -> None:
    """Bring the view up to the mirror."""
    await world.db.execute(f"SELECT {schema}.refresh_kpi()")


# -- the formulae ------------------------------------------------------------------------------------------------------

# A line -> plan, forecast, actual, monthlyRental, purchaseCost, incomplete.
LINES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "a rental costs its months of 30.44 days": (rental(), ("900.00", "1800.00", 0, "913.20", 0, 0)),
    "actuals cost where both dates are there": (
        rental(actualStart="2026-01-01", actualEnd="2026-01-16"), ("900.00", "1800.00", "450.00", "913.20", 0, 0)
    ),
    "actuals with one date cost nothing, and nothing is missing": (
        rental(actualStart="2026-01-01"), ("900.00", "1800.00", 0, "913.20", 0, 0)
    ),
    "a purchase costs its price, whatever its dates": (
        rental(source="Purchase", purchasePrice=Decimal("100.005"), originalStart=None),
        ("100.01", "100.01", 0, 0, "100.01", 0),
    ),
    "a purchase without a price is incomplete": (rental(source="Purchase"), (0, 0, 0, 0, 0, 1)),
    "a rental without a rate is incomplete": (rental(monthlyRate=None), (0, 0, 0, 0, 0, 1)),
    "a rental without a day of its plan is incomplete": (
        rental(originalEnd=None), (0, "1800.00", 0, "913.20", 0, 1)
    ),
    "a rental without a day of its forecast is incomplete": (
        rental(forecastStart=None), ("900.00", 0, 0, "913.20", 0, 1)
    ),
    "neither rental nor purchase is incomplete": (rental(source=None), (0, 0, 0, 0, 0, 1)),
    "an end before its start costs nothing": (
        rental(originalStart="2026-03-01"), (0, "1800.00", 0, "913.20", 0, 0)
    ),
    "half a cent goes up": (
        rental(monthlyRate=Decimal("0.01522"), originalEnd="2026-01-11"), ("0.01", "0.03", 0, "0.02", 0, 0)
    ),
    "from the first day of the calendar to its last": (
        rental(forecastStart="0001-01-01", forecastEnd="9999-12-31"), ("900.00", "109561740.00", 0, "913.20", 0, 0)
    ),
    "what does not parse is not there": (
        rental(monthlyRate="1,000", originalStart="2026-02-30"), (0, 0, 0, 0, 0, 1)
    ),
}  # fmt: skip


@pytest.mark.parametrize("fresh", [True, False], ids=["from the view", "from rows"])
async def test_figures_of_a_line_are_those_of_its_formulae(world: World, ann: User, fresh: bool) -> None:
    """Given a line of each kind in a category of its own, then each group has the figures of its formula."""
    await world.mirror({title: {**fields, "category": title} for title, (fields, _) in LINES.items()})
    if fresh:
        await refresh(world)
    answer = await asked(ann, groupBy="category")
    assert (answer["metadata"]["viewRevision"] is not None) == fresh
    found = {
        group["key"]["category"]: picked(
            group["mine"], "plan", "forecast", "actual", "monthlyRental", "purchaseCost", "incomplete"
        )
        for group in answer["groups"]
    }
    assert found == {title: tuple(map(Decimal, figures)) for title, (_, figures) in LINES.items()}


async def test_variance_is_forecast_less_plan_and_its_percentage_is_of_the_plan(world: World, ann: User) -> None:
    await world.mirror({"A": rental(), "B": rental(category="Cars", originalEnd="2026-01-01")})
    answer = await asked(ann, groupBy="category")
    cars, cranes = (group["baseline"] for group in answer["groups"])
    assert picked(cranes, "variance", "variancePercent") == (900, 100)
    assert picked(cars, "plan", "variance", "variancePercent") == (0, 1800, 0)
    assert picked(answer["totals"]["mine"], "variance", "variancePercent") == (2700, 300)


async def test_a_percentage_has_six_decimals(world: World, ann: User) -> None:
    purchase = {"source": "Purchase", "purchasePrice": 1}
    await world.mirror({"A": rental(**purchase), "B": rental(**purchase), "C": rental(**purchase)})
    await ann.draft("A", {"source": "Rental", "monthlyRate": Decimal("30.44")})
    mine = await totals(ann)
    # 60 days forecast, 30 planned, and two bought for 1.
    assert picked(mine, "plan", "forecast", "variancePercent") == (32, 62, Decimal("93.75"))
    await ann.draft("B", {"purchasePrice": Decimal("2")})
    assert (await totals(ann))["variancePercent"] == Decimal("90.909091")


# -- what is left out --------------------------------------------------------------------------------------------------


@pytest.fixture
async def flagged(world: World) -> None:
    """A line of each kind that KPIs know."""
    await world.mirror(
        {
            "A": rental(),
            "B": rental(isDiscontinued=True, isActualized=True),
            "C": rental(isFundsTransferable=True),
            "D": rental(isDiscontinued=True, isFundsTransferable=True),
            "E": rental(isDiscontinued=None, isFundsTransferable="no"),
        }
    )
    await refresh(world)


# Parameters -> rows, and those of them that are discontinued.
LEFT_OUT: list[tuple[dict[str, Any], int, int]] = [
    ({}, 2, 0),
    ({"include": "discontinued"}, 3, 1),
    ({"include": "fundsTransferable"}, 3, 0),
    ({"include": "discontinued,fundsTransferable"}, 5, 2),
    ({"include": ["discontinued", "fundsTransferable", "discontinued"]}, 5, 2),
    ({"include": ""}, 2, 0),
    ({"isDiscontinued": "true"}, 1, 1),
    ({"isDiscontinued": "true", "include": "fundsTransferable"}, 2, 2),
    ({"isDiscontinued": "false"}, 1, 0),
    ({"isDiscontinued[isnull]": "true"}, 1, 0),
    ({"isDiscontinued[ne]": "true"}, 2, 0),
    ({"isFundsTransferable": "true"}, 1, 0),
    ({"isActualized": "true"}, 0, 0),
    ({"isActualized": "true", "include": "discontinued"}, 1, 1),
]


async def test_discontinued_and_funds_transferable_rows_count_when_they_are_asked_for(flagged: None, ann: User) -> None:
    """By include, or by a filter on the flag itself."""
    for params, rows, discontinued in LEFT_OUT:
        assert picked(await totals(ann, **params), "rows", "discontinued") == (rows, discontinued), params


async def test_a_line_that_is_drafted_discontinued_leaves_the_figures(flagged: None, ann: User) -> None:
    await ann.draft("A", {"isDiscontinued": True})
    answer = await asked(ann)
    assert answer["totals"]["difference"]["rows"] == -1
    assert picked(answer["totals"]["mine"], "rows", "drafts") == (1, 0)
    assert picked(await totals(ann, include="discontinued"), "rows", "drafts", "discontinued") == (3, 1, 2)


# -- one's own drafts --------------------------------------------------------------------------------------------------


async def test_drafts_move_mine_and_leave_the_baseline(world: World, ann: User, bob: User) -> None:
    """A change, a row more and a row less; bob sees none of it."""
    await world.mirror({key: rental() for key in "ABC"})
    await refresh(world)
    await ann.draft("A", {"forecastEnd": "2026-02-01", "category": "Cars"})
    await ann.draft("B", op="delete")
    new = {"category": "Cranes", "source": "Purchase", "dor": "BEO", "purchasePrice": 5}
    await ann.draft("N", new, op="insert")
    answer = await asked(ann, groupBy="category")
    assert answer["metadata"]["viewRevision"] is None, "the first day was taken away by the deletion"
    names = ("rows", "drafts", "plan", "forecast")
    assert picked(answer["totals"]["baseline"], *names) == (3, 0, 2700, 5400)
    assert picked(answer["totals"]["mine"], *names) == (3, 2, 1805, 1805)
    assert picked(answer["totals"]["difference"], *names) == (0, 2, -895, -3595)
    cars, cranes = answer["groups"]
    assert (cars["key"], cranes["key"]) == ({"category": "Cars"}, {"category": "Cranes"})
    assert picked(cars["baseline"], "rows", "plan") == (0, 0)
    assert picked(cars["mine"], *names) == (1, 1, 900, 0)
    assert picked(cranes["mine"], *names) == (2, 1, 905, 1805)
    assert picked(await totals(bob), *names) == (3, 0, 2700, 5400)


async def test_a_draft_that_touches_no_figure_counts_as_a_draft_and_no_more(world: World, ann: User) -> None:
    await world.mirror({"A": rental(), "B": rental()})
    await refresh(world)
    await ann.draft("A", {"equipment": "EQ-1"})
    answer = await asked(ann, groupBy="category,source")
    assert {name: value for name, value in answer["totals"]["difference"].items() if value} == {"drafts": 1}
    assert answer["groups"][0]["mine"]["drafts"] == 1
    assert answer["metadata"]["viewRevision"] == 0
    for query in ({"equipment": "EQ-1"}, {"search": "eq-1"}, {"syncState": "draft"}, {"id": "A"}):
        assert picked(await totals(ann, **query), "rows", "drafts") == (1, 1), query


async def test_what_is_committed_and_on_its_way_is_mine_and_no_draft(world: World, ann: User) -> None:
    await world.mirror({"A": rental()})
    await refresh(world)
    await ann.draft("A", {"monthlyRate": 0})
    assert (await ann.commit()).status_code == 200
    answer = await asked(ann)
    assert picked(answer["totals"]["mine"], "forecast", "drafts") == (0, 0)
    assert picked(answer["totals"]["baseline"], "forecast", "drafts") == (1800, 0)
    await ann.draft("A", {"equipment": "x"})
    assert picked(await totals(ann), "forecast", "drafts") == (0, 1)


async def test_a_state_is_a_filter_on_both_sides(world: World, ann: User) -> None:
    await world.mirror({key: rental() for key in "ABCD"})
    await ann.draft("A", {"monthlyRate": 0})
    await ann.draft("B", {"equipment": "x"})
    await ann.draft("C", op="delete")
    answer = await asked(ann, syncState="draft")
    assert picked(answer["totals"]["baseline"], "rows", "forecast") == (3, 5400)
    assert picked(answer["totals"]["mine"], "rows", "forecast", "drafts") == (2, 1800, 2)
    answer = await asked(ann, syncState="pristine")
    assert picked(answer["totals"]["baseline"], "rows", "forecast") == (1, 1800)
    assert picked(answer["totals"]["mine"], "rows", "forecast", "drafts") == (1, 1800, 0)


# -- how figures are written ------------------------------------------------------------------------------------------

WRITTEN = re.compile(r"0|-?(0\.\d*[1-9]|[1-9]\d*(\.\d*[1-9])?)")
# What a rate can be, and what a row can hold: one number in several forms.
FORMS = ["0", "0.00", "0E+2", "1E+3", "1000.000", "1000", "0.0000001", "1E-7", "12.50", "12.5"]
SHORTEST = ["0", "0", "0", *["1000"] * 3, *["0.0000001"] * 2, *["12.5"] * 2]


def texts(value: Any) -> list[str]:
    """Every number of an answer, as it is written."""
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in texts(each)]
    return [value.removeprefix("number ")] if isinstance(value, str) and value.startswith("number ") else []


async def as_written(user: User, path: str, **params: Any) -> dict[str, Any]:
    """An answer whose numbers are texts."""
    response = await user.get(path, params)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = json.loads(response.text, parse_float="number {}".format, parse_int="number {}".format)
    return {name: value for name, value in answer.items() if name != "metadata"}


@given(st.decimals(min_value=Decimal("-1e40"), max_value=Decimal("1e40"), allow_nan=False))
@example(Decimal("-0.00"))
@example(Decimal("0E+2"))
@example(Decimal("1E-7"))
def test_a_number_has_one_form(number: Decimal) -> None:
    """Shortest, without an exponent and without a sign of nothing; the same for what is the same."""
    same = [number, EXACT.multiply(number, Decimal("1.000")), number.normalize(EXACT)]
    found = [exact_json.encode(written({"a": each})).decode()[5:-1] for each in same]
    assert set(found) == {found[0]}
    assert Decimal(found[0]) == number
    assert WRITTEN.fullmatch(found[0])


def test_what_is_no_fraction_is_written_as_it_is() -> None:
    assert written({"rows": 100, "first": date(2026, 1, 1), "least": None}) == {
        "rows": 100, "first": date(2026, 1, 1), "least": None
    }  # fmt: skip


@pytest.mark.parametrize("fresh", [True, False], ids=["from the view", "from rows"])
async def test_the_same_figure_is_written_the_same_way_wherever_it_comes_from(
    world: World, ann: User, fresh: bool
) -> None:
    """Of a group of one row or of all, with drafts or without, from the view or from rows, or of nothing at all."""
    lines = {f"R{n}": rental(category=form, monthlyRate=Decimal(form)) for n, form in enumerate(FORMS)}
    await world.mirror(lines | {"P": rental(source="Purchase", purchasePrice=Decimal("1E+3"), monthlyRate=None)})
    vehicles = {f"V{n}": vehicle(depot=form, mileage=Decimal(form)) for n, form in enumerate(FORMS)}
    await world.mirror(vehicles, contract=FLEET)
    for schema in ("pfa", "fleet") if fresh else ():
        await refresh(world, schema)
    for drafted in (False, True):
        for params in ({"groupBy": "category,source"}, {"category": "nobody"}, {"id": "R0"}, {"syncState": "draft"}):
            answer = await as_written(ann, "kpis", **params)
            assert [text for text in texts(answer) if not WRITTEN.fullmatch(text)] == []
            for sets in (answer["totals"], *answer["groups"]) if not drafted else ():
                assert {**sets["baseline"], "drafts": ""} == {**sets["mine"], "drafts": ""}
                assert set(texts(sets["difference"])) <= {"0"}
        answer = await as_written(ann, "/api/pfa/acme/stats")
        assert [text for text in texts(answer) if not WRITTEN.fullmatch(text)] == []
        await ann.draft("R4", {"monthlyRate": Decimal("1000.0")})
        await ann.draft("R7", {"equipment": "x"})
    answer = await as_written(ann.on("fleet"), "kpis", groupBy="depot")
    assert [text for text in texts(answer) if not WRITTEN.fullmatch(text)] == []
    groups = {group["key"]["depot"]: group["mine"] for group in answer["groups"]}
    for figure in ("mileage", "longestMileage"):
        assert [groups[form][figure].removeprefix("number ") for form in FORMS] == SHORTEST


async def test_rows_keep_the_digits_that_figures_leave_out(world: World, ann: User) -> None:
    await world.mirror({"A": rental(monthlyRate=Decimal("1250.50"))})
    assert re.search(r'"monthlyRate": ?1250\.50[,}]', (await ann.get("rows")).text)
    assert '"monthlyRental":1250.5,' in (await ann.get("kpis")).text


# -- groups ------------------------------------------------------------------------------------------------------------

HOSTILE = [
    "'; DROP TABLE pfa.mirror; --", '"', "\\", "\x01\x1f\x7f", "$1", "{c}", "/*{cells}*/", "%s", "null", "NULL", "",
    " ", "\u202e", "\U0001f600", "é" * 250, "x" * 500, "a,b",
]  # fmt: skip


@pytest.mark.parametrize("fresh", [True, False], ids=["from the view", "from rows"])
async def test_a_groups_value_is_whatever_text_there_is(world: World, ann: User, fresh: bool) -> None:
    """In the order of code points, what is absent or no text last; above 500 bytes is no text."""
    await world.mirror({f"R{n}": rental(category=text, areaSilo=text) for n, text in enumerate(HOSTILE)})
    others = [None, 5, "y" * 501]
    await world.mirror({f"X{n}": rental(category=value, areaSilo=value) for n, value in enumerate(others)})
    if fresh:
        await refresh(world)
    answer = await asked(ann, groupBy="category,areaSilo")
    assert (answer["metadata"]["viewRevision"] is None) != fresh
    found = [tuple(group["key"].values()) for group in answer["groups"]]
    assert found == [*((text, text) for text in sorted(HOSTILE)), (None, None)]
    assert [group["mine"]["rows"] for group in answer["groups"]] == [1] * len(HOSTILE) + [3]
    for text in HOSTILE:
        if not text.isprintable() and "\x1f" in text:
            continue
        groups = (await asked(ann, category=text, groupBy="category"))["groups"]
        assert [group["key"]["category"] for group in groups] == [text]


async def test_the_longest_texts_in_every_dimension_do_not_stop_a_refresh(world: World, ann: User) -> None:
    """A cell's key is an entry of a B-tree, which holds 2,704 bytes."""
    texts = {name: "".join(chr(0x4E00 + (seed * 7919 + n * 104729) % 20000) for n in range(166))
             for seed, name in enumerate(("category", "class", "source", "dor", "areaSilo"))}  # fmt: skip
    await world.db.execute("UPDATE organization SET name = id")
    await world.organization("o" * 63)
    await world.mirror({"A": rental(**texts)}, "o" * 63)
    user = await world.user("cy", "o" * 63)
    await refresh(world)
    (group,) = (await asked(user, groupBy="category,class,source,dor,areaSilo"))["groups"]
    assert group["key"] == texts


async def test_groups_are_named_once_and_in_the_order_of_their_names(world: World, ann: User) -> None:
    await world.mirror({"A": rental(), "B": rental(dor="PROJECT"), "C": rental(source="Purchase", purchasePrice=1)})
    plain = await asked(ann, groupBy="source,dor")
    for spelled in ("source,dor,source,dor", " source , dor ,", ["source", "dor"], ["source,dor", "source"]):
        assert (await asked(ann, groupBy=spelled))["groups"] == plain["groups"]
    assert [tuple(group["key"].values()) for group in plain["groups"]] == [
        ("Purchase", "BEO"), ("Rental", "BEO"), ("Rental", "PROJECT")
    ]  # fmt: skip
    assert (await asked(ann, groupBy=""))["groups"] == []


async def test_too_many_groups_are_refused(world: World, ann: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether they are in the mirror or in one's own drafts."""
    monkeypatch.setattr(figures, "MAX_GROUPS", 3)
    await world.mirror({f"R{n}": rental(category=f"C{n}") for n in range(3)})
    await refresh(world)
    assert len((await asked(ann, groupBy="category"))["groups"]) == 3
    await ann.draft("R0", {"category": "C9"})
    problem = refused(await ann.get("kpis", {"groupBy": "category"}), 400, "INVALID_FILTER")
    assert [error["parameter"] for error in problem["errors"]] == ["groupBy"]
    assert "more than 3 groups" in problem["detail"]


# -- least and greatest ------------------------------------------------------------------------------------------------


async def test_bounds_are_the_first_and_last_days_of_each_pair(world: World, ann: User) -> None:
    await world.mirror({
        "A": rental(originalStart="0001-01-01", originalEnd="2026-01-01", actualStart="2026-05-05"),
        "B": rental(originalStart="2026-01-01", originalEnd="9999-12-31", forecastStart=None),
        "C": rental(isDiscontinued=True, forecastStart="1999-01-01", actualEnd="2099-01-01"),
    })  # fmt: skip
    for _ in range(2):
        answer = await asked(ann)
        assert answer["bounds"]["baseline"] == answer["bounds"]["mine"] == {
            "originalStart": "0001-01-01", "originalEnd": "9999-12-31",
            "forecastStart": "2026-02-01", "forecastEnd": "2026-04-02",
            "actualStart": "2026-05-05", "actualEnd": None,
        }  # fmt: skip
        await refresh(world)


DATED = {
    "A": vehicle(inspectedOn="2026-01-01", mileage=1, seats=1),
    "B": vehicle(inspectedOn="2026-01-01", mileage=5, seats=5),
    "C": vehicle(inspectedOn="2026-06-01", mileage=9, seats=9),
}
# What happens -> least inspection, greatest mileage, most seats, and whether the view can still tell.
EXTREMES: dict[str, tuple[dict[str, dict[str, Any] | None], tuple[Any, ...], bool]] = {
    "an extreme value is taken away that no index finds again": ({"C": {"seats": 2}}, ("2026-01-01", 9, 5), False),
    "an extreme value is taken away that an index finds again": ({"A": {"mileage": 4}}, ("2026-01-01", 9, 9), True),
    "its row goes": ({"C": None}, ("2026-01-01", 5, 5), False),
    "another row still holds it": ({"A": {"inspectedOn": "2026-02-02"}}, ("2026-01-01", 9, 9), False),
    "none holds it any more": (
        {"A": {"inspectedOn": "2026-02-02"}, "B": {"inspectedOn": None}}, ("2026-02-02", 9, 9), False
    ),
    "a value goes that lies between": ({"B": {"mileage": 6, "seats": 6}}, ("2026-01-01", 9, 9), True),
    "its row stays": ({"C": {"depot": "South", "remark": "x"}}, ("2026-01-01", 9, 9), True),
    "a value comes beyond it": ({"A": {"seats": 99, "mileage": 99}}, ("2026-01-01", 99, 99), True),
    "nothing is left": ({"A": None, "B": None, "C": None}, (None, None, None), False),
}  # fmt: skip


def extremes(answer: Mapping[str, Any], side: str) -> tuple[Any, ...]:
    """The three that DATED and EXTREMES are about."""
    figures, bounds = answer["totals"][side], answer["bounds"][side]
    return figures["oldestInspection"], figures["longestMileage"], bounds["mostSeats"]


@pytest.mark.parametrize("committed", [False, True], ids=["drafted", "committed"])
async def test_least_and_greatest_values(world: World, committed: bool) -> None:
    """Given a fresh view, when drafts or commits change rows, then extreme values are exact for everybody."""
    for number in range(len(EXTREMES)):
        await world.organization(f"o{number}")
        await world.mirror(DATED, f"o{number}", FLEET)
    await refresh(world, "fleet")
    for number, (title, (changes, wanted, from_view)) in enumerate(EXTREMES.items()):
        ann = (await world.user(f"ann{number}", f"o{number}")).on("fleet")
        bob = (await world.user(f"bob{number}", f"o{number}")).on("fleet")
        for key, delta in changes.items():
            await ann.draft(key, delta or {}, op="delete" if delta is None else "update")
        if committed:
            assert (await ann.commit()).status_code == 200
        answer = await asked(ann)
        before = wanted if committed else ("2026-01-01", 9, 9)
        assert (extremes(answer, "mine"), extremes(answer, "baseline")) == (wanted, before), title
        assert (answer["metadata"]["viewRevision"] is not None) == from_view, title
        assert extremes(await asked(bob), "mine") == before, title


async def test_a_group_without_its_bound_is_not_counted_again(world: World, ann: User) -> None:
    """Groups show no bounds: that the first day of one goes, or moves to another, takes nobody to the rows."""
    await world.mirror({"A": rental(), "B": rental(category="Cars", forecastStart="2026-03-01"), "C": rental()})
    await refresh(world)
    await ann.draft("B", {"forecastStart": "2026-03-02"})
    await ann.draft("A", {"category": "Cars"})
    answer = await asked(ann, groupBy="category")
    assert answer["metadata"]["viewRevision"] == 0
    assert [group["mine"]["rows"] for group in answer["groups"]] == [2, 1]
    assert answer["bounds"]["mine"]["forecastStart"] == "2026-02-01"


async def test_measures_of_another_contract(world: World, ann: User) -> None:
    """An average, counts of values and of what is true, a quotient; null where there is nothing."""
    ann = ann.on("fleet")
    await world.mirror({
        "A": vehicle(mileage=1, seats=2, inspectedOn="2026-01-01"), "B": vehicle(mileage=2, seats=2, inService=False),
        "C": vehicle(depot="South", mileage=None, seats=None), "D": vehicle(scrapped=True, mileage=100),
    }, contract=FLEET)  # fmt: skip
    for _ in range(2):
        answer = await asked(ann, groupBy="depot")
        names = ("rows", "mileage", "averageMileage", "inspected", "inService", "longestMileage", "spread")
        north, south = (group["mine"] for group in answer["groups"])
        assert picked(north, *names, "seatsPerMileage") == (
            2, 3, Decimal("1.5"), 1, 1, 2, Decimal("0.5"), Decimal("133.333333")
        )  # fmt: skip
        assert picked(south, *names, "seatsPerMileage") == (1, 0, None, 0, 1, None, None, 0)
        assert (await totals(ann, include="scrapped"))["longestMileage"] == 100
        await refresh(world, "fleet")


async def test_the_difference_of_days_is_how_many_and_of_nothing_is_nothing(world: World, ann: User) -> None:
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(inspectedOn="0001-01-01")}, contract=FLEET)
    await ann.draft("A", {"inspectedOn": "9999-12-31"})
    assert (await totals(ann, "difference"))["oldestInspection"] == 3652058
    await ann.draft("A", {"inspectedOn": None})
    assert (await totals(ann, "difference"))["oldestInspection"] is None


# -- where figures come from -------------------------------------------------------------------------------------------


async def view_revision(user: User, **params: Any) -> int | None:
    """That of an answer."""
    found: int | None = (await asked(user, **params))["metadata"]["viewRevision"]
    return found


async def test_the_view_answers_what_its_dimensions_and_flags_can_tell(world: World, ann: User) -> None:
    await world.mirror({"A": rental()})
    assert await view_revision(ann) is None, "nobody has refreshed it yet"
    await refresh(world)
    for known in ({}, {"category[contains]": "ran"}, {"dor[ne]": "BEO"}, {"isDiscontinued": "true"}, {"search": ""}):
        assert await view_revision(ann, **known) == 0, known
    for unknown in (
        {"isActualized": "true"}, {"equipment": "x"}, {"search": "x"}, {"syncState": "pristine"}, {"id": "A"},
        {"forecastStart[gt]": "2026-01-01"}, {"planCost[gt]": "1"}, {"pfaId": "A"},
    ):  # fmt: skip
        assert await view_revision(ann, **unknown) is None, unknown


async def test_commits_move_the_figures_and_not_the_view(world: World, ann: User) -> None:
    """Given a fresh view, when rows are committed, then the answer goes on from the view's revision."""
    ann = ann.on("fleet")
    await world.mirror({"A": vehicle(mileage=5, seats=1), "B": vehicle(mileage=9, seats=9)}, contract=FLEET)
    await refresh(world, "fleet")
    for number in range(3):
        await ann.draft("A", {"seats": 2 + number})
        assert (await ann.commit()).status_code == 200
        answer = await asked(ann, groupBy="kind")
        assert answer["metadata"] | {"queryTime": 0} == {
            "revision": number + 1, "viewRevision": 0, "queryTime": 0, "filters": {}
        }  # fmt: skip
        assert picked(answer["totals"]["baseline"], "rows", "seats") == (2, 11 + number)
    await refresh(world, "fleet")
    assert await view_revision(ann) == 3


async def test_a_load_without_history_ends_the_trust_in_an_older_view(world: World, ann: User) -> None:
    await world.mirror({"A": rental()})
    await refresh(world)
    await world.mirror({"B": rental()})
    await world.db.execute("UPDATE dataset SET revision = 1, unrecorded = 1")
    assert (await totals(ann))["rows"] == 2
    assert await view_revision(ann) is None
    await refresh(world)
    assert ((await totals(ann))["rows"], await view_revision(ann)) == (2, 1)


async def test_nothing_has_figures_too(world: World, ann: User) -> None:
    """An empty dataset, with a view and without; and an organization that came after the refresh."""
    for _ in range(2):
        answer = await asked(ann, groupBy="category")
        assert set(answer["totals"]["mine"].values()) == {0}
        assert set(answer["bounds"]["mine"].values()) == {None}
        assert answer["groups"] == []
        await refresh(world)
    assert await view_revision(ann) == 0
    await world.organization("young")
    cy = await world.user("cy", "young")
    assert await view_revision(cy) is None
    assert set((await totals(cy)).values()) == {0}


async def test_numbers_of_many_digits_keep_them(world: World, ann: User) -> None:
    """Sums, differences, averages: never through a binary float, nor through Python's 28 digits."""
    ann, long = ann.on("fleet"), Decimal("999999999999999999999999999999.99999999999999999999")
    await world.mirror({"A": vehicle(mileage=long), "B": vehicle(mileage=long)}, contract=FLEET)
    await ann.draft("A", {"mileage": Decimal("0.00000000000000000001")})
    answer = await asked(ann)
    assert answer["totals"]["baseline"]["mileage"] == Decimal("1999999999999999999999999999999.99999999999999999998")
    assert answer["totals"]["mine"]["mileage"] == Decimal(10) ** 30
    assert answer["totals"]["difference"]["mileage"] == Decimal("-999999999999999999999999999999.99999999999999999998")
    assert answer["totals"]["mine"]["averageMileage"] == Decimal(10) ** 30 / 2


async def test_costs_of_many_digits_keep_them_in_the_statistics_too(world: World, ann: User) -> None:
    price = Decimal("99999999999999999999999999999.55")
    await world.mirror({key: rental(source="Purchase", purchasePrice=price) for key in "ABC"})
    stats = exact_json.decode((await ann.get("/api/pfa/acme/stats")).content)
    assert stats["totalPurchaseCost"] == Decimal("299999999999999999999999999998.65")
    assert (await totals(ann))["plan"] == Decimal("299999999999999999999999999998.65")


# -- the request -------------------------------------------------------------------------------------------------------


async def test_an_answer_has_the_etag_of_what_it_tells(world: World, ann: User, bob: User) -> None:
    """Unchanged it is 304 by its ETag; a draft of one's own or a new revision is another, a refresh is none."""
    ann, bob = ann.on("fleet"), bob.on("fleet")
    await world.mirror({"A": vehicle()}, contract=FLEET)
    first = await ann.get("kpis")
    etag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = await ann.get("kpis", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", etag)
    await refresh(world, "fleet")
    assert (await ann.get("kpis", headers={"If-None-Match": etag})).status_code == 304
    await bob.draft("A", {"seats": 5})
    assert (await ann.get("kpis", headers={"If-None-Match": etag})).status_code == 304
    await bob.commit()
    response = await ann.get("kpis", headers={"If-None-Match": etag})
    assert (response.status_code, response.headers["ETag"] != etag) == (200, True)
    etag = response.headers["ETag"]
    await ann.draft("A", {"remark": "x"})
    assert (await ann.get("kpis", headers={"If-None-Match": etag})).status_code == 200


REFUSALS = {
    "groupBy=model": "groupBy",
    "groupBy=category,isActualized": "groupBy",
    "groupBy=id": "groupBy",
    "groupBy=Category": "groupBy",
    "groupBy=category;DROP": "groupBy",
    "groupBy=planCost": "groupBy",
    "groupBy[in]=category": "groupBy[in]",
    "include=overlap": "include",
    "include=everything": "include",
    "include=discontinued,isDiscontinued": "include",
    "page=1": "page",
    "pageSize=100": "pageSize",
    "after=x": "after",
    "count=none": "count",
    "sort=category": "sort",
    "sortBy=category": "sortBy",
    "sortOrder=asc": "sortOrder",
    "fields=category": "fields",
    "format=csv": "format",
    "nothing=1": "nothing",
    "category=a%00b": "category",
    "source=Lease": "source",
    "source[in]=Rental,Lease": "source[in]",
    "dor[ne]=beo": "dor[ne]",
    "isDiscontinued=yes": "isDiscontinued",
    "syncState=lost": "syncState",
}


async def test_what_cannot_be_understood_is_refused_by_its_name(world: World, ann: User) -> None:
    for query, parameter in REFUSALS.items():
        problem = refused(await ann.get(f"kpis?{query}"), 400, "INVALID_FILTER")
        assert [error["parameter"] for error in problem["errors"]] == [parameter], query
    refused(await ann.on("nothing").get("kpis"), 404, "DATASET_NOT_FOUND")
    await world.db.execute("DELETE FROM dataset")
    refused(await ann.get("kpis"), 404, "DATASET_NOT_FOUND")


async def test_the_filters_are_told_as_they_were_understood(world: World, ann: User) -> None:
    answer = await asked(ann, **{"category": ["a", "b"], "class[ne]": "c", "groupBy": "dor", "include": "discontinued"})
    assert answer["metadata"]["filters"] == {"category": ["a", "b"], "class[ne]": "c"}


async def test_a_viewer_may_ask_and_a_stranger_may_not(world: World, ann: User) -> None:
    await world.mirror({"A": rental()})
    await world.organization("rival")
    eve = await world.user("eve", "rival")
    viewer = await world.user("vi", role=Role.VIEWER)
    assert (await totals(viewer))["rows"] == 1
    for path in ("/api/v1/orgs/acme/datasets/pfa/kpis", "/api/pfa/acme/stats"):
        assert (await world.http.get(path)).status_code == 401
        assert (await eve.get(path)).status_code == 403
    assert (await totals(eve))["rows"] == 0


async def test_as_many_filters_as_there_can_be(world: World, ann: User) -> None:
    """Every operator on four dimensions, and a thousand values in one: an answer, not an error."""
    await world.mirror({"A": rental(), "B": rental(category="a")})
    await refresh(world)
    ops = {"[ne]": "b", "[nin]": "b,c", "[gt]": "", "[gte]": "", "[lt]": "~", "[lte]": "~", "[contains]": "",
           "[startswith]": "", "[isnull]": "false"}  # fmt: skip
    names = ("category", "class", "source", "dor", "areaSilo")
    query = {f"{name}{op}": value for name in names[:4] for op, value in ops.items()}
    query |= {f"source[{op}]": "Purchase" for op in ("ne", "nin")} | {f"dor[{op}]": "PROJECT" for op in ("ne", "nin")}
    query |= {"category[in]": ",".join(["a", *(f"v{n}" for n in range(999))]), "isDiscontinued[ne]": "true"}
    answer = await asked(ann, **query, groupBy=",".join(names))
    assert (answer["metadata"]["viewRevision"], answer["totals"]["mine"]["rows"]) == (0, 1)


# -- the statistics of PFA's own door ----------------------------------------------------------------------------------


async def stats_of(user: User) -> dict[str, Any]:
    """The whole answer."""
    response = await user.get(f"/api/pfa/{user.organization}/stats")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = exact_json.decode(response.content)
    return found


async def test_statistics_count_all_lines_and_sum_those_of_kpis(flagged: None, world: World, ann: User) -> None:
    """Given flags of all kinds, then counts are of all lines; costs leave out what KPIs leave out."""
    await world.mirror({"F": rental(category=None), "G": rental(category="Cars", monthlyRate=0)})
    await refresh(world)
    await ann.draft("G", {"source": "Purchase", "purchasePrice": 7})
    await ann.draft("C", {"equipment": "x"})
    stats = await stats_of(ann)
    breakdown = stats.pop("categoryBreakdown")
    assert stats == {
        "totalRecords": 7, "actualizedCount": 1, "discontinuedCount": 2, "draftCount": 2,
        "totalMonthlyRental": Decimal("2739.60"), "totalPurchaseCost": 7,
        "planCost": 2707, "forecastCost": 5407, "actualCost": 0, "variance": 2700,
        "variancePercent": Decimal("99.741411"),
    }  # fmt: skip
    assert [(each["category"], each["count"], each["draftCount"]) for each in breakdown] == [
        ("Cars", 1, 1), ("Cranes", 5, 1), (None, 1, 0)
    ]  # fmt: skip
    assert sum(each["planCost"] for each in breakdown) == stats["planCost"]
    assert breakdown[1]["discontinuedCount"] == 2


async def test_statistics_are_of_ones_own_view(world: World, ann: User, bob: User) -> None:
    """A category whose lines one has drafted away is no category of one's own."""
    await world.mirror({"A": rental(), "B": rental(category="Cars")})
    await ann.draft("B", op="delete")
    assert [each["category"] for each in (await stats_of(ann))["categoryBreakdown"]] == ["Cranes"]
    assert (await stats_of(ann))["totalRecords"] == 1
    assert [each["category"] for each in (await stats_of(bob))["categoryBreakdown"]] == ["Cars", "Cranes"]


async def test_statistics_have_more_categories_than_kpis_have_groups(
    world: World, ann: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their caller has no groups to choose fewer of."""
    monkeypatch.setattr(figures, "MAX_GROUPS", 3)
    await world.mirror({f"R{n}": rental(category=f"C{n}") for n in range(5)})
    refused(await ann.get("kpis", {"groupBy": "category"}), 400, "INVALID_FILTER")
    assert len((await stats_of(ann))["categoryBreakdown"]) == 5


async def test_statistics_of_nothing(world: World, ann: User) -> None:
    stats = await stats_of(ann)
    assert stats.pop("categoryBreakdown") == []
    assert set(stats.values()) == {0}


async def test_statistics_have_an_etag_and_take_no_parameters(world: World, ann: User) -> None:
    response = await ann.get("/api/pfa/acme/stats")
    etag = response.headers["ETag"]
    assert (await ann.get("/api/pfa/acme/stats", headers={"If-None-Match": etag})).status_code == 304
    refused(await ann.get("/api/pfa/acme/stats", {"groupBy": "category"}), 400, "INVALID_FILTER")
