"""The kinds of requests: request n of a kind is the same on every side."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from benchmarks.against.checkout import Refused
from benchmarks.against.sides import ORGANIZATION, Api
from benchmarks.documents import parts

FIRST = "visitor"  # whoever asks before anything is measured
DATASET = f"/api/v1/orgs/{ORGANIZATION}/datasets/pfa"
LISTINGS: Sequence[Mapping[str, str]] = (
    {},
    {"category": "Aerial Lifts"},
    {"monthlyRate[gte]": "5000"},
)
PLAIN: Mapping[str, str] = {"category": "Aerial Lifts", "count": "none"}
RANGE: Mapping[str, str] = {"monthlyRate[gte]": "2000", "monthlyRate[lt]": "8000", "count": "none"}
SEARCH: Mapping[str, str] = {"search": "lift", "count": "none"}
DRAFTED = 500  # rows that the reader has drafts of, all over the list
SAVED = 200  # rows that the saver saves again and again
FIVE = 5  # rows in a commit
BULKS = 5  # a single one may take a fifth more or less than another
BATCH = 500  # rows in a save that is not measured
SLICE, WARM_UPS = 10, 30


class Work(NamedTuple):
    """A kind of request: what each of them does, and what has to be done before so many, unmeasured.

    slice: requests until it is the other side's turn; warm_ups: those ahead of a turn; requests: those of a turn, as
    many as take long enough if None; takes: how often those are prepared and taken in a turn; served: whether it is the
    API that is asked; rows: lines that a request uses up, until they are prepared again.
    """

    name: str
    request: Callable[[Api, int], None]
    prepare: Callable[[Api, int, int], None]
    slice: int = SLICE
    warm_ups: int = WARM_UPS
    requests: int | None = None
    takes: int = 1
    served: bool = True
    rows: int = 0


class Sizes(NamedTuple):
    """How large the large ones are: documents of a turn's loads, drafts of a bulk."""

    documents: int
    drafts: int


# -- preparation -------------------------------------------------------------------------------------------------------


def settle(api: Api, rows: int) -> None:
    """Learn the lines' ids, and give the reader drafts: forecasts a day later."""
    days: dict[str, str] = {}
    params = {"pageSize": "1000", "fields": "forecastStart", "count": "none"}
    while len(api.side.ids) < rows:
        page = api.ask("GET", f"{DATASET}/rows?{urlencode(params)}", "reader")
        api.side.ids += [row["id"] for row in page["data"]]
        days |= {row["id"]: row["data"]["forecastStart"] for row in page["data"]}
        if page["pagination"]["nextCursor"] is None:
            break
        params["after"] = page["pagination"]["nextCursor"]
    dated = [each for each in api.side.ids if days[each]]
    chosen = dated[:: max(1, len(dated) // min(DRAFTED, rows // 4))]
    later = {each: (date.fromisoformat(days[each]) + timedelta(1)).isoformat() for each in chosen}
    _save(api, "reader", [{"id": each, "delta": {"forecastStart": day}} for each, day in later.items()])


def lists(api: Api) -> list[Any]:
    """What the listings' first pages hold: on both sides the same, if both make the same lines."""
    pages = [api.ask("GET", _page_of(listing), "reader")["data"] for listing in LISTINGS]
    return [[(row["id"], row["data"]) for row in page] for page in pages]


def _save(api: Api, person: str, drafts: Sequence[Mapping[str, Any]]) -> None:
    for start in range(0, len(drafts), BATCH):
        answer = api.ask("POST", f"{DATASET}/drafts", person, {"modifications": drafts[start : start + BATCH]})
        if answer["errors"]:
            raise Refused(f"A save of {api.side.name} was refused: {answer['errors'][0]}")


# -- what is measured --------------------------------------------------------------------------------------------------


def _page(api: Api, number: int) -> None:
    api.exchange("GET", _page_of(LISTINGS[number % len(LISTINGS)]), "reader")


def _plain(api: Api, number: int) -> None:
    api.exchange("GET", _page_of(PLAIN), "visitor")


def _range(api: Api, number: int) -> None:
    api.exchange("GET", _page_of(RANGE), "visitor")


def _search(api: Api, number: int) -> None:
    api.exchange("GET", _page_of(SEARCH), "visitor")


def _one_of_each(api: Api, first: int, requests: int) -> None:
    """Totals that the commits of before made stale are counted anew."""
    for number in range(len(LISTINGS)):
        _page(api, number)


def _page_of(listing: Mapping[str, str]) -> str:
    """The address of a listing's first page."""
    return f"{DATASET}/rows?{urlencode({'sort': 'forecastStart', 'pageSize': '100', **listing})}"


def _save_one(api: Api, number: int) -> None:
    _save(api, "saver", [_draft(api, number % min(SAVED, len(api.side.ids)), number)])


def _prepare_commits(api: Api, first: int, commits: int) -> None:
    """Save what the commits will be of."""
    rows = range(first * FIVE, (first + commits) * FIVE)
    _save(api, "committer", [_draft(api, row, first + row // FIVE) for row in rows])


def _commit(api: Api, number: int) -> None:
    rows = range(number * FIVE, (number + 1) * FIVE)
    answer = api.ask("POST", f"{DATASET}/commit", "committer", {"ids": [_id(api, row) for row in rows]})
    if answer["committed"] != FIVE:
        raise Refused(f"A commit of {api.side.name} was of {answer['committed']} rows instead of {FIVE}.")


def _draft(api: Api, row: int, number: int) -> dict[str, Any]:
    # With both figures a line keeps the contract's rules, whatever its source.
    return {"id": _id(api, row), "delta": {"monthlyRate": 1000 + number % 80_000, "purchasePrice": 90_000}}


def _id(api: Api, row: int) -> str:
    return api.side.ids[row % len(api.side.ids)]


def _nothing(api: Api, first: int, requests: int) -> None:
    pass


# -- what is large -----------------------------------------------------------------------------------------------------


class _Saved(msgspec.Struct):
    errors: list[Any]


class _Bulk:
    """Every other line gets a draft, all in one request; before, those of the last one are taken away."""

    def __init__(self, drafts: int):
        self._drafts, self._body = drafts, b""

    def prepare(self, api: Api, first: int, requests: int) -> None:
        api.exchange("POST", f"{DATASET}/discard", "importer", {"all": True})
        api.side.vacuum()
        ids = api.side.ids[1::2][: self._drafts]
        drafts = [
            {"id": key, "delta": {"forecastEnd": f"2033-{n % 12 + 1:02d}-01", "monthlyRate": 100 + first}}
            for n, key in enumerate(ids)
        ]
        self._body = msgspec.json.encode({"modifications": drafts})

    def request(self, api: Api, number: int) -> None:
        answer = api.exchange("POST", f"{DATASET}/drafts", "importer", self._body)
        if errors := msgspec.json.decode(answer, type=_Saved).errors:
            raise Refused(f"A save of {api.side.name} was refused: {errors[0]}")


class _Load:
    """One part of the documents after another into the mirror, which is empty before a turn."""

    def __init__(self, documents: int):
        self.parts = list(parts(ORGANIZATION, documents))

    def prepare(self, api: Api, first: int, requests: int) -> None:
        assert api.side.loading is not None
        api.side.loading.begin()

    def request(self, api: Api, number: int) -> None:
        assert api.side.loading is not None
        api.side.loading.copy(self.parts[number % len(self.parts)])


KINDS = ("page", "plain", "range", "search", "save", "commit", "bulk", "load")
USUAL = ("page", "save", "commit")


def works(kinds: Collection[str], sizes: Sizes) -> list[Work]:
    """The kinds that are wanted, in their order."""
    bulk = _Bulk(sizes.drafts)
    found = [
        Work("page", _page, _one_of_each),
        Work("plain", _plain, _nothing),
        Work("range", _range, _nothing),
        Work("search", _search, _nothing),
        Work("save", _save_one, _nothing),
        Work("commit", _commit, _prepare_commits, rows=FIVE),
        Work("bulk", bulk.request, bulk.prepare, 1, 1, requests=1, takes=BULKS),
    ]
    if "load" in kinds:
        load = _Load(sizes.documents)
        found.append(Work("load", load.request, load.prepare, 1, 1, requests=len(load.parts), served=False))
    return [work for work in found if work.name in kinds]
