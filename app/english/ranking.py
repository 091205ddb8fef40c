"""What `top` and `bottom` rank: what has a value. In descending order that without would come first."""

from app.engine.query.catalogue import Catalogue
from app.engine.query.model import Query
from app.english.shortest import has_one

COUNTS = ("count", "countDistinct")  # 0 where there is no value


def ranked_field(query: Query, catalogue: Catalogue) -> str | None:
    """The field that has a value in all rows that are ranked, or in some row of each group; None where it has anyway,
    or where other figures would lose rows.
    """
    if not query.aggregates:
        path = query.order[0].removeprefix("-")
        return path if path != "id" else None
    first = query.aggregates[0]
    if first.field is None or first.function in COUNTS or any(each.field != first.field for each in query.aggregates):
        return None
    return first.field if has_one(query, first.field, catalogue) else None
