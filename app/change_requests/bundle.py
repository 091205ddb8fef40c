"""The bundle of a merge: what it did, to which cells, which conflicts it met, and what validation said. As one JSON
document, or as files of a ZIP. Both are made while they are sent, however many cells there are.
"""

import uuid
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing
from datetime import datetime
from typing import Any

import msgspec
from stream_zip import ZIP_64, async_stream_zip

from app.base import exact_json
from app.base.database import Database
from app.change_requests.reading import ShownCell, read_cells, shown_cell
from app.change_requests.requests import ChangeRequest, Person, read_request
from app.contracts import Contract
from app.contracts.conflicts import ShownConflict
from app.engine.desk import Desk

FORMATS = ("json", "zip")
MODE = 0o644  # of the files in a ZIP


class Bundle(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is left of a merge, each part also when there is nothing in it: null before the merge, or empty."""

    merge_result: dict[str, Any] | None
    diff: list[ShownCell]
    conflicts: list[ShownConflict]
    validation: dict[str, Any]


class Bundling:
    """The making of one bundle, for somebody who may read the request."""

    def __init__(
        self, database: Database, contract: Contract, organization: str, person: Person, request_id: uuid.UUID
    ):
        self._database, self._contract, self._organization = database, contract, organization
        self._person, self._request_id = person, request_id

    async def begin(self) -> ChangeRequest:
        """The request; raises ChangeRequestNotFound."""
        async with self._database.connection() as connection:
            desk = Desk(connection, self._contract, self._organization)
            return await read_request(desk, self._person, self._request_id)

    async def json(self, request: ChangeRequest) -> AsyncGenerator[bytes, None]:
        """The bundle as one document."""
        yield b'{"mergeResult":%b,"diff":' % exact_json.encode(request.result)
        async for part in self._diff(request):
            yield part
        conflicts, validation = exact_json.encode(request.conflicts), exact_json.encode(request.shown_validation)
        yield b',"conflicts":%b,"validation":%b}' % (conflicts, validation)

    def zipped(self, request: ChangeRequest, at: datetime) -> AsyncIterable[bytes]:
        """The same as files: merge_result.json, diff.json, conflicts.json, validation.json."""

        async def whole(part: Any) -> AsyncGenerator[bytes, None]:
            yield exact_json.encode(part)

        async def files() -> AsyncIterator[tuple[str, datetime, int, Any, AsyncIterable[bytes]]]:
            for name, content in (
                ("merge_result", whole(request.result)),
                ("diff", self._diff(request)),
                ("conflicts", whole(request.conflicts)),
                ("validation", whole(request.shown_validation)),
            ):
                yield f"{name}.json", at, MODE, ZIP_64, content

        return async_stream_zip(files())

    async def _diff(self, request: ChangeRequest) -> AsyncGenerator[bytes, None]:
        """The cells as a JSON array, a batch at a time; of one snapshot."""
        opening = b"["
        async with self._database.transaction() as connection:
            desk = Desk(connection, self._contract, self._organization)
            async with aclosing(read_cells(desk, request)) as batches:
                async for batch in batches:
                    if batch:
                        yield opening + exact_json.encode([shown_cell(row) for row in batch])[1:-1]
                        opening = b","
        yield b"[]" if opening == b"[" else b"]"
