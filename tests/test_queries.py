"""Questions over many datasets: what they are answered, what they are refused, and what is told before they are run."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.base import exact_json
from app.web.auth import Role
from tests.support.ingesting import ingested, people_of
from tests.support.joining import stored, table
from tests.support.own import customers, moved, registered
from tests.support.querying import answered, executed, join, path, previewed, refused_preview, rows
from tests.support.world import FLEET, User, World, open_world, refused, vehicle, written

COUNT = {"name": "n", "function": "count"}


def total(field: str, name: str = "total", function: str = "sum") -> dict[str, Any]:
    return {"name": name, "function": function, "field": field}


@pytest.fixture
async def fleet(world: World) -> World:
    """Four vehicles of two depots."""
    await world.mirror(
        {
            "A": vehicle(depot="Rio", kind="Van", seats=2, mileage=100),
            "B": vehicle(depot="Rio", kind="Bus", seats=50, mileage=Decimal("10.50")),
            "C": vehicle(depot="Lima", kind="Van", seats=3, mileage=7),
            "D": vehicle(depot=None, kind="Van", seats=None, mileage=None),
        },
        contract=FLEET,
    )
    return world


def depots(**more: Any) -> dict[str, Any]:
    """A dataset that vehicles belong to: its key is the depot's name."""
    contract = customers(
        name="depots",
        key="name",
        fields=[
            {"name": "name", "type": "text", "editable": False},
            {"name": "country", "type": "text", "indexed": True},
            {"name": "code", "type": "text"},
            {"name": "area", "type": "number"},
        ],
        hot=[],
        measures=[],
    )
    contract["ingestion"] = contract["ingestion"] | {"idempotencyKey": ["name"]}
    return contract | more


@pytest.fixture
async def people(fleet: World) -> dict[str, User]:
    """Somebody in each role, on the fleet and its depots, which are joined."""
    people = await people_of(fleet)
    await registered(people["ENGINEER"], depots())
    await moved(people["ADMIN"].on("depots"), "promote")
    await ingested(
        people["ENGINEER"].on("depots"),
        {"name": "Rio", "country": "Brazil", "code": "R", "area": 10},
        {"name": "Lima", "country": "Peru", "code": "L", "area": 20},
        {"name": "Oslo", "country": "Norway", "code": "O", "area": 40},
    )
    await join(fleet, "fleet.depot", "depots.name")
    return people


# -- rows and figures of one dataset -----------------------------------------------------------------------------------


async def test_rows_are_the_callers(fleet: World, ann: User, bob: User) -> None:
    await ann.on("fleet").draft("A", {"mileage": 1})
    await ann.on("fleet").draft("C", op="delete")
    await ann.on("fleet").draft("E", {"depot": "Oslo", "kind": "Van"}, op="insert")
    query = {"dataset": "fleet", "fields": ["id", "mileage"], "order": ["-mileage"]}
    assert await rows(ann, query) == [["D", None], ["E", None], ["B", Decimal("10.5")], ["A", 1]]
    assert await rows(bob, query) == [["D", None], ["A", 100], ["B", Decimal("10.5")], ["C", 7]]


async def test_a_dataset_alone_is_all_of_its_rows(fleet: World, ann: User) -> None:
    answer = await answered(ann, {"dataset": "fleet"})
    assert [column["name"] for column in answer["columns"]] == ["id", *FLEET.by_name]
    assert (answer["rows"], answer["truncated"]) == (4, False)
    assert answer["data"][0]["plate"] == "A"


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"depot": "Rio"}, "AB"),
        ({"depot": ["Rio", "Lima"]}, "ABC"),
        ({"depot": None}, "D"),
        ({"depot": {"ne": "Rio"}}, "CD"),
        ({"mileage": {"gte": 7, "lt": 100}}, "BC"),
        ({"depot": "Rio", "kind": "Van"}, "A"),
        ({"or": [{"depot": "Lima"}, {"kind": "Bus"}]}, "BC"),
        ({"or": [{"depot": "Lima"}, {"depot": "Rio", "or": [{"seats": 2}, {"seats": 3}]}]}, "AC"),
        ({"not": {"depot": "Rio"}}, "CD"),
        ({"not": {"or": [{"depot": "Rio"}, {"seats": {"isnull": True}}]}}, "C"),
        ({"and": [{"kind": "Van"}, {"kind": {"ne": "Bus"}}]}, "ACD"),
        ({"depot": {"contains": "I"}}, "ABC"),
        ({"fleet.depot": {"startswith": "li"}}, "C"),
        ({"id": ["A", "X"]}, "A"),
        ({"remark": {"isnull": True}, "seenAt": {"isnull": True}}, "ABCD"),
    ],
)
async def test_filters_are_nested(fleet: World, ann: User, filters: dict[str, Any], found: str) -> None:
    assert [key for (key,) in await rows(ann, {"dataset": "fleet", "fields": ["id"], "filters": filters})] == [*found]


async def test_figures_by_groups(fleet: World, ann: User) -> None:
    query = {
        "dataset": "fleet",
        "groupBy": ["depot"],
        "aggregates": [
            COUNT,
            total("seats"),
            total("mileage", "average", "average"),
            total("kind", "kinds", "countDistinct"),
            total("mileage", "least", "min"),
            total("seats", "known", "count"),
        ],
        "order": ["-n"],
    }
    assert await rows(ann, query) == [
        ["Rio", 2, 52, Decimal("55.25"), 2, Decimal("10.5"), 2],
        ["Lima", 1, 3, 7, 1, 7, 1],
        [None, 1, None, None, 1, None, 0],
    ]


async def test_figures_of_nothing_are_one_row(fleet: World, ann: User) -> None:
    query = {"dataset": "fleet", "aggregates": [COUNT, total("seats")], "filters": {"depot": "Oslo"}}
    assert await rows(ann, query) == [[0, None]]


async def test_an_average_is_rounded_half_away_from_zero(world: World, ann: User) -> None:
    values = [Decimal("0.000001"), Decimal(0)]  # half of a millionth
    await world.mirror({str(n): vehicle(mileage=value) for n, value in enumerate(values)}, contract=FLEET)
    query = {"dataset": "fleet", "aggregates": [total("mileage", "average", "average")]}
    assert await rows(ann, query) == [[Decimal("0.000001")]]


# -- joins -------------------------------------------------------------------------------------------------------------


async def test_a_join_to_one_adds_columns(people: dict[str, User]) -> None:
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots"}],
        "fields": ["id", "depots.country"],
        "order": ["depots.country", "-id"],
    }
    assert await rows(people["VIEWER"], query) == [["B", "Brazil"], ["A", "Brazil"], ["C", "Peru"], ["D", None]]
    inner = query | {"joins": [{"dataset": "depots", "type": "inner"}]}
    assert [key for key, _ in await rows(people["VIEWER"], inner)] == ["B", "A", "C"]


async def test_both_sides_of_a_join_are_merged(people: dict[str, User]) -> None:
    ann = people["ANALYST"]
    await ann.on("depots").draft("Rio", {"country": "Brasil"})
    await ann.on("fleet").draft("D", {"depot": "Oslo"})
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots", "as": "at"}],
        "groupBy": ["at.country"],
        "aggregates": [COUNT],
    }
    assert await rows(ann, query) == [["Brasil", 2], ["Norway", 1], ["Peru", 1]]
    assert await rows(people["VIEWER"], query) == [["Brazil", 2], ["Peru", 1], [None, 1]]


async def test_no_sum_is_multiplied_by_a_join_to_many(people: dict[str, User]) -> None:
    """Given depots with several vehicles each, when areas and seats are summed, then each depot's area counts once."""
    alone = {"dataset": "depots", "aggregates": [total("area"), COUNT]}
    query = {
        "dataset": "depots",
        "joins": [{"dataset": "fleet", "as": "v"}],
        "aggregates": [
            total("area"),
            COUNT,
            total("v.seats", "seats"),
            total("v.id", "vehicles", "count"),
            total("v.mileage", "average", "average"),
            total("v.mileage", "most", "max"),
        ],
    }
    assert await rows(people["VIEWER"], alone) == [[70, 3]]
    assert await rows(people["VIEWER"], query) == [[70, 3, 55, 3, Decimal("39.166667"), 100]]
    by_country = query | {"groupBy": ["country"], "filters": {"v.kind": "Van"}}
    assert [row[:5] for row in await rows(people["VIEWER"], by_country)] == [
        ["Brazil", 10, 1, 2, 1],
        ["Norway", 40, 1, None, 0],
        ["Peru", 20, 1, 3, 1],
    ]
    inner = by_country | {"joins": [{"dataset": "fleet", "as": "v", "type": "inner"}]}
    assert [row[0] for row in await rows(people["VIEWER"], inner)] == ["Brazil", "Peru"]


async def test_a_listing_to_many_has_a_row_for_each(people: dict[str, User]) -> None:
    query = {
        "dataset": "depots",
        "joins": [{"dataset": "fleet", "as": "v"}],
        "fields": ["name", "v.id"],
        "filters": {"country": ["Brazil", "Norway"]},
    }
    assert await rows(people["VIEWER"], query) == [["Oslo", None], ["Rio", "A"], ["Rio", "B"]]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"dataset": "fleet", "aggregates": [total("d.area")]}, "could belong|can belong"),
        ({"dataset": "fleet", "aggregates": [total("d.area", function="average")]}, "can belong"),
        ({"dataset": "fleet", "aggregates": [total("d.name", function="count")]}, "can belong"),
        ({"dataset": "depots", "groupBy": ["v.kind"], "aggregates": [COUNT]}, "ask about v"),
        ({"dataset": "depots", "aggregates": [total("v.kind", function="countDistinct")]}, "Ask about v"),
    ],
)
async def test_a_figure_that_would_be_multiplied_is_refused(
    people: dict[str, User], query: dict[str, Any], says: str
) -> None:
    other = {"dataset": "depots", "as": "d"} if query["dataset"] == "fleet" else {"dataset": "fleet", "as": "v"}
    problem = await refused_preview(people["VIEWER"], query | {"joins": [other]}, 422, "FAN_OUT")
    assert any(each in problem["detail"] for each in says.split("|")), problem["detail"]


async def test_least_greatest_and_different_values_cannot_be_multiplied(people: dict[str, User]) -> None:
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots", "as": "d"}],
        "aggregates": [
            total("d.area", "least", "min"),
            total("d.area", "most", "max"),
            total("d.country", "countries", "countDistinct"),
        ],
    }
    assert await rows(people["VIEWER"], query) == [[10, 20, 2]]


async def test_a_parent_that_is_not_unique_in_the_callers_view_is_refused(
    people: dict[str, User], fleet: World
) -> None:
    """Given a join by a field that is no key, when somebody's draft gives two rows the same value, then theirs is
    refused, and everybody else's is answered.
    """
    await join(fleet, "fleet.kind", "depots.code")
    await people["ADMIN"].on("depots").draft("Rio", {"code": "Van"})
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots", "join": await _last_join(fleet)}],
        "aggregates": [COUNT, total("seats")],
    }
    assert await rows(people["ADMIN"], query) == [[4, 55]]
    ann = people["ANALYST"]
    await ann.on("depots").draft("Rio", {"code": "Van"})
    await ann.on("depots").draft("Lima", {"code": "Van"})
    preview = await previewed(ann, query)
    problem = refused(await executed(ann, preview), 422, "NOT_UNIQUE")
    assert "code = Van" in problem["detail"]
    assert await rows(people["VIEWER"], query) == [[4, 55]]


async def _last_join(world: World) -> str:
    return str(await world.db.fetchval("SELECT id FROM dataset_join ORDER BY accepted_at DESC LIMIT 1"))


async def test_two_joins_between_the_same_are_told_apart_by_the_question(people: dict[str, User], fleet: World) -> None:
    second = await join(fleet, "fleet.remark", "depots.name")
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}
    problem = await refused_preview(people["VIEWER"], query, 422, "AMBIGUOUS_JOIN")
    assert second in problem["detail"]
    assert "fleet.depot = depots.name" in problem["detail"]
    named = query | {"joins": [{"dataset": "depots", "join": second}]}
    assert await rows(people["VIEWER"], named) == [[4]]


async def test_a_deprecated_join_is_in_no_question(people: dict[str, User], fleet: World) -> None:
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}
    preview = await previewed(people["VIEWER"], query)
    await fleet.db.execute("UPDATE dataset_join SET state = 'deprecated', deprecated_at = now()")
    problem = refused(await executed(people["VIEWER"], preview), 409, "PREVIEW_STALE")
    assert "Preview it again" in problem["detail"]
    problem = await refused_preview(people["VIEWER"], query, 422, "INVALID_QUERY")
    assert "nobody has accepted a join" in problem["detail"]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ({"dataset": "fleet", "fields": ["nope"]}, "fields[0]"),
        ({"dataset": "fleet", "fields": ['x" FROM pg_authid --']}, "fields[0]"),
        ({"dataset": "fleet", "fields": ["other.depot"]}, "fields[0]"),
        ({"dataset": "fleet", "fields": ["id", "id"]}, "fields"),
        ({"dataset": "fleet", "filters": {"nope": 1}}, "filters.nope"),
        ({"dataset": "fleet", "filters": {"or": []}}, "filters.or"),
        ({"dataset": "fleet", "filters": {"or": [{}]}}, "filters.or[0]"),
        ({"dataset": "fleet", "filters": {"or": {"depot": "Rio"}}}, "filters.or"),
        ({"dataset": "fleet", "filters": {"not": [{"depot": "Rio"}]}}, "filters.not"),
        ({"dataset": "fleet", "filters": {"seats": "many"}}, "filters.seats"),
        ({"dataset": "fleet", "filters": {"seats": {"within": 1}}}, "filters.seats.within"),
        ({"dataset": "fleet", "filters": {"seats": {"eq]": 1}}}, "filters.seats"),
        ({"dataset": "fleet", "filters": {"seats": {}}}, "filters.seats"),
        ({"dataset": "fleet", "filters": {"seats": {"in": []}}}, "filters.seats.in"),
        ({"dataset": "fleet", "filters": {"kind": "Plane"}}, "filters.kind"),
        ({"dataset": "fleet", "filters": {"depot": {"gt": None}}}, "filters.depot.gt"),
        ({"dataset": "fleet", "filters": {"inService": {"gt": True}}}, "filters.inService.gt"),
        ({"dataset": "fleet", "filters": {"depot": "a\0b"}}, "filters.depot"),
        ({"dataset": "fleet", "aggregates": [total("depot")]}, "aggregates[0].function"),
        ({"dataset": "fleet", "aggregates": [total("inService", function="max")]}, "aggregates[0].function"),
        ({"dataset": "fleet", "aggregates": [{"name": "s", "function": "sum"}]}, "aggregates[0].field"),
        ({"dataset": "fleet", "aggregates": [COUNT, COUNT]}, "aggregates"),
        ({"dataset": "fleet", "aggregates": [COUNT | {"name": "depot"}], "groupBy": ["depot"]}, "aggregates"),
        ({"dataset": "fleet", "groupBy": ["depot"]}, "groupBy"),
        ({"dataset": "fleet", "aggregates": [COUNT], "order": ["depot"]}, "order[0]"),
        ({"dataset": "fleet", "order": ["--depot"]}, "order[0]"),
        ({"dataset": "fleet", "limit": 100_001}, "limit"),
        ({"dataset": "fleet", "joins": [{"dataset": "pfa"}]}, "joins[0].dataset"),
        ({"dataset": "fleet", "joins": [{"dataset": "fleet"}]}, "joins[0].as"),
        ({"dataset": "fleet", "joins": [{"dataset": "depots", "from": "x"}]}, "joins[0].from"),
        ({"dataset": "fleet", "joins": [{"dataset": "depots", "join": "x"}]}, "joins[0].join"),
    ],
)
async def test_what_cannot_be_asked_is_told_at_its_place(
    people: dict[str, User], query: dict[str, Any], where: str
) -> None:
    problem = await refused_preview(people["VIEWER"], query, 422, "INVALID_QUERY")
    assert problem["errors"][0]["field"] == where, problem
    assert problem["detail"].startswith(f"{where}: ")


async def test_a_field_beside_aggregates_is_one_of_the_groups(fleet: World, ann: User) -> None:
    query = {"dataset": "fleet", "fields": ["kind"], "aggregates": [COUNT], "groupBy": ["depot"]}
    problem = await refused_preview(ann, query, 422, "GROUP_BY_MISSING")
    assert "kind" in problem["detail"]
    assert await rows(ann, query | {"fields": ["depot"]}) == [["Lima", 1], ["Rio", 2], [None, 1]]
    for field, group in (("fleet.depot", "depot"), ("depot", "fleet.depot")):
        written_so = query | {"fields": [field], "groupBy": [group]}
        assert await rows(ann, written_so) == [["Lima", 1], ["Rio", 2], [None, 1]]


async def test_conditions_have_a_bound(fleet: World, ann: User) -> None:
    many = {"or": [{"seats": n} for n in range(41)]}
    assert (
        "VANGUARD_MAX_CONDITIONS"
        in (await refused_preview(ann, {"dataset": "fleet", "filters": many}, 422, "INVALID_QUERY"))["detail"]
    )
    values = {"seats": list(range(2001))}
    assert (
        "VANGUARD_MAX_VALUES"
        in (await refused_preview(ann, {"dataset": "fleet", "filters": values}, 422, "INVALID_QUERY"))["detail"]
    )
    deep: dict[str, Any] = {"seats": 1}
    for _ in range(11):
        deep = {"not": deep}
    assert "deep" in (await refused_preview(ann, {"dataset": "fleet", "filters": deep}, 422, "INVALID_QUERY"))["detail"]


async def test_a_condition_of_many_rows_stands_by_itself(people: dict[str, User]) -> None:
    query = {
        "dataset": "depots",
        "joins": [{"dataset": "fleet", "as": "v"}],
        "aggregates": [COUNT],
        "filters": {"or": [{"country": "Peru"}, {"v.kind": "Bus"}]},
    }
    problem = await refused_preview(people["VIEWER"], query, 422, "INVALID_QUERY")
    assert "v stands by itself" in problem["detail"]


async def test_a_dataset_that_cannot_be_queried_is_unknown(people: dict[str, User], fleet: World) -> None:
    await refused_preview(people["ADMIN"], {"dataset": "nope"}, 404, "DATASET_NOT_FOUND")
    await fleet.organization("other")
    stranger = await fleet.user("eve", "other", Role.ADMIN)
    await refused_preview(stranger, {"dataset": "depots"}, 404, "DATASET_NOT_FOUND")
    less = depots(version="2.0")
    await registered(people["ENGINEER"], less | {"fields": less["fields"][:3]})
    await refused_preview(people["ADMIN"], {"dataset": "depots@2"}, 404, "DATASET_NOT_FOUND")
    await moved(people["ADMIN"].on("depots"), "deprecate")
    await refused_preview(people["ADMIN"], {"dataset": "depots"}, 404, "DATASET_NOT_FOUND")


async def test_a_deprecated_version_is_asked_for_by_its_number(people: dict[str, User]) -> None:
    await moved(people["ADMIN"].on("depots"), "deprecate")
    assert await rows(people["VIEWER"], {"dataset": "depots@1", "aggregates": [COUNT]}) == [[3]]


# -- previews ----------------------------------------------------------------------------------------------------------


async def test_a_preview_says_what_would_be_done(people: dict[str, User]) -> None:
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots"}],
        "filters": {"kind": "Van"},
        "groupBy": ["depots.country"],
        "aggregates": [total("mileage", "miles", "average")],
    }
    preview = await previewed(people["VIEWER"], query)
    assert preview["sql"].startswith("SELECT")
    assert "'Van'" not in preview["sql"]
    assert [(table["dataset"], table["state"]) for table in preview["tables"]] == [
        ("fleet", "ACTIVE"), ("depots", "ACTIVE"),
    ]  # fmt: skip
    (used,) = preview["joins"]
    assert (used["condition"], used["cardinality"], used["type"]) == ("fleet.depot = depots.name", "to-one", "left")
    assert preview["filters"] == ['kind = "Van"']
    assert preview["aggregations"] == ["miles: average of mileage, of each row of fleet once"]
    assert any("6 decimals" in each for each in preview["assumptions"])
    assert preview["confidence"] == Decimal("0.9")
    assert preview["estimated"]["rows"] > 0
    assert preview["estimated"]["cost"] > 0
    assert (preview["warnings"], preview["requiresOverride"]) == ([], False)


async def test_drafts_do_not_make_a_join_look_dear(people: dict[str, User]) -> None:
    """The planner has no statistics of merged rows to weigh a join by; the mirrors' are near."""
    ann = people["ANALYST"]
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "groupBy": ["depots.country"], "aggregates": [COUNT]}
    before = await previewed(ann, query)
    await ann.on("fleet").draft("A", {"depot": "Lima"})
    after = await previewed(ann, query)
    assert after["sql"] != before["sql"]
    assert after["estimated"] == before["estimated"]
    assert await rows(ann, query) == [["Brazil", 1], ["Peru", 2], [None, 1]]


async def test_normal_forms_have_the_same_digest(people: dict[str, User]) -> None:
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots"}],
        "filters": {"depots.country": ["Peru", "Brazil"], "kind": {"eq": "Van"}, "seats": {"gte": 1, "lt": 9}},
        "groupBy": ["depot"],
        "aggregates": [COUNT],
    }
    viewer = people["VIEWER"]
    preview = await previewed(viewer, query)
    again = await previewed(viewer, preview["query"])
    said = await previewed(viewer, preview["sentence"])
    assert again["query"] == said["query"] == preview["query"]
    assert again["digest"] == said["digest"] == preview["digest"]
    assert again["sentence"] == said["sentence"] == preview["sentence"]
    filters: Any = query["filters"]
    turned = query | {"filters": dict(reversed(filters.items()))}
    assert (await previewed(viewer, turned))["digest"] == preview["digest"]
    other = await previewed(viewer, query | {"limit": 5})
    assert other["digest"] != preview["digest"]


async def test_a_preview_is_run_by_its_id_and_digest_alone(people: dict[str, User], fleet: World) -> None:
    viewer, query = people["VIEWER"], {"dataset": "fleet", "aggregates": [COUNT]}
    preview = await previewed(viewer, query)
    refused(await executed(viewer, preview, digest="0" * 64), 409, "PREVIEW_STALE")
    refused(await executed(viewer, preview, previewId="7c9e6679-7425-40de-944b-e07fc1f90ae7"), 404, "PREVIEW_NOT_FOUND")
    refused(await executed(viewer, preview, previewId="x"), 404, "PREVIEW_NOT_FOUND")
    refused(await executed(viewer, preview, digest="x" * 64), 409, "PREVIEW_STALE")
    refused(await executed(viewer, preview, digest="x" * 65), 400, "MALFORMED_REQUEST")
    refused(await executed(people["ADMIN"], preview), 404, "PREVIEW_NOT_FOUND")
    assert (await executed(viewer, preview)).status_code == 200
    assert (await executed(viewer, preview)).status_code == 200
    fleet.clock.move(minutes=15)
    refused(await executed(viewer, preview), 410, "PREVIEW_EXPIRED")


async def test_a_preview_of_another_version_is_stale(people: dict[str, User]) -> None:
    query = {"dataset": "depots", "aggregates": [COUNT]}
    preview = await previewed(people["VIEWER"], query)
    more = depots(version="1.1")
    more["fields"] = [*more["fields"], {"name": "email", "type": "text"}]
    await registered(people["ENGINEER"], more)
    refused(await executed(people["VIEWER"], preview), 409, "PREVIEW_STALE")
    assert await rows(people["VIEWER"], query) == [[3]]


async def test_previews_have_a_quota(fleet: World, ann: User, bob: User) -> None:
    query = {"dataset": "fleet", "aggregates": [COUNT]}
    await fleet.db.execute(
        "INSERT INTO query_preview"
        " SELECT 'acme', gen_random_uuid(), 'ann', '{}', NULL, '', now(), $1::timestamptz FROM generate_series(1, 200)",
        fleet.clock() + timedelta(minutes=1),
    )
    problem = await refused_preview(ann, query, 409, "QUOTA_EXCEEDED")
    assert "VANGUARD_MAX_PREVIEWS" in problem["detail"]
    assert await rows(bob, query) == [[4]]
    fleet.clock.move(minutes=2)
    assert await rows(ann, query) == [[4]]


async def test_the_same_key_makes_one_preview(fleet: World, ann: User) -> None:
    body = {"query": {"dataset": "fleet", "aggregates": [COUNT]}}
    headers = {"Idempotency-Key": "k"}
    first, second = [written(await ann.post(path(ann, "preview"), body, headers=headers)) for _ in range(2)]
    assert first == second
    assert await fleet.db.fetchval("SELECT count(*) FROM query_preview") == 1


async def test_a_key_repeats_the_first_answer_whatever_the_question_comes_to_by_now(
    people: dict[str, User], fleet: World
) -> None:
    """A preview, a correction of it, and a refusal."""
    ann, keys = people["ANALYST"], [{"Idempotency-Key": each} for each in ("preview", "correction", "refusal")]
    rest = ["preview", "correct", "preview"]

    async def sent(place: int, body: dict[str, Any]) -> Any:
        return await ann.post(path(ann, rest[place]), body, headers=keys[place])

    asked = {"query": {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}}
    preview = await sent(0, asked)
    inner = {"as": "depots", "type": "inner"}
    meant = {"previewId": written(preview)["previewId"], "type": "JOIN_TYPE", "correction": inner}
    correction = await sent(1, meant)
    assert written(correction)["query"]["joins"][0]["type"] == "inner"
    unknown = {"query": {"dataset": "places"}}
    refusal = await sent(2, unknown)
    refused(refusal, 404, "DATASET_NOT_FOUND")

    await fleet.db.execute("UPDATE dataset_join SET state = 'deprecated', deprecated_at = now()")
    await registered(people["ENGINEER"], depots(name="places"))
    await moved(people["ADMIN"].on("places"), "promote")
    fleet.clock.move(minutes=20)
    for place, (body, answer) in enumerate([(asked, preview), (meant, correction), (unknown, refusal)]):
        assert (await sent(place, body)).content == answer.content
        other = body | ({"correction": {}} if "correction" in body else {"query": {"dataset": "fleet"}})
        refused(await sent(place, other), 422, "IDEMPOTENCY_KEY_REUSED")


async def test_validation_tells_what_is_wrong_and_keeps_nothing(fleet: World, ann: User) -> None:
    async def validated(query: Any) -> dict[str, Any]:
        response = await ann.post(path(ann, "validate"), {"query": query})
        assert response.status_code == 200, response.text
        found: dict[str, Any] = exact_json.decode(response.content)
        return found

    assert await validated({"dataset": "fleet"}) == {"valid": True, "warnings": [], "errors": []}
    wrong = await validated({"dataset": "fleet", "fields": ["nope"]})
    assert (wrong["valid"], wrong["errors"][0]["field"]) == (False, "fields[0]")
    several = await validated(
        {
            "dataset": "fleet",
            "groupBy": ["kind", "colour"],
            "filters": {"seats": "many", "not": {"wheels": 4}, "kind": "Van"},
            "aggregates": [{"name": "depots", "function": "sum", "field": "depot"}],
            "order": ["nothing"],
        }
    )
    assert [error["field"] for error in several["errors"]] == [
        "aggregates[0].function", "groupBy[1]", "filters.seats", "filters.not.wheels"
    ]  # fmt: skip
    many = await validated({"dataset": "fleet", "fields": [f"f{number}" for number in range(50)]})
    assert len(many["errors"]) == 20
    ambiguous = await validated("how many are there of anything at all")
    assert (ambiguous["valid"], len(ambiguous["errors"])) == (False, 1)
    (unknown,) = (await validated("total seets of fleet"))["errors"]
    assert (unknown["code"], unknown["word"], unknown["place"]) == ("UNKNOWN_WORD", "seets", 6)
    assert "seats" in unknown["candidates"]
    assert await fleet.db.fetchval("SELECT count(*) FROM query_preview") == 0


# -- sentences ---------------------------------------------------------------------------------------------------------


async def test_a_sentence_is_a_question(people: dict[str, User]) -> None:
    preview = await previewed(people["VIEWER"], "top 2 depots by total seats of fleet where kind is van")
    assert preview["query"] == {
        "dataset": "fleet",
        "filters": {"kind": "Van", "seats": {"isnull": False}},
        "groupBy": ["depot"],
        "aggregates": [{"name": "sumSeats", "function": "sum", "field": "seats"}],
        "order": ["-sumSeats"],
        "limit": 2,
    }
    response = await executed(people["VIEWER"], preview, format="csv")
    assert response.text == "depot,sumSeats\r\nLima,3\r\nRio,2\r\n"


async def test_what_has_no_value_is_not_ranked(ann: User, people: dict[str, User]) -> None:
    """Given a row without a value, then top and bottom leave it out, also where it is the only one of its group."""
    assert await rows(ann, "top 1 fleet by mileage") == await rows(ann, {"dataset": "fleet", "filters": {"id": "A"}})
    assert len(await rows(ann, "bottom 4 fleet by mileage")) == 3
    await ann.on("fleet").draft("E", {"kind": "Bus"}, op="insert")
    assert await rows(ann, "top 9 depots by total mileage of fleet") == [["Rio", Decimal("110.5")], ["Lima", 7]]
    assert await rows(ann, "top 2 depots by number of rows of fleet") == [["Rio", 2], [None, 2]]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("top 2 fleet by mileage", False),
        ("top 2 depots by total mileage of fleet", False),
        ("top 2 depots by number of rows of fleet", False),
        ("list depot of fleet ordered by mileage", False),
        ("list depot of fleet ordered by id descending", False),
        ("list depot of fleet where mileage above 5 ordered by mileage descending", False),
        ("list depot of fleet where mileage is not 5 ordered by mileage descending", True),
        ("list depot of fleet where mileage is empty ordered by mileage descending", True),
        ("list depot of fleet ordered by mileage descending", True),
        ("top 2 depots by total mileage and number of rows of fleet", True),
        ("top 2 countries of depots by total fleet.mileage with fleet where fleet.mileage is not empty", True),
    ],
)
async def test_a_preview_says_where_what_has_no_value_comes_first(
    people: dict[str, User], query: str, told: bool
) -> None:
    found = (await previewed(people["ANALYST"], query))["assumptions"]
    assert any(each.startswith("The order is descending: what has no value of ") for each in found) == told


async def test_the_sentence_of_a_preview_is_no_other_datasets(people: dict[str, User]) -> None:
    """Given two datasets that are called alike but for what does not count, then each is said so that it is the one."""
    analyst = people["ANALYST"]
    for name in ("ab", "a_b"):
        await stored(people, table(name, "nr", "nr integer"), [{"nr": 1}])
    for name in ("ab", "a_b"):
        preview = await previewed(analyst, {"dataset": name, "fields": ["nr"]})
        assert preview["sentence"] == f'list nr of "{name}" limit 100000'
        assert (await previewed(analyst, preview["sentence"]))["digest"] == preview["digest"]


async def test_words_are_matched_against_all_values_of_the_callers_view(world: World, ann: User, bob: User) -> None:
    """Given a word for a value, when one value is called so, whatever the case, then it is meant; none and several are
    asked back, with what there is.
    """
    await world.mirror(
        {
            "A": vehicle(depot="Rio", remark="broken Mirror"),
            "B": vehicle(depot="Lima", remark="Mirror"),
            "C": vehicle(depot="lima", remark="MIRROR broken"),
        },
        contract=FLEET,
    )
    sentence = "number of fleet where {}"

    async def filters(user: User, words: str) -> Any:
        return (await previewed(user, sentence.format(words)))["query"]["filters"]

    assert await filters(ann, "depot is rio") == {"depot": "Rio"}
    assert await filters(ann, "depot is Lima") == {"depot": "Lima"}
    several = await refused_preview(ann, sentence.format("depot is LIMA"), 422, "AMBIGUOUS_QUERY")
    assert several["candidates"] == ["Lima", "lima"]
    none = await refused_preview(ann, sentence.format("depot is Limo"), 422, "UNKNOWN_WORD")
    assert set(none["candidates"]) == {"Lima", "lima", "Rio"}
    assert await filters(ann, 'depot is "Limo"') == {"depot": "Limo"}
    # A text that is no dimension: found by the search, in the mirror and in drafts.
    assert await filters(ann, "remark is mirror") == {"remark": "Mirror"}
    none = await refused_preview(ann, sentence.format("remark is broken"), 422, "UNKNOWN_WORD")
    assert none["candidates"] == ["MIRROR broken", "broken Mirror"]
    await ann.on("fleet").draft("B", {"depot": "Oslo", "remark": "new"})
    assert await filters(ann, "depot is oslo and remark is NEW") == {"depot": "Oslo", "remark": "new"}
    await refused_preview(bob, sentence.format("depot is oslo"), 422, "UNKNOWN_WORD")
    await refused_preview(ann, sentence.format("remark is mirror"), 422, "UNKNOWN_WORD")


async def test_a_word_for_an_id_is_the_id_itself(fleet: World, ann: User, bob: User) -> None:
    """Given a word for an id, then it is meant if a row of the view is called just so, were it a draft's."""
    await ann.on("fleet").draft("Z 1~2", {"kind": "Van"}, op="insert")
    await ann.on("fleet").draft("A", op="delete")

    async def filters(user: User, word: str) -> Any:
        return (await previewed(user, f"list depot of fleet where id is {word}"))["query"]["filters"]

    assert await filters(ann, "B") == {"id": "B"}
    assert await filters(ann, "Z 1~2") == {"id": "Z 1~2"}
    assert await filters(bob, "A") == {"id": "A"}
    for user, word in ((ann, "A"), (ann, "b"), (bob, "Z 1~2")):
        await refused_preview(user, f"list depot of fleet where id is {word}", 422, "UNKNOWN_WORD")


async def test_a_word_can_be_a_value_of_a_computed_text(people: dict[str, User]) -> None:
    computed = [{"name": "size", "type": "text", "expression": "nr > 5 ? 'High up' : 'low'"}]
    await stored(people, table("floors", "nr", "nr integer", computed=computed), [{"nr": nr} for nr in (1, 7, 8)])
    assert await rows(people["ANALYST"], "list nr of floors where size is high UP") == [[7], [8]]
    problem = await refused_preview(people["ANALYST"], "list nr of floors where size is up", 422, "UNKNOWN_WORD")
    assert problem["candidates"] == ["High up"]


@pytest.mark.parametrize("kind", ["enum", "text dimension", "text"])
async def test_a_word_is_the_same_in_every_form_of_unicode(people: dict[str, User], kind: str) -> None:
    """Given a value whose accent is a character of its own, when a word has it in its letter, then it is meant."""
    contract = table("bars", "nr", "nr integer", f"name {kind.split()[0]} indexed")
    field = contract["fields"][1]
    field |= {"values": ["Cafe\u0301 Rio", "Acme"]} if kind == "enum" else {"dimension": kind != "text"}
    await stored(people, contract, [{"nr": 1, "name": "Cafe\u0301 Rio"}, {"nr": 2, "name": "Acme"}])
    for word in ("Caf\u00e9 Rio", "caf\u00c9 rio", "Cafe\u0301 RIO"):
        assert await rows(people["ANALYST"], f"list nr of bars where name is {word}") == [[1]]
    near = await refused_preview(people["ANALYST"], "list nr of bars where name is Caf\u00e9", 422, "UNKNOWN_WORD")
    assert near["candidates"][0] == "Cafe\u0301 Rio"


# -- guards ------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def crowded(fleet: World, people: dict[str, User]) -> dict[str, User]:
    """One depot with more vehicles than a listing may have for each, as its join was accepted."""
    await fleet.mirror({f"V{n}": vehicle(depot="Rio", kind="Van") for n in range(1100)}, contract=FLEET)
    await fleet.db.execute(
        """UPDATE dataset_join SET statistics = '{"fanOut": {"average": 551.5, "greatest": 1102}}'"""
    )
    return people


LISTING = {"dataset": "depots", "joins": [{"dataset": "fleet", "as": "v"}], "fields": ["v.id"]}


async def test_a_guard_is_overridden_by_an_admin_with_a_reason(crowded: dict[str, User], fleet: World) -> None:
    preview = await previewed(crowded["ADMIN"], LISTING)
    (guard,) = preview["warnings"]
    assert (guard["type"], guard["requiresOverride"], preview["requiresOverride"]) == ("FAN_OUT_LIMIT", True, True)
    problem = refused(await executed(crowded["ADMIN"], preview), 409, "OVERRIDE_REQUIRED")
    assert problem["warnings"][0]["type"] == "FAN_OUT_LIMIT"
    response = await executed(crowded["ADMIN"], preview, override={"reason": "an audit of the fleet"})
    assert response.status_code == 200
    assert exact_json.decode(response.content)["rows"] == 1104
    entry: Any = await fleet.db.fetchrow("SELECT * FROM audit WHERE action = 'query.overridden'")
    assert (entry["actor"], entry["reason"]) == ("admin", "an audit of the fleet")
    engineer = await previewed(crowded["ENGINEER"], LISTING)
    refused(await executed(crowded["ENGINEER"], engineer, override={"reason": "please"}), 403, "FORBIDDEN")
    refused(await executed(crowded["ADMIN"], preview, override={"reason": ""}), 400, "MALFORMED_REQUEST")


async def test_figures_of_a_crowd_need_no_override(crowded: dict[str, User]) -> None:
    query = {
        "dataset": "depots",
        "joins": [{"dataset": "fleet", "as": "v"}],
        "aggregates": [total("v.id", "n", "count")],
    }
    assert await rows(crowded["VIEWER"], query) == [[1103]]


async def test_more_rows_than_may_be_on_the_way_are_held(crowded: dict[str, User], fleet: World) -> None:
    """Given branches beside each other in a listing, then their product is what is expected."""
    twice = LISTING | {"joins": [{"dataset": "fleet", "as": alias} for alias in ("v", "w", "x")]}
    schema = await fleet.db.fetchval("SELECT schema_name FROM dataset WHERE name = 'depots'")
    await fleet.db.execute(f"ANALYZE {schema}.mirror")
    preview = await previewed(crowded["VIEWER"], twice)
    assert [guard["type"] for guard in preview["warnings"]] == ["TOO_MANY_ROWS", "FAN_OUT_LIMIT"]
    refused(await executed(crowded["VIEWER"], preview), 409, "OVERRIDE_REQUIRED")


# -- corrections -------------------------------------------------------------------------------------------------------


async def test_a_correction_makes_another_preview_and_is_kept(people: dict[str, User], fleet: World) -> None:
    viewer = people["VIEWER"]
    query = {
        "dataset": "fleet",
        "joins": [{"dataset": "depots"}],
        "groupBy": ["depots.country"],
        "aggregates": [total("seats")],
    }
    preview = await previewed(viewer, query)

    async def corrected(type_: str, correction: dict[str, Any]) -> dict[str, Any]:
        body = {"previewId": preview["previewId"], "type": type_, "correction": correction}
        return written(await viewer.post(path(viewer, "correct"), body))

    inner = await corrected("JOIN_TYPE", {"as": "depots", "type": "inner"})
    assert inner["query"]["joins"][0]["type"] == "inner"
    filtered = await corrected("FILTER", {"filters": {"kind": "Bus"}})
    assert filtered["query"]["filters"] == {"kind": "Bus"}
    metric = await corrected("METRIC", {"name": "total", "function": "max", "field": "mileage"})
    response = await executed(viewer, metric)
    assert exact_json.decode(response.content)["data"][0] == {"depots.country": "Brazil", "total": 100}
    kept = await fleet.db.fetch("SELECT type, made_id::text FROM query_correction ORDER BY at, type")
    assert sorted(map(tuple, kept)) == sorted(
        (type_, made["previewId"]) for type_, made in (("JOIN_TYPE", inner), ("FILTER", filtered), ("METRIC", metric))
    )


@pytest.mark.parametrize(
    ("type_", "correction", "where"),
    [
        ("JOIN_TYPE", {"as": "x", "type": "inner"}, "correction.as"),
        ("JOIN_TYPE", {"as": "depots", "type": "outer"}, "correction.type"),
        ("METRIC", {"name": "x", "function": "max", "field": "mileage"}, "correction.name"),
        ("METRIC", {"name": "n", "function": "sum", "field": "depot"}, "aggregates[0].function"),
        ("FILTER", {"filters": {"x": 1}}, "filters.x"),
        ("FILTER", {"where": {}}, "correction"),
    ],
)
async def test_what_cannot_be_corrected_so_is_told(
    fleet: World, ann: User, type_: str, correction: dict[str, Any], where: str
) -> None:
    preview = await previewed(ann, {"dataset": "fleet", "aggregates": [COUNT]})
    body = {"previewId": preview["previewId"], "type": type_, "correction": correction}
    problem = refused(await ann.post(path(ann, "correct"), body), 422, "INVALID_QUERY")
    assert problem["errors"][0]["field"] == where
    assert await fleet.db.fetchval("SELECT count(*) FROM query_correction") == 0


# -- execution ---------------------------------------------------------------------------------------------------------


async def test_an_answer_comes_as_json_csv_or_ndjson(fleet: World, ann: User) -> None:
    preview = await previewed(
        ann, {"dataset": "fleet", "fields": ["id", "depot", "mileage"], "filters": {"kind": "Van"}}
    )
    csv = await executed(ann, preview, format="csv")
    assert csv.headers["Content-Type"].startswith("text/csv")
    assert csv.text == "id,depot,mileage\r\nA,Rio,100\r\nC,Lima,7\r\nD,,\r\n"
    ndjson = await executed(ann, preview, format="ndjson")
    assert ndjson.text.splitlines()[0] == '{"id":"A","depot":"Rio","mileage":100}'
    json = await executed(ann, preview)
    assert json.headers["Content-Type"].startswith("application/json")
    assert "Content-Disposition" not in json.headers
    refused(await executed(ann, preview, format="xlsx"), 400, "MALFORMED_REQUEST")


async def test_what_a_spreadsheet_would_compute_is_text(fleet: World, ann: User) -> None:
    await ann.on("fleet").draft("A", {"remark": "=1+1"})
    preview = await previewed(ann, {"dataset": "fleet", "fields": ["remark"], "filters": {"id": "A"}})
    assert (await executed(ann, preview, format="csv")).text == "remark\r\n'=1+1\r\n"


async def test_an_answer_says_whether_there_were_more(fleet: World, ann: User) -> None:
    query = {"dataset": "fleet", "fields": ["id"], "limit": 3}
    answer = await answered(ann, query)
    assert ([row["id"] for row in answer["data"]], answer["truncated"]) == (["A", "B", "C"], True)
    assert (await answered(ann, query | {"limit": 4}))["truncated"] is False


async def test_many_rows_are_streamed_in_parts(world: World, ann: User) -> None:
    await world.mirror({f"V{n:05}": vehicle(depot="Rio", kind="Van") for n in range(2500)}, contract=FLEET)
    answer = await answered(ann, {"dataset": "fleet", "fields": ["id"]})
    assert (len(answer["data"]), answer["rows"]) == (2500, 2500)
    assert answer["data"][1234] == {"id": "V01234"}


async def test_an_execution_is_recorded_with_what_it_took(people: dict[str, User], fleet: World) -> None:
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}
    answer = await answered(people["VIEWER"], query)
    response = await people["VIEWER"].get(path(people["VIEWER"], f"executions/{answer['executionId']}"))
    told = exact_json.decode(response.content)
    assert (told["userId"], told["outcome"], told["rows"], told["truncated"]) == ("viewer", "complete", 1, False)
    assert told["seconds"] > 0
    assert told["cost"] > 0
    assert told["query"]["dataset"] == "fleet"
    assert await fleet.db.fetchval("SELECT uses FROM dataset_join") == 1
    assert await fleet.db.fetchval("SELECT count(*) FROM audit WHERE action = 'query.executed'") == 1
    refused(
        await people["ANALYST"].get(path(people["ANALYST"], f"executions/{told['id']}")), 404, "EXECUTION_NOT_FOUND"
    )
    assert (await people["ADMIN"].get(path(people["ADMIN"], f"executions/{told['id']}"))).status_code == 200
    refused(await people["ADMIN"].get(path(people["ADMIN"], "executions/x")), 404, "EXECUTION_NOT_FOUND")


async def test_executions_are_listed_the_newest_first(fleet: World, ann: User, bob: User) -> None:
    for limit in (1, 2, 3):
        fleet.clock.move(seconds=1)
        await answered(ann, {"dataset": "fleet", "limit": limit})
    await answered(bob, {"dataset": "fleet"})
    found: list[int] = []
    after: dict[str, Any] = {}
    for _ in range(2):
        page = exact_json.decode((await ann.get(path(ann, "executions"), {"limit": 2} | after)).content)
        found += [each["query"]["limit"] for each in page["data"]]
        after = {"after": page["nextCursor"]}
    assert (found, after["after"]) == ([3, 2, 1], None)


async def test_an_execution_of_a_service_that_was_killed_is_lost(fleet: World, ann: User) -> None:
    """Once it could not run any more."""
    answer = await answered(ann, {"dataset": "fleet"})
    await fleet.db.execute("UPDATE query_execution SET outcome = NULL")

    async def outcomes() -> set[str | None]:
        listed = exact_json.decode((await ann.get(path(ann, "executions"))).content)["data"]
        one = exact_json.decode((await ann.get(path(ann, f"executions/{answer['executionId']}"))).content)
        return {one["outcome"], *(each["outcome"] for each in listed)}

    assert await outcomes() == {None}
    settings = fleet.runtime.settings
    fleet.clock.move(seconds=2 * (settings.query_timeout + settings.stall_timeout) + 1)
    assert await outcomes() == {"lost"}


async def test_a_question_that_takes_too_long_is_broken_off(database_url: str) -> None:
    async with open_world(database_url, query_timeout=3) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        await join(world, "fleet.remark", "fleet.plate")
        query = {"dataset": "fleet", "joins": [{"dataset": "fleet", "as": "of"}], "fields": ["of.id"]}
        preview = await previewed(ann, query)
        # To count the rows takes less than the bound, and to join them more.
        slow = "CREATE POLICY slow ON fleet.mirror TO vanguard_app USING (pg_sleep(1.8) IS NOT NULL)"
        await world.db.execute(f"ALTER TABLE fleet.mirror ENABLE ROW LEVEL SECURITY; {slow}")
        await world.db.execute("INSERT INTO fleet.mirror VALUES ('acme', 'A', '{}', 1, 1)")
        problem = refused(await executed(ann, preview), 503, "DATABASE_BUSY")
        assert "VANGUARD_QUERY_TIMEOUT" in problem["detail"]
        assert await world.db.fetchval("SELECT outcome FROM query_execution") == "refused"


async def test_temporary_files_have_a_bound(database_url: str) -> None:
    """Given a sort that needs more than the bound, then it ends, and the answer says which setting it is."""
    async with open_world(database_url, query_memory_mb=1, query_files_mb=1) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        assert await world.db.fetchval("SELECT has_parameter_privilege('vanguard_app', 'temp_file_limit', 'SET')")
        words = {f"V{n:05}": vehicle(depot="Rio", kind="Van", remark=f"{n % 7} {'x' * 1900}") for n in range(3000)}
        await world.mirror(words, contract=FLEET)
        preview = await previewed(ann, {"dataset": "fleet", "fields": ["remark"], "order": ["remark"]})
        problem = refused(await executed(ann, preview), 422, "QUERY_TOO_LARGE")
        assert "VANGUARD_QUERY_FILES_MB" in problem["detail"]


# -- hostile questions -------------------------------------------------------------------------------------------------


def hostile() -> dict[str, Any]:
    """A dataset whose fields are called as SQL is."""
    names = ("select", "where", "order", "user", "table", "limit1", "and", "or", "not")
    contract = customers(
        name="select",
        key="select",
        fields=[{"name": name, "type": "text", "editable": name != "select"} for name in names],
        hot=[],
        measures=[],
    )
    contract["ingestion"] = contract["ingestion"] | {"idempotencyKey": ["select"]}
    return contract


async def test_names_that_are_words_of_sql_are_names(people: dict[str, User]) -> None:
    await registered(people["ENGINEER"], hostile())
    await moved(people["ADMIN"].on("select"), "promote")
    record = {"select": "s", "where": "w'", "order": '"o"', "user": "u; DROP TABLE", "and": "&", "or": "|", "not": "!"}
    await ingested(people["ENGINEER"].on("select"), record)
    query = {
        "dataset": "select",
        "fields": ["where", "order", "user", "select.and", "or", "select.not"],
        "filters": {"where": "w'", "select.and": "&", "not": {"select.not": "x"}, "or": [{"order": '"o"'}]},
        "order": ["user", "-select"],
    }
    viewer = people["VIEWER"]
    assert await rows(viewer, query) == [["w'", '"o"', "u; DROP TABLE", "&", "|", "!"]]
    preview = await previewed(viewer, query)
    assert (await previewed(viewer, preview["query"]))["digest"] == preview["digest"]
    assert "DROP" not in preview["sql"]


async def test_a_question_of_another_tenants_dataset_finds_nothing(people: dict[str, User], fleet: World) -> None:
    """Given two tenants with a dataset of one name, when they ask the same, then each has their own rows."""
    await fleet.organization("other")
    await fleet.mirror({"X": vehicle(depot="Rio", seats=7)}, organization="other", contract=FLEET)
    eve = await fleet.user("eve", "other", Role.ADMIN)
    query = {"dataset": "fleet", "fields": ["id", "seats"], "filters": {"depot": "Rio"}}
    assert await rows(eve, query) == [["X", 7]]
    preview = await previewed(people["VIEWER"], query)
    body = {"previewId": preview["previewId"], "digest": preview["digest"]}
    refused(await eve.post("/api/v1/orgs/other/query/execute", body), 404, "PREVIEW_NOT_FOUND")
    refused(await eve.post("/api/v1/orgs/acme/query/execute", body), 403, "FORBIDDEN")
    await refused_preview(eve, query | {"joins": [{"dataset": "depots"}]}, 404, "DATASET_NOT_FOUND")


@pytest.mark.parametrize(
    "body",
    [
        {"query": {"dataset": "fleet", "sql": "SELECT 1"}},
        {"query": {"dataset": "fleet", "limit": 0}},
        {"query": {"dataset": "fleet", "limit": 1.5}},
        {"query": {"dataset": "fleet", "fields": ["id"] * 1001}},
        {"query": {"dataset": "fleet", "joins": [{"dataset": "depots"}] * 9}},
        {"query": {"dataset": "fleet", "joins": [{"dataset": "depots", "as": "a.b"}]}},
        {"query": {"dataset": "fleet", "joins": [{"dataset": "depots", "type": "cross"}]}},
        {"query": {"dataset": "fleet", "aggregates": [{"name": 'n"', "function": "count"}]}},
        {"query": {"dataset": "fleet", "aggregates": [{"name": "n", "function": "pg_sleep", "field": "id"}]}},
        {"query": ""},
        {"query": "x" * 501},
        {"query": 7},
        {"query": None},
        {},
    ],
)
async def test_what_is_no_question_is_not_read(fleet: World, ann: User, body: dict[str, Any]) -> None:
    refused(await ann.post(path(ann, "preview"), body), 400, "MALFORMED_REQUEST")


async def test_there_is_no_cartesian_join(people: dict[str, User]) -> None:
    """Given datasets that nobody has accepted a join of, then they are in no question together."""
    query = {"dataset": "depots", "joins": [{"dataset": "pfa"}], "fields": ["id", "pfa.id"]}
    await refused_preview(people["ADMIN"], query, 422, "INVALID_QUERY")


async def test_a_join_by_a_field_that_is_gone_is_in_no_question(people: dict[str, User], fleet: World) -> None:
    """Given a version without the field that a join goes by, when it is asked about by that, then it says so; by its
    number, the version before still joins.
    """
    await fleet.db.execute("UPDATE dataset_join SET state = 'deprecated', deprecated_at = now()")
    await join(fleet, "fleet.remark", "depots.code")
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}
    assert await rows(people["VIEWER"], query) == [[4]]
    less = depots(version="2.0")
    await registered(people["ENGINEER"], less | {"fields": [each for each in less["fields"] if each["name"] != "code"]})
    await moved(people["ADMIN"].on("depots@2"), "promote")
    problem = await refused_preview(people["VIEWER"], query, 422, "INVALID_QUERY")
    assert "no field 'code'" in problem["detail"]
    before = query | {"joins": [{"dataset": "depots@1", "as": "depots"}]}
    assert await rows(people["VIEWER"], before) == [[4]]


# -- what once went wrong ----------------------------------------------------------------------------------------------


async def test_an_answer_takes_longer_than_a_body_may(database_url: str) -> None:
    """Given a question that runs for longer than the pieces of a body may be apart, then it is answered."""
    async with open_world(database_url, body_pause=0.2) as world:
        await world.organization("acme")
        ann = await world.user("ann")
        preview = await previewed(ann, {"dataset": "fleet", "aggregates": [COUNT]})
        slow = "CREATE POLICY slow ON fleet.mirror TO vanguard_app USING (pg_sleep(1) IS NOT NULL)"
        await world.db.execute(f"ALTER TABLE fleet.mirror ENABLE ROW LEVEL SECURITY; {slow}")
        await world.db.execute("INSERT INTO fleet.mirror VALUES ('acme', 'A', '{}', 1, 1)")
        response = await executed(ann, preview)
        assert exact_json.decode(response.content)["data"] == [{"n": 1}]


async def used(people: dict[str, User], contract: dict[str, Any], *records: dict[str, Any]) -> None:
    """A dataset of one's own in use, with these records."""
    name = contract["name"]
    await registered(people["ENGINEER"], contract)
    await moved(people["ADMIN"].on(name), "promote")
    await ingested(people["ENGINEER"].on(name), *records)


def country_list(**more: Any) -> dict[str, Any]:
    """A dataset whose name has an underscore, and whose key is the country's name."""
    contract = customers(
        name="country_list",
        key="country",
        fields=[
            {"name": "country", "type": "text", "editable": False},
            {"name": "continent", "type": "text"},
        ],
        hot=[],
        measures=[],
    )
    contract["ingestion"] = contract["ingestion"] | {"idempotencyKey": ["country"]}
    return contract | more


@pytest.fixture
async def countries(people: dict[str, User], fleet: World) -> dict[str, User]:
    """Depots are in countries; Norway is in no list."""
    await used(
        people,
        country_list(),
        {"country": "Brazil", "continent": "South"},
        {"country": "Peru", "continent": None},
    )
    await join(fleet, "depots.country", "country_list.country")
    return people


@pytest.mark.parametrize(
    "query",
    [
        {"dataset": "depots", "joins": [{"dataset": "country_list"}], "fields": ["id", "country_list.continent"]},
        {"dataset": "country_list", "joins": [{"dataset": "depots"}], "fields": ["id", "depots.id"]},
        {"dataset": "depots@1", "joins": [{"dataset": "country_list"}], "fields": ["id"]},
        {"dataset": "depots", "joins": [{"dataset": "country_list@1"}], "fields": ["id"]},
        {
            "dataset": "fleet",
            "filters": {"not": {"or": [{"seats": {"gt": 1}, "fleet.seats": {"gt": 2}}, {"not": {"depot": "Rio"}}]}},
        },
    ],
)
async def test_a_normal_form_is_a_question(countries: dict[str, User], query: dict[str, Any]) -> None:
    preview = await previewed(countries["VIEWER"], query)
    assert (await executed(countries["VIEWER"], preview)).status_code == 200
    again = await previewed(countries["VIEWER"], preview["query"])
    assert again["digest"] == preview["digest"]


async def test_a_normal_form_is_no_deeper_than_its_question(fleet: World, ann: User) -> None:
    deep: dict[str, Any] = {"seats": {"gt": 1}, "fleet.seats": {"gt": 2}}
    for _ in range(10):
        deep = {"not": deep}
    preview = await previewed(ann, {"dataset": "fleet", "filters": deep})
    assert (await executed(ann, preview)).status_code == 200
    for again in (preview["query"], preview["sentence"]):
        assert (await previewed(ann, again))["digest"] == preview["digest"]


async def test_a_dataset_of_many_fields_is_asked_for_as_a_whole(people: dict[str, User]) -> None:
    wide = country_list(name="wide")
    wide["fields"] = [*wide["fields"], *({"name": f"f{n}", "type": "text"} for n in range(110))]
    await used(people, wide, {"country": "Peru", "f109": "x"})
    answer = await answered(people["VIEWER"], {"dataset": "wide"})
    assert answer["data"][0]["f109"] == "x"


async def test_an_inner_join_behind_a_left_one_leaves_out_partners_only(countries: dict[str, User]) -> None:
    """Given vehicles at depots in countries, when depots without a country are left out, then the vehicles stay."""
    joins = [{"dataset": "depots"}, {"dataset": "country_list", "as": "c", "from": "depots", "type": "inner"}]
    ann = countries["ANALYST"]
    await ann.on("fleet").draft("C", {"depot": "Oslo"})
    query = {"dataset": "fleet", "joins": joins, "fields": ["id", "depots.name", "c.continent"]}
    assert await rows(ann, query) == [
        ["A", "Rio", "South"],
        ["B", "Rio", "South"],
        ["C", None, None],
        ["D", None, None],
    ]
    assert await rows(ann, {"dataset": "fleet", "joins": joins, "aggregates": [COUNT]}) == [[4]]
    from_depots = {
        "dataset": "country_list",
        "joins": [{"dataset": "depots", "as": "d"}],
        "aggregates": [COUNT, total("d.area", "area")],
    }
    assert await rows(ann, from_depots) == [[2, 30]]


async def test_a_join_of_other_types_by_now_is_in_no_question(people: dict[str, User], fleet: World) -> None:
    await fleet.db.execute("UPDATE dataset_join SET state = 'deprecated', deprecated_at = now()")
    await join(fleet, "fleet.remark", "depots.code")
    query = {"dataset": "fleet", "joins": [{"dataset": "depots"}], "aggregates": [COUNT]}
    preview = await previewed(people["VIEWER"], query)
    other = depots(version="2.0")
    other["fields"] = [each | ({"type": "integer"} if each["name"] == "code" else {}) for each in other["fields"]]
    await registered(people["ENGINEER"], other)
    await moved(people["ADMIN"].on("depots@2"), "promote")
    refused(await executed(people["VIEWER"], preview), 409, "PREVIEW_STALE")
    problem = await refused_preview(people["VIEWER"], query, 422, "INVALID_QUERY")
    assert "unlike types" in problem["detail"]


async def test_a_deprecated_version_is_joined_by_its_number(people: dict[str, User]) -> None:
    await moved(people["ADMIN"].on("depots"), "deprecate")
    query = {"dataset": "fleet", "joins": [{"dataset": "depots@1", "as": "d"}], "fields": ["id", "d.country"]}
    assert (await rows(people["VIEWER"], query))[0] == ["A", "Brazil"]


async def test_few_rows_are_counted_though_nobody_has_analyzed_them(people: dict[str, User]) -> None:
    preview = await previewed(people["VIEWER"], {"dataset": "fleet", "joins": [{"dataset": "depots"}]})
    assert [table["rows"] for table in preview["tables"]] == [4, 3]
