"""PEMS's two endpoints, with everything that can go wrong in front of them and behind; without a server."""

import asyncio
import hmac
import time
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec

from app.base import exact_json
from app.base.clock import Clock, now
from app.simulator import screen
from app.simulator.columns import Columns
from app.simulator.dataspies import Dataspies, Dataspy
from app.simulator.faults import Edit, Endpoint, Fault, Faults, Hits, Step, come
from app.simulator.grid import GridRequest, Pages
from app.simulator.http import Answer, Dropped, Request
from app.simulator.lines import document_of, document_text, spare_of
from app.simulator.screen import ScreenRequest
from app.simulator.store import Applied, NotFound, Store, Unusable
from app.simulator.writing import Writing, rewritten

T = TypeVar("T")

ENDPOINTS: dict[str, Endpoint] = {
    "/axis/restservices/griddata": "grid",
    "/axis/restservices/grids": "grid",
    "/axis/restservices/userdefinedscreenservices": "screen",
}
NEEDED = ("tenant", "organization")
BOM = b"\xef\xbb\xbf"
LOGIN = "/login"
LOGIN_PAGE = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><form method='post' action='/login'>"
    b"<input name='user'><input name='password' type='password'><button>Sign in</button></form></body></html>"
)
HTML = b"<!DOCTYPE html><html><head><title>Maintenance</title></head><body><h1>Be back soon</h1></body></html>"


class Credentials:
    """What clients have to show, any of them. Not to be printed."""

    def __init__(self, user: str, password: str, api_key: str, token: str):
        basic = b64encode(f"{user}:{password}".encode()).decode()
        self._known = [
            ("authorization", f"Basic {basic}".encode()),
            ("authorization", f"Bearer {token}".encode()),
            ("x-api-key", api_key.encode()),
        ]

    def fit(self, headers: Mapping[str, str]) -> bool:
        """Whether these headers show them."""
        return any(hmac.compare_digest(headers.get(name, "").encode(), known) for name, known in self._known)


def read_credentials(environment: Mapping[str, str]) -> Credentials:
    """Those of the environment; what it does not say is for development."""
    return Credentials(
        environment.get("VANGUARD_PEMS_SIM_USER") or "pems",
        environment.get("VANGUARD_PEMS_SIM_PASSWORD") or "pems-simulator",
        environment.get("VANGUARD_PEMS_SIM_API_KEY") or "pems-simulator-key",
        environment.get("VANGUARD_PEMS_SIM_TOKEN") or "pems-simulator-token",
    )


class Refusal(Exception):
    """An answer with another status than 200."""

    def __init__(self, status: int, message: str, *headers: tuple[str, str]):
        super().__init__(message)
        self.status = status
        self.headers = headers


class Counts(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What has come in and what was done since the log was cleared.

    `requests`: `grid` or the action, whatever became of them. `writes`: by organization/id and action, those of
    clients. `applied`: every edit in turn, those of somebody in PEMS, too. `faults`: by kind, those that happened.
    """

    requests: dict[str, int]
    writes: dict[str, dict[str, int]]
    applied: list[Applied]
    faults: dict[str, int]


class Simulation:
    """PEMS over these lines: JSON texts by organization."""

    def __init__(
        self,
        lines: Mapping[str, Iterable[str]],
        *,
        credentials: Credentials | None = None,
        clock: Clock = now,
        journal: Path | None = None,
        seed: int = 1,
        latency: float = 0,
        rate: int | None = None,
        dataspies: Mapping[str, Dataspy] | None = None,
        default_dataspy: str | None = None,
    ):
        """`latency`: milliseconds; `rate`: requests a second. Raises ConfigurationError for a journal of no use."""
        self._clock = clock
        self._at: datetime | None = None
        self._store = Store(lines, self.now, journal)
        self._pages = Pages(self._store)
        self._faults = Faults(seed)
        self._changes: list[tuple[Columns, int]] = []
        self._requests: Counter[str] = Counter()
        self._credentials = credentials or read_credentials({})
        self._latency = latency
        self._rate = rate
        self._recent: deque[float] = deque()
        self.writing = Writing()  # how everything is written
        self.dataspies = Dataspies(dataspies=dict(dataspies or {}), default_dataspy=default_dataspy)

    def close(self) -> None:
        """Close the journal."""
        self._store.close()

    # --- steering and inspecting

    def now(self) -> datetime:
        """The simulator's time."""
        return self._at or self._clock()

    def set_clock(self, at: datetime | None) -> None:
        """Let time stand still there, or go on."""
        self._at = at

    def advance(self, by: timedelta) -> None:
        """Let time stand still so much later."""
        self._at = self.now() + by

    def sizes(self) -> dict[str, int]:
        """How many lines each organization has."""
        return {code: len(table.lines) for code, table in self._store.tables.items()}

    def record(self, organization: str, key: str) -> dict[str, Any] | None:
        """The record's document by the contract's names; None where it is not there."""
        found = self._store.find(organization, key)
        return document_of(found[0]) if found else None

    def spare(self, organization: str, key: str) -> dict[str, Any]:
        """The record's fields that the contract does not know, as its document would have them. Raises Unusable."""
        found = self._store.find(organization, key)
        if found is None:
            raise NotFound
        spare: dict[str, Any] = exact_json.decode(exact_json.encode(spare_of(found[0])))
        return spare

    def recordid(self, organization: str, key: str) -> int | None:
        """Its record id."""
        found = self._store.find(organization, key)
        return found[1] if found else None

    def records(self, organization: str | None = None) -> Iterator[tuple[dict[str, Any], int]]:
        """Documents and record ids, of all or of one organization, in the order of ids."""
        return ((document_of(line), recordid) for line, recordid in self._store.records(organization))

    def dump(self, organization: str | None = None) -> Iterator[bytes]:
        """The same, each as a line of JSON."""
        for line, recordid in self._store.records(organization):
            yield b'{"recordid":%d,"document":%s}\n' % (recordid, document_text(line))

    def put(self, organization: str, key: str, fields: Mapping[str, Any]) -> int:
        """Somebody adds the record, or replaces it; its record id. Raises Unusable."""
        return self._store.put(organization, key, fields, "somebody", whole=True)

    def edit(self, organization: str, key: str, fields: Mapping[str, Any]) -> int:
        """Somebody edits the record; its new record id. Raises Unusable."""
        if self._store.find(organization, key) is None:
            raise NotFound
        return self._store.put(organization, key, fields, "somebody")

    def delete(self, organization: str, key: str) -> None:
        """Somebody deletes the record. Raises Unusable."""
        self._store.delete(organization, key, "somebody")

    def fault(self, fault: Fault) -> None:
        """Let something go wrong. Raises msgspec.ValidationError for a writing that there is not."""
        rewritten(self.writing, fault.writing)
        self._faults.add(fault)

    def faults(self) -> list[Fault]:
        """What goes wrong at the moment."""
        return self._faults.on

    def clear_faults(self) -> None:
        """Nothing goes wrong any more, and no step of a script is left."""
        self._faults.clear()

    def script(self, *steps: Step) -> None:
        """What somebody does between the pages that are asked for from now on."""
        for step in steps:
            self._faults.plan(step)

    @property
    def columns(self) -> Columns:
        """What the grid's columns do at the moment."""
        return self._pages.columns

    def drift(self, *changes: Columns) -> None:
        """Let the grid's columns do this in place of what they did, each once its answers have been given."""
        for columns in changes:
            if columns.after:
                self._changes.append((columns, columns.after))
            else:
                self._pages.change(columns)

    def clear_columns(self) -> None:
        """The columns are as they were, and stay so."""
        self._changes.clear()
        self._pages.change(Columns())

    def render(self, writing: Writing | None = None, *, localized: bool = True) -> None:
        """Write all rows beforehand, and keep what is written until the line changes.

        `localized`: as requests see them that do not switch LOCALIZE_RESULT off.
        """
        self._pages.render(writing or self.writing, localized=localized)

    def counts(self) -> Counts:
        """What has come in and what was done."""
        writes: dict[str, dict[str, int]] = {}
        for each in self._store.applied:
            if each.by == "client":
                of = writes.setdefault(f"{each.organization}/{each.id}", {"ADD": 0, "UPDATE": 0, "DELETE": 0})
                of[each.action] += 1
        return Counts(
            requests=dict(self._requests),
            writes=writes,
            applied=list(self._store.applied),
            faults=dict(self._faults.hit),
        )

    def clear_counts(self) -> None:
        """Count from here."""
        self._requests.clear()
        self._store.applied.clear()
        self._faults.hit.clear()

    # --- answering

    async def answer(self, request: Request) -> Answer:
        """The answer to a client of PEMS. Raises Dropped where the connection ends without one."""
        try:
            return await self._answer(request)
        except Refusal as refusal:
            body = alert("Error", str(refusal)) if refusal.status != 404 else b""
            return Answer(refusal.status, body, headers=refusal.headers)

    async def _answer(self, request: Request) -> Answer:
        if request.path == LOGIN:
            return Answer(200, LOGIN_PAGE, "text/html")
        self._admit(request)
        at = ENDPOINTS[request.path]
        if at == "grid":
            asked: GridRequest | ScreenRequest = _read(request, GridRequest)
            action = None
        else:
            asked = _read(request, ScreenRequest)
            action = asked.action if asked.action in screen.ACTIONS else "other"
        self._requests[action or at] += 1
        hits = self._faults.draw(at, action)
        await self._before(hits)
        if "login" in hits:
            return Answer(200, LOGIN_PAGE, "text/html")
        if "redirect" in hits:
            return Answer(302, b"", headers=(("Location", LOGIN),))
        writing = self._writing(hits)
        status, body = self._told(asked, hits, writing)
        return await self._after(status, BOM + body if writing.bom else body, hits)

    def _admit(self, request: Request) -> None:
        """Raises Refusal."""
        if request.path not in ENDPOINTS:
            raise Refusal(404, f"There is nothing at {request.path[:80]}")
        if request.method != "POST":
            raise Refusal(405, "Only POST is understood here", ("Allow", "POST"))
        if not self._may_come():
            raise Refusal(429, "Too many requests", ("Retry-After", "1"))
        if not self._credentials.fit(request.headers):
            raise Refusal(401, "Authorization failed", ("WWW-Authenticate", 'Basic realm="PEMS"'))
        for name in NEEDED:
            if not request.headers.get(name):
                raise Refusal(400, f"The header {name} is missing")

    def _may_come(self) -> bool:
        """Whether there were fewer requests in the last second than allowed."""
        if self._rate is None:
            return True
        at = time.monotonic()
        while self._recent and self._recent[0] <= at - 1:
            self._recent.popleft()
        if len(self._recent) >= self._rate:
            return False
        self._recent.append(at)
        return True

    async def _before(self, hits: Hits) -> None:
        """Raises Dropped, Refusal."""
        milliseconds = self._latency + sum(map(self._faults.milliseconds, hits.get("latency", ())))
        if milliseconds:
            await asyncio.sleep(milliseconds / 1000)
        if "drop_before" in hits:
            raise Dropped
        for status in hits.get("status", ()):
            seconds = f"{status.retry_after:g}" if status.retry_after is not None else None
            after = status.retry_after_text or seconds
            raise Refusal(status.status, status.message, *([("Retry-After", after)] if after else []))

    def _writing(self, hits: Hits) -> Writing:
        """How this answer is written."""
        writing = self.writing
        for fault in hits.get("writing", ()):
            writing = rewritten(writing, fault.writing)
        return writing

    def _told(self, asked: GridRequest | ScreenRequest, hits: Hits, writing: Writing) -> tuple[int, bytes]:
        """Status and body."""
        for fault in hits.get("alert", ()):
            return writing.alerts, alert(fault.name, fault.message)
        for fault in hits.get("confirm", ()):
            return writing.alerts, alert(fault.name, fault.message, "ConfirmationAlert")
        try:
            return 200, self._work(asked, hits, writing)
        except Unusable as error:
            return writing.alerts, alert("Error", str(error))

    def _work(self, asked: GridRequest | ScreenRequest, hits: Hits, writing: Writing) -> bytes:
        """Raises Unusable."""
        if isinstance(asked, ScreenRequest):
            return screen.answer(self._store, asked, writing)
        body = self._pages.answer(asked, writing, self.dataspies, self._faults.trouble(hits))
        known = self._pages.known
        organizations = [
            str(each.value)
            for group in asked.filters
            for each in group
            if known[each.alias_name].name == "organization"
        ]
        for edit in self._faults.due(organizations):
            self._do(edit)
        for columns in come(self._changes, organizations):
            self._pages.change(columns)
        return body

    def _do(self, edit: Edit) -> None:
        if edit.op == "delete":
            self.delete(edit.organization, edit.id)
        elif edit.op == "put":
            self.put(edit.organization, edit.id, edit.fields)
        else:
            self.edit(edit.organization, edit.id, edit.fields)

    async def _after(self, status: int, body: bytes, hits: Hits) -> Answer:
        """Raises Dropped."""
        for late in hits.get("late", ()):
            await asyncio.sleep(self._faults.milliseconds(late) / 1000)
        if "drop_after" in hits:
            raise Dropped
        if "html" in hits:
            return Answer(200, HTML, "text/html")
        if "broken_json" in hits:
            return Answer(200, body[:-3] + b"]")
        return Answer(status, body, half="half" in hits)


def alert(name: str, message: str, member: Literal["ErrorAlert", "ConfirmationAlert"] = "ErrorAlert") -> bytes:
    """An answer that is an error, or a question."""
    body: dict[str, Any] = {"ErrorAlert": None, "ConfirmationAlert": None, "Result": None}
    return exact_json.encode(body | {member: [{"Name": name, "Message": message}]})


def _read(request: Request, shape: type[T]) -> T:
    """The body; numbers may come as text. Raises Refusal."""
    if request.body is None:
        raise Refusal(413, "The body is too long")
    try:
        return msgspec.json.Decoder(shape, strict=False, float_hook=Decimal).decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, InvalidOperation, RecursionError) as error:
        raise Refusal(400, f"The body cannot be read: {str(error)[:200]}") from None
