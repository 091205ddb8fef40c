"""The filters of a list: every operator on every type, with nulls, on drafted values as on those of the mirror."""

import datetime
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import httpx
import pytest

from app.base.errors import InvalidFilter
from app.contracts import PFA, Contract
from app.contracts.filters import read_listing
from tests.support.world import FLEET, User, World, ids, line, refused, vehicle

ABSENT = object()

# For each type: fields (indexed and not), rows by id, and query -> ids of the rows that pass. `f` is the field.
TEXTS = {"A": "Cranes", "B": "cranes 10%", "C": "Pumps_x", "D": None, "E": ABSENT, "F": ""}
TEXT_FILTERS = {
    "f=Cranes": "A",
    "f=cranes": "",
    "f=": "F",
    "f=Cranes&f=Pumps_x": "A C",
    "f[ne]=Cranes": "B C D E F",
    "f[ne]=Cranes&f[ne]=Pumps_x": "B D E F",
    "f[in]=Cranes,Pumps_x": "A C",
    "f[in]=Cranes&f[in]=Pumps_x": "A C",
    "f[in]=Cranes": "A",
    "f[nin]=Cranes,Pumps_x": "B D E F",
    "f[contains]=CRANE": "A B",
    "f[contains]=%25": "B",
    "f[contains]=_": "C",
    "f[contains]=": "A B C F",
    "f[startswith]=CRANES": "A B",
    "f[startswith]=ranes": "",
    "f[gt]=Cranes": "B C",
    "f[gte]=Cranes": "A B C",
    "f[lt]=Pumps_x": "A F",
    "f[lte]=Pumps_x": "A C F",
    "f[isnull]=true": "D E",
    "f[isnull]=false": "A B C F",
    "f[contains]=cranes&f[ne]=Cranes": "B",
    "f[isnull]=true&id[ne]=D": "E",
}
NUMBERS = {
    "A": 10,
    "B": Decimal("10.50"),
    "C": Decimal("0.1"),
    "D": None,
    "E": ABSENT,
    "F": Decimal("12345678901234567890.12"),
}
NUMBER_FILTERS = {
    "f=10": "A",
    "f=10.00": "A",
    "f=1e1": "A",
    "f=10.5": "B",
    "f=0.1": "C",
    "f=0.10000000000000001": "",
    "f=12345678901234567890.12": "F",
    "f=12345678901234567890": "",
    "f=10&f=.1": "A C",
    "f[ne]=10": "B C D E F",
    "f[in]=10,10.5": "A B",
    "f[nin]=10,10.5": "C D E F",
    "f[gt]=10": "B F",
    "f[gte]=10": "A B F",
    "f[lt]=10.5": "A C",
    "f[lte]=10.5": "A B C",
    "f[gt]=-1&f[lt]=10": "C",
    "f[isnull]=true": "D E",
    "f[isnull]=false": "A B C F",
}
INTEGERS = {"A": 0, "B": 3, "C": 50, "D": None, "E": ABSENT}
INTEGER_FILTERS = {
    "f=3": "B",
    "f[ne]=3": "A C D E",
    "f[in]=0,50": "A C",
    "f[nin]=0,50": "B D E",
    "f[gt]=0": "B C",
    "f[gte]=-1": "A B C",
    "f[lt]=50": "A B",
    "f[lte]=3": "A B",
    "f[isnull]=true": "D E",
}
DATES = {"A": "2026-01-31", "B": "2026-02-28", "C": "2024-02-29", "D": None, "E": ABSENT}
DATE_FILTERS = {
    "f=2026-01-31": "A",
    "f=2024-02-29&f=2026-02-28": "B C",
    "f[ne]=2026-01-31": "B C D E",
    "f[in]=2026-01-31,2026-02-28": "A B",
    "f[nin]=2026-01-31,2026-02-28": "C D E",
    "f[gt]=2026-01-31": "B",
    "f[gte]=2026-01-31": "A B",
    "f[lt]=2026-01-31": "C",
    "f[lte]=2026-01-31": "A C",
    "f[gte]=2026-01-01&f[lte]=2026-01-31": "A",
    "f[lt]=9999-12-31&f[gt]=0001-01-01": "A B C",
    "f[isnull]=true": "D E",
}
MOMENTS = {
    "A": "2026-01-31T08:30:00Z",
    "B": "2026-01-31T08:30:00.000001Z",
    "C": "0001-01-01T00:00:00Z",
    "D": None,
    "E": ABSENT,
}
MOMENT_FILTERS = {
    "f=2026-01-31T08:30:00Z": "A",
    "f=2026-01-31T08:30:00.000Z": "A",
    "f=2026-01-31T09:30:00%2B01:00": "A",
    "f=2026-01-31 03:00:00-05:30": "A",
    "f[ne]=2026-01-31T08:30:00Z": "B C D E",
    "f[in]=2026-01-31T08:30:00Z,0001-01-01T00:00:00Z": "A C",
    "f[nin]=2026-01-31T08:30:00Z": "B C D E",
    "f[gt]=2026-01-31T08:30:00Z": "B",
    "f[gte]=2026-01-31T08:30:00Z": "A B",
    "f[lt]=2026-01-31T08:30:00.000001Z": "A C",
    "f[lte]=2026-01-31T08:30:00Z": "A C",
    "f[lt]=9999-12-31T23:59:59.999999Z": "A B C",
    "f[isnull]=true": "D E",
}
BOOLEANS = {"A": True, "B": False, "D": None, "E": ABSENT}
BOOLEAN_FILTERS = {
    "f=true": "A",
    "f=FALSE": "B",
    "f[ne]=true": "B D E",
    "f[in]=true,false": "A B",
    "f[nin]=true": "B D E",
    "f[isnull]=true": "D E",
    "f[isnull]=false": "A B",
}
ENUMS = {"A": "Rental", "B": "Purchase", "D": None, "E": ABSENT}
ENUM_FILTERS = {
    "f=Rental": "A",
    "f=Rental&f=Purchase": "A B",
    "f[ne]=Rental": "B D E",
    "f[ne]=Rental&f[ne]=Purchase": "D E",
    "f[in]=Rental,Purchase": "A B",
    "f[nin]=Rental": "B D E",
    "f[contains]=PURCH": "B",
    "f[startswith]=rent": "A",
    "f[contains]=lease": "",
    "f[gt]=Purchase": "A",
    "f[lt]=Q": "B",
    "f[isnull]=true": "D E",
}
KINDS = {"A": "Truck", "B": "Van", "D": None, "E": ABSENT}
KIND_FILTERS = {"f=Van": "B", "f[ne]=Van": "A D E", "f[nin]=Van,Bus": "A D E"}

# The text that a value starts from where it is drafted: some other one of its type.
OTHER: dict[str, Any] = {
    "text": "other",
    "number": 7,
    "integer": 7,
    "date": "2020-05-05",
    "datetime": "2020-05-05T05:05:05Z",
    "boolean": None,
    "enum": None,
}


@pytest.mark.parametrize(
    ("contract", "fields", "values", "filters"),
    [
        pytest.param(PFA, ["category", "equipment"], TEXTS, TEXT_FILTERS, id="text"),
        pytest.param(PFA, ["monthlyRate", "purchasePrice"], NUMBERS, NUMBER_FILTERS, id="number"),
        pytest.param(PFA, ["forecastStart"], DATES, DATE_FILTERS, id="date"),
        pytest.param(PFA, ["isActualized"], BOOLEANS, BOOLEAN_FILTERS, id="boolean"),
        pytest.param(PFA, ["source"], ENUMS, ENUM_FILTERS, id="enum"),
        pytest.param(FLEET, ["seats"], INTEGERS, INTEGER_FILTERS, id="integer"),
        pytest.param(FLEET, ["firstDay"], DATES, DATE_FILTERS, id="date without an index"),
        pytest.param(FLEET, ["seenAt"], MOMENTS, MOMENT_FILTERS, id="datetime"),
        pytest.param(FLEET, ["leased"], BOOLEANS, BOOLEAN_FILTERS, id="boolean without an index"),
        pytest.param(FLEET, ["kind"], KINDS, KIND_FILTERS, id="enum of another dataset"),
    ],
)
async def test_every_operator_finds_mirrored_and_drafted_values_alike(
    world: World, contract: Contract, fields: list[str], values: Mapping[str, Any], filters: Mapping[str, str]
) -> None:
    """Given the same values once in the mirror and once drafted over others, then each filter finds the same rows, and
    says so in its total.
    """
    await world.organization("drafters")
    reader = (await world.user("ann")).on(contract.name)
    drafter = (await world.user("eve", "drafters")).on(contract.name)
    full = line() if contract is PFA else vehicle()
    bare = {name: value for name, value in full.items() if name not in fields}

    present = {key: bare | ({} if value is ABSENT else dict.fromkeys(fields, value)) for key, value in values.items()}
    await world.mirror(present, contract=contract)
    other = {name: OTHER[contract.by_name[name].type] for name in fields}
    before = {key: bare | ({} if value is ABSENT else other) for key, value in values.items()}
    await world.mirror(before, "drafters", contract)
    for key, value in values.items():
        if value is not ABSENT and dict.fromkeys(fields, value) != other:
            await drafter.draft(key, dict.fromkeys(fields, value))

    for field in fields:
        for query, expected in filters.items():
            asked = query.replace("f[", f"{field}[").replace("f=", f"{field}=")
            for person in (reader, drafter):
                assert await found(person, asked) == expected.split(), f"{asked} asked by {person.id}"


async def found(user: User, query: str) -> list[str]:
    """The ids that a query string finds, by id; its total says as many."""
    response = await user.get(f"rows?{query}&sort=id")
    assert response.status_code == 200, f"{query}: {response.text}"
    body = response.json()
    assert body["pagination"]["totalRecords"] == len(body["data"]), query
    return ids(body["data"])


async def test_the_id_and_computed_columns_filter_like_fields(world: World, ann: User) -> None:
    await world.mirror({"A1": line(monthlyRate=3044), "A2": line(monthlyRate=None), "B1": line(monthlyRate=0)})
    assert await found(ann, "id=A1") == ["A1"]
    assert await found(ann, "id=A1&id=B1") == ["A1", "B1"]
    assert await found(ann, "id[startswith]=a") == ["A1", "A2"]
    assert await found(ann, "id[gt]=A1") == ["A2", "B1"]
    assert await found(ann, "id[nin]=A1,A2") == ["B1"]
    # 180 days from February to the end of July; a row without a rate costs nothing.
    assert await found(ann, "forecastCost=18000") == ["A1"]
    assert await found(ann, "forecastCost[lte]=0") == ["A2", "B1"]
    await ann.draft("B1", {"monthlyRate": 3044})
    assert await found(ann, "forecastCost=18000") == ["A1", "B1"]


async def test_filters_on_several_fields_hold_together(world: World, ann: User) -> None:
    await world.mirror(
        {
            "A": line(category="Cranes", source="Rental", equipment="tag-1"),
            "B": line(category="Cranes", source="Purchase", equipment="tag-1"),
            "C": line(category="Pumps", source="Rental", equipment="tag-1"),
            "D": line(category="Cranes", source="Rental", equipment="tag-2"),
        }
    )
    assert await found(ann, "category=Cranes&source=Rental&equipment=tag-1") == ["A"]
    await ann.draft("C", {"category": "Cranes"})
    await ann.draft("D", {"equipment": "tag-1"})
    await ann.draft("A", {"source": "Purchase"})
    assert await found(ann, "category=Cranes&source=Rental&equipment=tag-1") == ["C", "D"]


async def test_a_value_that_cannot_be_read_counts_as_null(world: World, ann: User) -> None:
    """Upstream's bad values never stop a load: no filter finds them, but isnull."""
    await world.mirror(
        {"A": line(monthlyRate="cheap", forecastStart="2026-02-30", isActualized="Y", category=7), "B": line()}
    )
    for field in ("monthlyRate", "forecastStart", "isActualized", "category"):
        assert await found(ann, f"{field}[isnull]=true") == ["A"], field
        assert await found(ann, f"{field}[isnull]=false") == ["B"], field


async def test_search_looks_into_every_text_field_without_regard_to_case(world: World, ann: User) -> None:
    await world.mirror(
        {
            "PFA-1": line(manufacturer="Liebherr", equipment="TAG 50%"),
            "PFA-2": line(model="lieb_1", contract="P-77"),
            "PFA-3": line(category="Ärmel", areaSilo="back\\slash"),
        }
    )
    assert await found(ann, "search=LIEB") == ["PFA-1", "PFA-2"]
    assert await found(ann, "search=pfa-3") == ["PFA-3"]
    assert await found(ann, "search=50%25") == ["PFA-1"]
    assert await found(ann, "search=lieb_") == ["PFA-2"]
    assert await found(ann, "search=p-77") == ["PFA-2"]
    assert await found(ann, "search=%C3%A4RMEL") == ["PFA-3"]
    assert await found(ann, "search=k%5Cs") == ["PFA-3"]
    assert await found(ann, "search=") == ["PFA-1", "PFA-2", "PFA-3"]
    assert await found(ann, "search=Rental") == []  # an enum is no text
    assert await found(ann, "search=LiebherrTAG") == []  # no match spans two fields

    await ann.draft("PFA-1", {"manufacturer": "Kato"})
    await ann.draft("PFA-3", {"equipment": "Lieb"})
    assert await found(ann, "search=lieb") == ["PFA-2", "PFA-3"]
    assert await found(ann, "search=lieb&category=Cranes") == ["PFA-2"]
    assert await found(ann, "search=lieb&syncState=draft") == ["PFA-3"]


async def test_sync_states_filter_like_any_field(world: World, ann: User, bob: User) -> None:
    await world.mirror({key: line() for key in "ABCDE"})
    await ann.draft("B", {"model": "M"})
    await ann.draft("C", {"model": "M"})
    assert (await ann.commit("C")).status_code == 200
    await ann.draft("D", {"category": "Pumps"})
    await ann.draft("E", op="delete")

    assert await found(ann, "syncState=pristine") == ["A"]
    assert await found(ann, "syncState=draft") == ["B", "D"]
    assert await found(ann, "syncState=committed") == ["C"]
    assert await found(ann, "syncState=draft,committed") == ["B", "C", "D"]
    assert await found(ann, "syncState=draft&syncState=pristine") == ["A", "B", "D"]
    assert await found(ann, "syncState=conflict") == []
    assert await found(ann, "syncState=draft&category=Pumps") == ["D"]
    assert await found(ann, "syncState=draft&equipment[isnull]=true&sort=-equipment") == ["B", "D"]
    assert await found(ann, "syncState=pristine,draft&category=Cranes") == ["A", "B"]
    assert await found(bob, "syncState=pristine") == ["A", "B", "C", "D", "E"]


async def test_the_answer_repeats_its_filters_as_they_were_understood(world: World, ann: User) -> None:
    filters = "category=Cranes&category=Pumps&monthlyRate[gte]=10&search=x&syncState=draft"
    response = await ann.get(f"rows?{filters}&sort=id&page=1&pageSize=5&count=none")
    assert response.json()["metadata"]["filters"] == {
        "category": ["Cranes", "Pumps"],
        "monthlyRate[gte]": "10",
        "search": "x",
        "syncState": "draft",
    }


PFA_REFUSALS = {
    "nothing=1": "nothing",
    "Category=x": "Category",
    "category[like]=x": "category[like]",
    "category[eq]=x": "category[eq]",
    "category[]=x": "category[]",
    "category[ne=x": "category[ne",
    "category[ne];--=x": "category[ne];--",
    "monthlyRate=ten": "monthlyRate",
    "monthlyRate=": "monthlyRate",
    "monthlyRate=NaN": "monthlyRate",
    "monthlyRate=Infinity": "monthlyRate",
    "monthlyRate=1e999999": "monthlyRate",
    "monthlyRate=1_000": "monthlyRate",
    "monthlyRate=%2010": "monthlyRate",
    "monthlyRate=%D9%A3": "monthlyRate",
    "monthlyRate[in]=1,x": "monthlyRate[in]",
    "monthlyRate[contains]=1": "monthlyRate[contains]",
    "forecastStart=2026-02-30": "forecastStart",
    "forecastStart=tomorrow": "forecastStart",
    "forecastStart=2026-1-1": "forecastStart",
    "forecastStart=20260101": "forecastStart",
    "forecastStart[startswith]=2026": "forecastStart[startswith]",
    "isActualized=yes": "isActualized",
    "isActualized=": "isActualized",
    "isActualized=1": "isActualized",
    "isActualized[gt]=false": "isActualized[gt]",
    "source=Lease": "source",
    "source=": "source",
    "source=rental": "source",
    "source=Rental&source=Lease": "source",
    "source[in]=Rental,Lease": "source[in]",
    "source[in]=Rental, Purchase": "source[in]",
    "source[in]=": "source[in]",
    "source[nin]=Lease": "source[nin]",
    "source[ne]=Lease": "source[ne]",
    "source[ne]=Rental&source[ne]=Lease": "source[ne]",
    "category[isnull]=maybe": "category[isnull]",
    "category[isnull]=": "category[isnull]",
    "category[gt]=a&category[gt]=b": "category[gt]",
    "category=a%00b": "category",
    "search=a%1Fb": "search",
    "search=a&search=b": "search",
    "category[in]=" + ",".join("x" * 2001): "category[in]",
    "syncState=lost": "syncState",
    "sort=nothing": "sort",
    "sort=category,-category": "sort",
    "sort=category;DROP": "sort",
    "sort=category,class,source,dor,model,areaSilo": "sort",
    "sort=category&sortBy=class": "sortBy",
    "sortBy=nothing": "sortBy",
    "sortBy=class&sortOrder=up": "sortOrder",
    "sortOrder=desc": "sortOrder",
    "sort=class&sortOrder=desc": "sortOrder",
    "page=0": "page",
    "page=-1": "page",
    "page=one": "page",
    "page=1&page=2": "page",
    "page=%D9%A3": "page",
    "page=10002&pageSize=1000": "page",
    "pageSize=0": "pageSize",
    "pageSize=1001": "pageSize",
    "page=1&after=x": "page",
    "count=maybe": "count",
    "fields=category,nothing": "fields",
    "fields=id": "fields",
    "include=everything": "include",
}


async def test_what_cannot_be_understood_is_refused_by_its_name(world: World, ann: User) -> None:
    for query, parameter in PFA_REFUSALS.items():
        problem = refused(await ann.get(f"rows?{query}"), 400, "INVALID_FILTER")
        assert [error["parameter"] for error in problem["errors"]] == [parameter], query
        assert problem["detail"].startswith(f"{parameter}: "), query
    fleet = {
        "seats=1.5": "seats",
        "seats=99999999999999999999": "seats",
        "kind=Plane": "kind",
        "kind[in]=Van,Plane": "kind[in]",
        "category=Cranes": "category",
    }
    for query, parameter in fleet.items():
        problem = refused(await ann.on("fleet").get(f"rows?{query}"), 400, "INVALID_FILTER")
        assert [error["parameter"] for error in problem["errors"]] == [parameter], query
    refused(await ann.get("rows?" + "&".join(f"category={n}" for n in range(201))), 400, "INVALID_FILTER")
    refused(await raw(ann, "category=%FF"), 400, "INVALID_FILTER")


async def raw(user: User, query: str) -> httpx.Response:
    """A query string that goes out byte by byte."""
    url = httpx.URL("http://vanguard.test/api/v1/orgs/acme/datasets/pfa/rows", query=query.encode())
    return await user.world.http.get(url, headers={"Authorization": f"Bearer {user.token}"})


async def test_a_filter_is_data_and_never_sql(world: World, ann: User) -> None:
    nasty = "x' OR '1'='1"
    await world.mirror({"A": line(category=nasty, equipment=nasty), "B": line()})
    for field in ("category", "equipment"):
        for op in ("", "[in]", "[contains]", "[startswith]"):
            assert ids(await ann.rows(**{f"{field}{op}": nasty})) == ["A"]
    assert ids(await ann.rows(search=nasty)) == ["A"]


def test_a_listing_is_read_into_typed_values() -> None:
    listing = read_listing(
        PFA, [("monthlyRate[lt]", "1.50"), ("forecastStart", "2026-02-01"), ("isActualized[ne]", "true")]
    )
    assert [condition.value for condition in listing.conditions] == [Decimal("1.50"), datetime.date(2026, 2, 1), True]
    assert listing.page_size == 100
    with pytest.raises(InvalidFilter):
        read_listing(PFA, [("monthlyRate", "x")])
