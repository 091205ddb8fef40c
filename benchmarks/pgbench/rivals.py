"""Pages whose arms are written otherwise: the rest of the statement is the application's, so that it costs the same."""

from collections.abc import Sequence

from app.engine.markers import markers
from app.engine.page import READ_PAGE, Cursor, PageComposer
from app.engine.view import Composed

OWN = "x.organization_id = $1 AND x.user_id = $3"
LIMIT = "ORDER BY s_forecast_start, row_key LIMIT 101"


class Rival(PageComposer, frozen=True):
    """A page in the order of forecastStart, from other arms than the application's."""

    def page(self, cursor: Cursor | None, *, counted: bool, base_count: bool) -> Composed:
        """The application's statement but for what `replaced` has."""
        plan = self.plan(cursor, counted=counted, base_count=base_count)
        filled = READ_PAGE.fill(**(parts := markers(plan)) | self.replaced(parts))
        return Composed(filled.within(self.contract.schema), list(plan.arguments))

    def replaced(self, parts: dict[str, str]) -> dict[str, str]:
        """Markers whose text is another one."""
        arms = self.arms([f"${number}::text" for number in range(6, 6 + len(self.listing.conditions))])
        return {"keys": f"(SELECT arm.*, NULL::text AS row\n       FROM (\n    {arms}\n            ) AS arm)"}

    def arms(self, filters: Sequence[str]) -> str:
        """The text that yields the page's sort keys and ids; `filters` are the parameters of category and source."""
        raise NotImplementedError


class LeftJoin(Rival, frozen=True):
    """The obvious query, and a wrong one: rows stand where the mirror has them, insertions are missing."""

    def arms(self, filters: Sequence[str]) -> str:
        return f"""(SELECT m.f_forecast_start AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
       LEFT JOIN pfa.modification AS x ON {OWN} AND x.row_key = m.row_key
      WHERE m.organization_id = $1
        AND x.draft_op IS DISTINCT FROM 'delete'
      {LIMIT})"""


class Coalesce(Rival, frozen=True):
    """Filters and sorts by the merged values as they are: right (but for a drafted null), and no index serves it."""

    def arms(self, filters: Sequence[str]) -> str:
        (category,) = filters
        return f"""(SELECT coalesce(vanguard.as_date(x.delta -> 'forecastStart'), m.f_forecast_start)
            AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
       LEFT JOIN pfa.modification AS x ON {OWN} AND x.row_key = m.row_key
      WHERE m.organization_id = $1
        AND x.draft_op IS DISTINCT FROM 'delete'
        AND coalesce(vanguard.as_text(x.delta -> 'category'), m.f_category) = {category}
      {LIMIT})"""


class Hashed(Rival, frozen=True):
    """A hash of all covered rows is made first, then asked for each row."""

    def arms(self, filters: Sequence[str]) -> str:
        return f"""(SELECT m.f_forecast_start AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1
        AND m.row_key NOT IN (SELECT x.row_key FROM pfa.modification AS x WHERE {OWN} AND x.leaves)
      {LIMIT})
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key
       FROM pfa.modification AS x
      WHERE {OWN} AND x.lands
      {LIMIT})"""


class AllShapes(Rival, frozen=True):
    """One statement for every filter: a parameter that is NULL does not filter."""

    def arms(self, filters: Sequence[str]) -> str:
        columns = ("category", "source")
        mirror, after = (
            "".join(
                f"\n        AND ({value} IS NULL OR {prefix}_{column} = {value})"
                for column, value in zip(columns, filters, strict=True)
            )
            for prefix in ("m.f", "x.a")
        )
        return f"""(SELECT m.f_forecast_start AS s_forecast_start, m.row_key
       FROM pfa.mirror AS m
      WHERE m.organization_id = $1{mirror}
        AND NOT EXISTS (SELECT FROM pfa.modification AS x WHERE {OWN} AND x.row_key = m.row_key AND x.leaves)
      {LIMIT})
    UNION ALL
    (SELECT x.a_forecast_start AS s_forecast_start, x.row_key
       FROM pfa.modification AS x
      WHERE {OWN} AND x.lands{after}
      {LIMIT})"""


class Capped(Rival, frozen=True):
    """Counts no further than 10,001."""

    def replaced(self, parts: dict[str, str]) -> dict[str, str]:
        """The count."""
        counted = parts["base_count"].removeprefix("(SELECT count(*) FROM ").removesuffix(")")
        return {"base_count": f"(SELECT count(*) FROM (SELECT FROM {counted} LIMIT 10001) AS capped)"}
