"""The founding document's approach on the same data, and its figures beside ours. Nothing here has a bound."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from benchmarks.api import get, request
from benchmarks.bench_rows import PAGE_SIZE, reading
from benchmarks.data import LISTING, ORGANIZATION, PATH, SORTED, Bench
from benchmarks.figures import Figure, plain
from benchmarks.timing import Clocked, clocked, interleaved

# Its query: drafts are laid over the mirror's page. Filters, sort and count see the mirror's values, not the user's.
JOINED = """
  FROM pfa.mirror AS m
  LEFT JOIN pfa.modification AS x
    ON x.organization_id = m.organization_id AND x.row_key = m.row_key AND x.user_id = $2
   AND x.sync_state IN ('draft', 'committed', 'syncing')
 WHERE m.organization_id = $1"""
PAGE = f"""
SELECT m.row_key, coalesce(m.data, '{{}}') || coalesce(x.delta, '{{}}') AS data, coalesce(x.sync_state, 'pristine'),
       x.modified_at, x.user_id {JOINED} /*filter*/
 ORDER BY m.f_forecast_start LIMIT $3 OFFSET $4"""
COUNT = f"SELECT count(*) {JOINED} /*filter*/"

# What it measured over HTTP on 1,000 lines with 50 drafts, in milliseconds.
PUBLISHED = {
    "page, no filter": 85,
    "page, three filters": 95,
    "saving 1 draft": 45,
    "saving 10 drafts": 120,
    "committing 5 drafts": 120,
    "discarding": 35,
}
THREE_FILTERS = (*LISTING, ("source", "Rental"), ("isActualized", "false"))


async def founding(bench: Bench) -> AsyncIterator[Figure]:
    """The founding query, whose total counts as its page does, and ours."""
    place = bench.big
    category = f"AND m.f_category = '{dict(LISTING)['category']}'"

    def asked(query: str, who: str, *more: Any, filtered: str = "") -> Clocked:
        user = place.people[who].id
        return clocked(partial(place.owner.fetch, query.replace("/*filter*/", filtered), ORGANIZATION, user, *more))

    async with place.database.connection() as connection:
        for who in ("nobody", "somebody", "spread"):
            drafts = place.people[who].drafts
            theirs, total, ours = await interleaved(
                asked(PAGE, who, PAGE_SIZE, 0, filtered=category),
                asked(COUNT, who, filtered=category),
                reading(connection, place.page(who)),
                rounds=bench.rounds(40),
            )
            yield plain(f"the founding query, filtered page, {drafts:,} drafts", theirs * 1000, "ms")
            yield plain(f"its total, counted for each page, {drafts:,} drafts", total * 1000, "ms")
            yield plain(f"Vanguard's page, with its total kept, {drafts:,} drafts", ours * 1000, "ms")
            if who != "somebody":
                bench.plot("drafts", "the founding query, with its total", drafts, theirs + total)
        deep = place.rows // 2
        (there,) = await interleaved(asked(PAGE, "nobody", PAGE_SIZE, deep), rounds=bench.rounds(10), warm_ups=1)
        (here,) = await interleaved(reading(connection, place.page("nobody", SORTED)), rounds=bench.rounds(40))
        yield plain(f"the founding query, page at OFFSET {deep:,}", there * 1000, "ms")
        yield plain("Vanguard's first page of the same list", here * 1000, "ms")


async def published(bench: Bench) -> AsyncIterator[Figure]:
    """Each operation that the founding document timed, over HTTP, on our many lines."""
    token = bench.big.people["somebody"].token
    pages = {
        "page, no filter": get(f"{PATH}/rows", token, SORTED),
        "page, three filters": get(f"{PATH}/rows", token, THREE_FILTERS),
    }
    await bench.api.turns(*([each] for each in pages.values()), rounds=10)
    read = await bench.api.turns(*([each] for each in pages.values()), rounds=bench.rounds(100))
    seconds = dict(zip(pages, read, strict=True))
    rounds = bench.rounds(60)
    writes = [_writes(bench, number) for number in range(rounds)]
    taken = await bench.api.turns(*zip(*writes, strict=True), rounds=rounds, forwards=True)
    seconds |= dict(
        zip(("saving 1 draft", "discarding", "saving 10 drafts", "committing 5 drafts"), taken, strict=False)
    )
    for name, milliseconds in PUBLISHED.items():
        yield plain(f"{name}, {bench.big.rows:,} lines (founding document, 1,000 lines: {milliseconds} ms)",
                    seconds[name] * 1000, "ms")  # fmt: skip


def _writes(bench: Bench, number: int) -> list[str]:
    """One round: save one, discard it, save ten, commit five of them, discard the rest."""
    token = bench.big.people["founder"].token
    keys = [f"PFA-{(number * 11 + n) % bench.big.rows + 1:07d}" for n in range(11)]

    def post(action: str, body: Any) -> str:
        return request("POST", f"{PATH}/{action}", token, body)

    def saving(some: list[str]) -> str:
        figures = {"monthlyRate": 2000 + number, "purchasePrice": 80_000}
        return post("drafts", {"modifications": [{"id": key, "delta": figures} for key in some]})

    return [
        saving(keys[:1]),
        post("discard", {"ids": keys[:1]}),
        saving(keys[1:]),
        post("commit", {"ids": keys[1:6]}),
        post("discard", {"ids": keys[6:]}),
    ]
