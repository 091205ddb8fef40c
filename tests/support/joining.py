"""Datasets to be joined, as tests need them: small contracts, their rows, and what is asked about them."""

from collections.abc import Iterable
from typing import Any

from app.base import exact_json
from tests.support.own import SEMANTICS, moved, registered
from tests.support.world import User, World, written

JOINS = "/api/v1/orgs/acme/joins"
# Statistics of a join that is put into the table as it is.
MEASURED = (
    '{"sampledRows": 1, "distinctValues": 1, "inclusion": 1, "nullShare": 0, "parentUnique": true, "parentRows": 1,'
    ' "childRows": 1, "fanOut": {"average": 1, "greatest": 1}, "cardinality": "one_to_one"}'
)


def table(name: str, key: str | list[str], *fields: str, **more: Any) -> dict[str, Any]:
    """A contract; a field is `name type`, with `indexed` behind it where it is."""
    keys, made = [key] if isinstance(key, str) else key, []
    for field in fields:
        word, kind, *marks = field.split()
        made.append({"name": word, "type": kind, "indexed": "indexed" in marks, "editable": word not in keys})
    return {
        "name": name,
        "version": "1.0",
        "title": name.title(),
        "source": f"/{name}",
        "key": key,
        "fields": made,
        "ingestion": SEMANTICS | {"idempotencyKey": keys},
    } | more


def contract_text(document: dict[str, Any]) -> str:
    """The contract as the table of contracts has it."""
    return exact_json.encode(document).decode()


async def stored(people: dict[str, User], contract: dict[str, Any], records: Iterable[dict[str, Any]]) -> None:
    """A dataset that is in use, with these rows."""
    await registered(people["ENGINEER"], contract)
    await moved(people["ADMIN"].on(contract["name"]), "promote")
    records, engineer = list(records), people["ENGINEER"].on(contract["name"])
    for start in range(0, len(records), 1000):
        answer = written(await engineer.post("ingest", {"records": records[start : start + 1000]}))
        assert answer["inserted"] == len(records[start : start + 1000]), answer


async def filled(world: World, dataset: str, select: str, organization: str = "acme") -> None:
    """Rows straight into the mirror, where they are many: `select` yields row_key and data (jsonb)."""
    schema = await _schema(world, dataset, organization)
    await world.db.execute(
        f"INSERT INTO {schema}.mirror (organization_id, row_key, data, revision)"
        f" SELECT '{organization}', r.row_key, r.data, 1 FROM ({select}) AS r (row_key, data)"
    )
    await world.db.execute(f"ANALYZE {schema}.mirror")


async def deleted(world: World, dataset: str, where: str = "true", organization: str = "acme") -> None:
    """Rows straight out of the mirror `m`."""
    schema = await _schema(world, dataset, organization)
    await world.db.execute(f"DELETE FROM {schema}.mirror AS m WHERE m.organization_id = $1 AND {where}", organization)


async def _schema(world: World, dataset: str, organization: str) -> str:
    found: str = await world.db.fetchval(
        "SELECT schema_name FROM dataset WHERE organization_id = $1 AND name = $2", organization, dataset
    )
    return found


async def candidates(user: User, left: str, right: str) -> list[dict[str, Any]]:
    """All candidates of two datasets."""
    response = await user.get(f"/api/v1/orgs/{user.organization}/joins/candidates", {"left": left, "right": right})
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = exact_json.decode(response.content)["data"]
    return found


def by_condition(found: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Candidates by their conditions."""
    return {each["condition"]: each for each in found}


async def accepted(admin: User, candidate: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The answer to a candidate that is accepted."""
    body = {"candidateId": candidate["candidateId"], "rationale": "as the test has it"} | more
    return written(await admin.post(f"/api/v1/orgs/{admin.organization}/joins/accept", body), 201)
