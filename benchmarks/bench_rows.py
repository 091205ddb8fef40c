"""The page's own statement: over drafts, over lines, and deep in the list."""

from collections.abc import AsyncIterator
from functools import partial

from app.base.database import Connection
from app.base.statements import Statement
from app.engine.cursors import Cursor
from app.engine.view import Composed
from benchmarks.data import LISTING, NEIGHBOURS, ORGANIZATION, SORTED, Bench, Place
from benchmarks.figures import Figure, at_most, plain
from benchmarks.timing import Clocked, clocked, interleaved

PAGE_SIZE = 100

# The same page of the mirror alone, each row in the envelope that a row without drafts has.
BARE = """
SELECT convert_to(coalesce('[' || string_agg(p.row, ',' ORDER BY p.f_forecast_start, p.row_key) || ']', '[]'), 'UTF8')
  FROM (
      SELECT m.f_forecast_start, m.row_key,
             concat('{"id":', to_json(m.row_key), ',"data":', m.data,
                    ',"syncState":"pristine","version":0,"mirrorVersion":', m.version,
                    ',"modifiedFields":[],"modifiedAt":null,"modifiedBy":null,"conflicts":[]', '}') AS row
        FROM pfa.mirror AS m
       WHERE m.organization_id = $1
         AND m.f_category = $2
       ORDER BY m.f_forecast_start, m.row_key
       LIMIT $3
  ) AS p"""


def bare(organization: str = ORGANIZATION) -> Composed:
    """The page of LISTING without anybody's drafts."""
    return Composed(
        Statement("bare page", BARE, ("organization",)), [organization, dict(LISTING)["category"], PAGE_SIZE]
    )


def reading(connection: Connection, page: Composed) -> Clocked:
    """The statement's seconds, as the application runs it."""
    return clocked(partial(connection.row, page))


OVER_DRAFTS = (
    ("nobody", "that there are", 2.0),
    ("somebody", "all over the list, moved by a day", 2.0),
    ("near", "on every other row of the list's first pages, moved by a day", 2.0),
    ("quiet", "of a field without an index", 2.0),
    ("several", "that move their rows, all over the list", None),
    ("spread", "that move their rows, all over the list", 2.5),
    ("head", "that move the list's first rows to its end", 30.0),
)

SCALED = (
    ("nobody", ""),
    ("somebody", "all over the list"),
    ("near", "on every other row of the list's first pages"),
)

# What a grid asks for, and of whom it is measured.
INCLUDED = (*LISTING, ("include", "layers,computed"))
SHOWN = ("nobody", "somebody", "near")

MISSED_PAGE = """\
The bare page walks one index. The merged page walks the caller's drafts beside it, once for those that took their rows
away and once for those merged in place, and the places where drafts land; a drafted row of the page is looked up,
merged and described by itself. To fetch all documents after the keys, and to probe for drafts row by row, was tried:
together that took twice as long."""
MISSED_HEAD = """\
Before it finds the first row that stays, the statement passes all that went away, in the mirror's index and in that of
the drafts, side by side: 100,000 entries at some 90 nanoseconds. Probing for each took eight times as long, a hashed
`NOT IN` somewhat longer, and that on every page; a full join lost the order. To do better, a page would have to
remember where its first row was for as long as neither revision moves, which would help all pages but the first."""
MISSED_INCLUDED = """\
Five numbers and a flag are written for each row, and of a drafted one its layers. The columns are at hand, so that
nothing is computed; what is left is writing numbers as text."""
MISSED_SCALE = """\
The index of a million lines is a level or two deeper, and a page's documents lie on as many blocks as it has rows,
where a thousand lines fit into the processor's cache. Lines stored in the order of a list would help that list only."""


async def pages(bench: Bench) -> AsyncIterator[Figure]:
    """A filtered, sorted page of 100 against the same page of the bare mirror."""
    place = bench.big
    async with place.database.connection() as connection:
        # Whoever takes long to read gets turns with the bare page alone.
        near = [who for who, *_ in OVER_DRAFTS if who != "head"]
        bare_page, *merged = await interleaved(
            reading(connection, bare()), *(reading(connection, place.page(who)) for who in near),
            rounds=bench.rounds(300),
        )  # fmt: skip
        ratios = {who: seconds / bare_page for who, seconds in zip(near, merged, strict=True)}
        quick, slow = await interleaved(
            reading(connection, bare()), reading(connection, place.page("head")), rounds=bench.rounds(100)
        )
        ratios["head"] = slow / quick
        shown = {who: await _included(bench, connection, who) for who in SHOWN}
    for who, kind, limit in OVER_DRAFTS:
        name = f"page against the bare mirror, {_drafts(place.people[who].drafts, kind)}"
        ratio = ratios[who]
        missed = MISSED_HEAD if who == "head" else MISSED_PAGE
        yield plain(name, ratio, "x") if limit is None else at_most(name, ratio, limit, missed=missed)
    kinds = {who: kind for who, kind, _ in OVER_DRAFTS}
    for who, ratio in shown.items():
        drafts = _drafts(place.people[who].drafts, kinds[who])
        name = f"page with layers and computed columns against the page without, {drafts}"
        yield at_most(name, ratio, 1.3, missed=MISSED_INCLUDED)
    seconds = dict(zip(near, merged, strict=True))
    for who in ("nobody", "several", "spread"):
        bench.plot("drafts", "drafts all over the list", place.people[who].drafts, seconds[who])
    for who in ("nobody", "quiet"):
        bench.plot("drafts", "drafts that move nothing", place.people[who].drafts, seconds[who])
        bench.plot("drafts", "the bare mirror", place.people[who].drafts, bare_page)


def _drafts(count: int, kind: str) -> str:
    return f"{count:,} drafts {kind}" if count else "no drafts"


async def _included(bench: Bench, connection: Connection, who: str) -> float:
    """How much longer the page takes with each row's layers and computed columns."""
    bare_page, page = await interleaved(
        reading(connection, bench.big.page(who)),
        reading(connection, bench.big.page(who, INCLUDED)),
        rounds=bench.rounds(300),
    )
    return page / bare_page


async def scale(bench: Bench) -> AsyncIterator[Figure]:
    """The same page over few lines and over many."""
    small, big = bench.small, bench.big
    async with small.database.connection() as few, big.database.connection() as many:
        for who, kind in SCALED:
            at_few, between, at_many = await interleaved(
                reading(few, small.page(who)),
                reading(many, big.page(who, organization=NEIGHBOURS[0])),
                reading(many, big.page(who)),
                rounds=bench.rounds(300),
            )
            line = _drafts(big.people[who].drafts, kind)
            name, ratio = f"page of {big.rows:,} lines against {small.rows:,}, {line}", at_many / at_few
            # Of a thousand lines, drafts all over the list are on every page; those near its head are in both.
            yield at_most(name, ratio, 1.5, missed=MISSED_SCALE)
            bench.plot("rows", line, small.rows, at_few)
            bench.plot("rows", line, big.rows, at_many)
            if who == "nobody":
                bench.plot("rows", line, max(big.rows // 50, 1), between)


async def depth(bench: Bench) -> AsyncIterator[Figure]:
    """A page in the middle of the whole list, by cursor, against its first page."""
    place = bench.big
    deep = place.rows // 2
    cursor = await _cursor_at(place, deep)
    async with place.database.connection() as connection:
        for who in ("nobody", "somebody"):
            first, later = await interleaved(
                reading(connection, place.page(who, SORTED)),
                reading(connection, place.page(who, SORTED, cursor)),
                rounds=bench.rounds(300),
            )
            name = f"page at depth {deep:,} by cursor against the first, {place.people[who].drafts} drafts"
            yield at_most(name, later / first, 1.5, missed=MISSED_SCALE)


async def totals(bench: Bench) -> AsyncIterator[Figure]:
    """The first page after a save of one's own, which counts what the user's drafts do to the total."""
    place = bench.big
    async with place.database.connection() as connection:
        for who in ("nobody", "somebody", "spread"):
            known, counted = await interleaved(
                reading(connection, place.page(who)),
                reading(connection, place.page(who, counted=True)),
                rounds=bench.rounds(40),
            )
            drafts = f"{place.people[who].drafts:,} drafts"
            yield plain(f"page whose total is known, {drafts}", known * 1000, "ms")
            yield plain(f"page that counts it, after a save of one's own, {drafts}", counted * 1000, "ms")


async def _cursor_at(place: Place, depth: int) -> Cursor:
    record = await place.owner.fetchrow(
        "SELECT m.f_forecast_start::text AS day, m.row_key FROM pfa.mirror AS m WHERE m.organization_id = $1"
        " ORDER BY m.f_forecast_start, m.row_key OFFSET $2 LIMIT 1",
        ORGANIZATION, depth,
    )  # fmt: skip
    assert record is not None
    return Cursor((record["day"],), record["row_key"])
