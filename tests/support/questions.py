"""Questions of every shape, and the statements that are composed of them: listings, figures, joins, branches, words."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from app.contracts import PFA
from app.contracts.filters import BOUNDS
from app.contracts.model import Contract
from app.contracts.states import DatasetState
from app.engine.query.catalogue import AcceptedJoin, Catalogue, Queryable
from app.engine.query.composing import Asker, compose, explain, find_doubled
from app.engine.query.model import Query
from app.engine.query.question import Question
from app.engine.query.reading import read_query
from app.engine.view import Composed
from app.english import AskedValue
from app.query_previews.values import find
from tests.support.world import FLEET

OWN: Contract = msgspec.structs.replace(FLEET, name="depots", schema="own_7")


def _join(child: str, child_fields: tuple[str, ...], parent: str, parent_fields: tuple[str, ...]) -> AcceptedJoin:
    return AcceptedJoin(
        id=f"{child}-{parent}-{'-'.join(child_fields)}",
        version=1,
        child=child,
        child_fields=child_fields,
        parent=parent,
        parent_fields=parent_fields,
        confidence=0.9,
        accepted_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


CATALOGUE = Catalogue(
    datasets={each.name: Queryable(contract=each, state=DatasetState.ACTIVE, major=1) for each in (PFA, FLEET, OWN)},
    joins=(
        _join("fleet", ("remark",), "pfa", ("pfaId",)),
        _join("depots", ("depot", "kind"), "fleet", ("depot", "kind")),
        _join("depots", ("remark",), "pfa", ("pfaId",)),
        _join("pfa", ("model",), "pfa", ("pfaId",)),
    ),
)
LEVELS = {"or": [{"category": "Cranes"}, {"not": {"monthlyRate": {"gte": 10}}}], "source": ["Rental", "Purchase"]}
TOTAL = {"name": "total", "function": "sum", "field": "monthlyRate"}
TO_ONE = {"dataset": "pfa"}
BRANCH = {"dataset": "fleet", "type": "inner"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "rows": {"dataset": "pfa"},
    "filtered rows": {"dataset": "pfa", "fields": ["id", "category"], "filters": LEVELS, "order": ["-monthlyRate"]},
    "rows joined to-one and to-many": {
        "dataset": "fleet",
        "fields": ["depot", "pfa.category", "depots.seats"],
        "filters": {"pfa.category": "Cranes", "depots.seats": {"gt": 3}},
        "joins": [TO_ONE, {"dataset": "depots"}],
    },
    "one figure": {"dataset": "pfa", "aggregates": [{"name": "n", "function": "count"}]},
    "every figure": {
        "dataset": "pfa",
        "filters": LEVELS,
        "groupBy": ["category", "source"],
        "aggregates": [
            {"name": f"n{place}", "function": function, "field": "monthlyRate"}
            for place, function in enumerate(("count", "countDistinct", "sum", "average", "min", "max"))
        ],
        "order": ["-n2"],
        "limit": 5,
    },
    "figures by a parent's field": {
        "dataset": "fleet",
        "joins": [TO_ONE],
        "groupBy": ["pfa.category"],
        "filters": {"pfa.source": "Rental"},
        "aggregates": [{"name": "seats", "function": "sum", "field": "seats"}],
    },
    "figures beside two branches, one of them filtered and joined on": {
        "dataset": "pfa",
        "joins": [BRANCH, {"dataset": "depots", "as": "others"}, {"dataset": "pfa", "as": "model"}],
        "groupBy": ["category", "model.category"],
        "filters": {"source": "Rental", "fleet.depot": "North"},
        "aggregates": [
            TOTAL,
            {"name": "vehicles", "function": "count", "field": "fleet.id"},
            {"name": "mileage", "function": "average", "field": "fleet.mileage"},
            {"name": "seats", "function": "max", "field": "others.seats"},
        ],
        "order": ["-total"],
    },
}


def question(name: str) -> Question:
    """One of QUESTIONS, read."""
    return read_query(msgspec.convert(QUESTIONS[name], Query), CATALOGUE, BOUNDS, 1000)


def composed(name: str) -> Iterator[Composed]:
    """Every statement that is made of it."""
    asked, asker = question(name), Asker("acme", "ann")
    yield compose(asked, asker)
    yield explain(asked, asker)
    for source in asked.sources[1:]:
        parent = source if source.to_one else asked.sources[source.beside]
        yield find_doubled(parent, source, asker)


def words() -> Iterator[Composed]:
    """The statements that look for a word among the values of a field."""
    for contract, field in ((PFA, "category"), (FLEET, "depot"), (OWN, "remark"), (PFA, "id"), (OWN, "id")):
        asked = AskedValue(dataset=contract.name, field=field, word="north", place=0, path=())
        yield find(contract, Asker("acme", "ann"), asked)
