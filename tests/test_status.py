"""What operators see of all datasets."""

from typing import Any

from app.base import exact_json
from app.web.auth import Role
from tests.support.records import connect
from tests.support.sessions import begin, edit
from tests.support.world import User, World, committed, line, refused

STATUS = "/api/v1/admin/status"


async def statuses(operator: User) -> dict[tuple[str, str], dict[str, Any]]:
    """Every dataset by organization and name."""
    response = await operator.get(STATUS)
    assert response.status_code == 200, response.text
    found = exact_json.decode(response.content)["datasets"]
    return {(each["organization"], each["dataset"]): each for each in found}


async def test_every_dataset_of_every_organization_is_told(world: World) -> None:
    olga = await world.user("olga", role=Role.VIEWER, operator=True)
    ann = await world.user("ann")
    await world.organization("rival")
    await world.mirror({key: line(model="M") for key in "ABC"})
    await ann.draft("A", {"model": "N"})
    await ann.draft("B", {"model": "N"})
    await committed(ann, "A")
    await edit(ann, await begin(ann), "C", "model", "S")
    found = await statuses(olga)
    assert {organization for organization, _ in found} == {"acme", "rival"}
    acme = found["acme", "pfa"]
    assert (acme["drafts"], acme["sessions"], acme["outbox"], acme["outboxAge"]) == (2, 1, 1, 0)
    assert (acme["rows"], acme["kpis"]) == (None, {"revision": None, "staleSeconds": None})
    assert (acme["missingIndexes"], acme["circuit"]) == ([], None)
    assert found["rival", "pfa"]["drafts"] == 0

    await connect(world)
    await world.db.execute("SELECT pfa.refresh_kpi(); ANALYZE pfa.mirror; DROP INDEX pfa.mirror_forecast_start")
    acme = (await statuses(olga))["acme", "pfa"]
    assert (acme["rows"], acme["kpis"]["revision"]) == (3, acme["revision"])
    assert acme["missingIndexes"] == ["mirror_forecast_start"]
    assert acme["circuit"] == "closed"


async def test_a_view_that_is_behind_is_told_by_its_age(world: World) -> None:
    olga = await world.user("olga", role=Role.VIEWER, operator=True)
    dora = (await world.user("dora")).on("fleet")
    await world.db.execute("SELECT fleet.refresh_kpi()")
    await dora.draft("A", {"depot": "North", "kind": "Van"}, op="insert")
    await committed(dora, "A")
    world.clock.move(minutes=5)
    fleet = (await statuses(olga))["acme", "fleet"]
    assert (fleet["rows"], fleet["revision"] - fleet["kpis"]["revision"], fleet["kpis"]["staleSeconds"]) == (
        None,
        1,
        300,
    )


async def test_it_is_for_operators(world: World) -> None:
    ann = await world.user("ann", role=Role.ADMIN)
    refused(await ann.get(STATUS), 403, "FORBIDDEN")
