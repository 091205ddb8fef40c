"""What an organization can ask about, found for one request."""

from collections.abc import Mapping

from app.base.database import Connection
from app.base.statements import statement
from app.contracts.states import DatasetState
from app.engine.datasets import Standing
from app.engine.query.catalogue import Catalogue, Queryable
from app.engine.query.model import Query
from app.joins.accepted import list_accepted
from app.web.runtime import Runtime

LIST_QUERYABLE = statement("query_previews/list_queryable")
QUERYABLE = (DatasetState.ACTIVE, DatasetState.READ_ONLY)


async def read_whole(runtime: Runtime, connection: Connection, organization: str) -> Catalogue:
    """All datasets by their plain names: words of a sentence can mean any of them."""
    found = {}
    for row in await connection.rows(LIST_QUERYABLE, organization=organization):
        name = row["name"]
        if row["schema_name"] is None:
            found[name] = await runtime.datasets.find(organization, name)
        else:
            found[name] = await runtime.datasets.standing(connection, organization, name, row)
    return await _catalogue(connection, organization, found)


async def read_named(runtime: Runtime, connection: Connection, organization: str, query: Query) -> Catalogue:
    """Those that a question names."""
    names = dict.fromkeys([query.dataset, *(each.dataset for each in query.joins)])
    found = {name: await runtime.datasets.find(organization, name) for name in names}
    return await _catalogue(connection, organization, found)


async def _catalogue(connection: Connection, organization: str, found: Mapping[str, Standing | None]) -> Catalogue:
    return Catalogue(
        datasets={name: _queryable(each) for name, each in found.items() if each is not None and _is_asked(name, each)},
        joins=await list_accepted(connection, organization),
    )


def _is_asked(name: str, standing: Standing) -> bool:
    """A DEPRECATED version is asked for by its number; a SHADOW one is in no question."""
    return standing.state in QUERYABLE or (standing.state is DatasetState.DEPRECATED and "@" in name)


def _queryable(standing: Standing) -> Queryable:
    return Queryable(contract=standing.contract, state=standing.state, major=standing.major)
