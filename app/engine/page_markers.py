"""A page's plan as SQL: what goes between the markers of sql/rows/read_page.sql.

Arm one reads the mirror without the rows that the caller's modifications cover, arm two those modifications.
"""

from app.base.statements import statement
from app.contracts.filters import Sort, field_type
from app.contracts.images import json_object
from app.contracts.model import snake
from app.engine.page_plan import PagePlan, Step, is_null
from app.engine.predicates import Image
from app.engine.view import DELETED_BASE, OWN, UNION, conjunction

# In an order that has indexes arm one walks so many times its limit with the documents at hand, then keys alone.
WALK = 5

# Members of a row as arguments of concat: those of a modification, and what a pristine row has in their place.
COMPUTED = """',"computed":'"""
OP = """',"op":', coalesce(to_json(coalesce(x.draft_op, x.pending_op))::text, 'null')"""
LAYERS = """',"base":', x.base, ',"delta":', x.delta, ',"pending":', x.pending"""
NO_OP = """',"op":null'"""
NO_LAYERS = """',"op":null,"base":{},"delta":{},"pending":{}'"""

OVERLAP = statement("rows/read_overlap").text.partition("/*{overlap}*/")[2].partition("/*{}*/")[0]


def markers(plan: PagePlan) -> dict[str, str]:
    """Marker -> its text."""
    view, walked, order = plan.view, plan.walked, _order(plan)
    columns = [_alias(sort) for sort in plan.keys]
    kinds = [field_type(view.contract, sort.field) for sort in plan.keys]
    ending = f"ORDER BY {order} LIMIT {plan.limit or '$4::bigint + $5::bigint + 1'}"
    # What leaves is taken from the mirror's count, and there is none where the mirror is not read.
    left_counted = plan.counted and view.reads_mirror
    arms = [*_direct_arm(plan), *_mirror_arms(plan, ending), *_modification_arms(plan, ending)]
    if plan.deleted:
        arms += _deleted_arms(plan, ending)
    return {
        "left": conjunction([view.left, *view.filters.on(view.before)]),
        "landed": conjunction([view.lands, *view.filters.on(view.after), *view.stated]),
        "covering_join": view.joins,
        "covers": view.covers,
        "walked_columns": ", ".join([*(f"m.{column}" for column in columns), "m.row_key"]),
        "walked_document": _document(plan, "m.data"),
        "mirror_more": _more(_computed(plan, view.mirror)),
        "modification_more": _more(_modification_columns(plan)),
        "mirror_columns": _columns(plan, view.mirror),
        "walked": "FALSE" if walked is None else conjunction(_of_mirror(plan, walked)),
        "walk": str(WALK * (plan.limit or 0)),
        "same": conjunction(_same(plan, walked or (), [f"m.{column}" for column in columns])),
        "keys": UNION.join(arms),
        "order": order,
        "sort_values": ", ".join(
            f"vanguard.datetime_text(l.{column})" if kind == "datetime" else f"l.{column}::text"
            for column, kind in zip(columns, kinds, strict=True)
        ),
        "document": _document(plan, "d.doc"),
        "absent": DELETED_BASE if plan.deleted else "'{}'",
        "mirror_members": _mirror_members(plan),
        "modification_members": _modification_members(plan),
        "overlap": f"concat(',\"overlap\":', {OVERLAP})" if plan.overlap else "NULL",
        "page_keys": f"ARRAY(SELECT p.row_key FROM page AS p ORDER BY {order})" if plan.keyed else "NULL::text[]",
        "base_count": _base_count(plan) if plan.base_count else "NULL::bigint",
        "left_count": "(SELECT count(*) FROM covering AS c WHERE c.left_filter)" if left_counted else "0::bigint",
        "landed_count": _landed_count(plan) if plan.counted else "0::bigint",
    }


def _alias(sort: Sort) -> str:
    return f"s_{snake(sort.field)}"


def _order(plan: PagePlan) -> str:
    return ", ".join(
        f"{'row_key' if sort.field == 'id' else _alias(sort)}{' DESC' if sort.descending else ''}"
        for sort in plan.order
    )


def _columns(plan: PagePlan, image: Image) -> str:
    keys = [f"{image.column(sort.field)} AS {_alias(sort)}" for sort in plan.keys]
    return ", ".join([*keys, f"{image.key} AS row_key"])


def _document(plan: PagePlan, document: str) -> str:
    return f"vanguard.pick({document}, {plan.fields})" if plan.fields else document


# -- what is shown beside a row ---------------------------------------------------------------------------------------


def _computed(plan: PagePlan, image: Image) -> list[str]:
    """The image's columns that are shown."""
    return [image.column(name) for name in plan.computed or ()]


def _modification_columns(plan: PagePlan) -> list[str]:
    """What `_modification_members` reads, and the document of a deleted row."""
    found = _computed(plan, plan.view.after)
    if plan.layers or plan.deleted:
        found += ["x.draft_op", "x.pending_op", "x.base"]
    if plan.deleted:
        found += ["x.deletes", "x.leaves", *_computed(plan, plan.view.before)]
    return found


def _more(columns: list[str]) -> str:
    return "".join(f", {column}" for column in columns)


def _mirror_members(plan: PagePlan) -> str:
    """What a pristine row shows besides: arguments of concat."""
    found = []
    if plan.computed is not None:
        found += [COMPUTED, _computed_object(plan, plan.view.mirror)]
    if plan.layers or plan.deleted:
        found.append(NO_LAYERS if plan.layers else NO_OP)
    return ", ".join(found) or "NULL"


def _modification_members(plan: PagePlan) -> str:
    """What the row of a modification shows besides: arguments of concat."""
    found = []
    if plan.computed is not None:
        written = _computed_object(plan, plan.view.after)
        if plan.deleted:
            written = f"CASE WHEN x.deletes THEN {_computed_object(plan, plan.view.deleted)} ELSE {written} END"
        found += [COMPUTED, written]
    if plan.layers or plan.deleted:
        found += [OP, *([LAYERS] if plan.layers else [])]
    return ", ".join(found) or "NULL"


def _computed_object(plan: PagePlan, image: Image) -> str:
    return json_object([(image.contract.column_of[name], image.column(name)) for name in plan.computed or ()])


def _base_count(plan: PagePlan) -> str:
    if not plan.view.reads_mirror:
        return "0::bigint"
    return f"(SELECT count(*) FROM pfa.mirror AS m WHERE {conjunction(_of_mirror(plan, ()))})"


def _landed_count(plan: PagePlan) -> str:
    landed = "(SELECT count(*) FROM covering AS c WHERE c.landed_filter)"
    if not plan.deleted:
        return landed
    source = f"pfa.modification AS x{plan.view.deleted_joins}"
    return f"{landed}\n       + (SELECT count(*) FROM {source} WHERE {conjunction(plan.view.taken_away)})"


# -- the arms ---------------------------------------------------------------------------------------------------------


def _direct_arm(plan: PagePlan) -> list[str]:
    """What was walked with the documents at hand, unless it was cut."""
    if plan.walked is None:
        return []
    columns = ", ".join([*(f"d.{_alias(sort)}" for sort in plan.keys), "d.row_key", "d.row"])
    return [f"(SELECT {columns}\n       FROM direct AS d\n      WHERE NOT (SELECT w.cut FROM walk AS w))"]


def _mirror_arms(plan: PagePlan, ending: str) -> list[str]:
    """Arm one, a select for each step. Beside a walk it reads what was cut anew, and what comes once that has ended."""
    arms = []
    for step in plan.mirror_steps:
        conditions = _of_mirror(plan, step)
        if plan.walked is not None:
            conditions.append(f"(SELECT w.{'cut' if step == plan.walked else 'ended'} FROM walk AS w)")
        arms.append(_arm(plan, plan.view.mirror, "pfa.mirror AS m", [*conditions, _uncovered(plan, step)], ending))
    return arms


def _modification_arms(plan: PagePlan, ending: str) -> list[str]:
    """Arm two, a select for each step."""
    view = plan.view
    landed = [OWN, view.lands, *view.filters.on(view.after), *view.stated]
    source = f"pfa.modification AS x{view.joins}"
    return [
        _arm(plan, view.after, source, [*landed, *(condition.on(view.after) for condition in step)], ending)
        for step in plan.modification_steps
    ]


def _deleted_arms(plan: PagePlan, ending: str) -> list[str]:
    """The rows that the caller takes away, in their place, a select for each step."""
    view = plan.view
    source = f"pfa.modification AS x{view.deleted_joins}"
    return [
        _arm(plan, view.deleted, source, [*view.taken_away, *(each.on(view.deleted) for each in step)], ending)
        for step in plan.modification_steps
    ]


def _arm(plan: PagePlan, image: Image, source: str, conditions: list[str], ending: str) -> str:
    where = "\n        AND ".join(conditions)
    return (
        f"(SELECT {_columns(plan, image)}, NULL::text AS row\n       FROM {source}\n      WHERE {where}"
        f"\n      {ending})"
    )


def _of_mirror(plan: PagePlan, step: Step) -> list[str]:
    """The mirror's rows of a step."""
    image = plan.view.mirror
    return [
        "m.organization_id = $1",
        *plan.view.filters.on(image),
        *(condition.on(image) for condition in step),
    ]


def _uncovered(plan: PagePlan, step: Step) -> str:
    """Not a row that a modification covers."""
    view = plan.view
    found = f"FROM pfa.modification AS x WHERE {OWN} AND"
    if not plan.merged:
        return f"NOT EXISTS (SELECT {found} x.row_key = m.row_key AND {view.leaves})"
    if is_null(step):
        left = conjunction(["x.leaves", *(condition.on(view.before) for condition in step)])
        return f"m.row_key NOT IN (SELECT x.row_key {found} {left})"
    same = conjunction(["x.leaves", *_same(plan, step, [view.mirror.column(sort.field) for sort in plan.keys])])
    return f"NOT EXISTS (SELECT {found} {same})"


def _same(plan: PagePlan, step: Step, keys: list[str]) -> list[str]:
    """The modification x of the row m, whose sort keys are given, by both sides' place in the index of the order:
    so the two are merged, and neither is probed for the other's rows.
    """
    image = plan.view.before
    return [
        *(condition.on(image) for condition in step),
        *(f"{image.column(sort.field)} = {key}" for sort, key in zip(plan.keys, keys, strict=True)),
        "x.row_key = m.row_key",
    ]
