"""`GET D/export`: the caller's view as a file."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import msgspec
from litestar import get
from litestar.openapi.spec import OpenAPIFormat, OpenAPIMediaType, OpenAPIResponse, OpenAPIType, Operation, Schema

from app.base import exact_json
from app.base.statements import statement
from app.contracts import Contract
from app.contracts.filters import BOOLEANS, BOUNDS, Bounds, Listing, read_include, read_listing, read_parameters, refuse
from app.engine.desk import Desk
from app.engine.export import ExportComposer
from app.engine.locks import read_dataset
from app.exports.columns import Column, exported
from app.exports.download import Download, noted
from app.exports.formats import Csv, Writer
from app.exports.writers import WRITERS
from app.web.auth import Action, require
from app.web.openapi import DATASET_PATH, DatasetName, Organization, answers, filter_parameters, parameter
from app.web.runtime import Runtime, VanguardRequest, contract_of

BEGIN = statement("exports/begin")

HEADERS = ("names", "labels")
REFUSED = ("page", "pageSize", "after", "count")
MOST_ROWS = 1000  # that are fetched at once
MOST_BYTES = 16 * 2**20  # that they may have, were every text of them as long as may be
SHORT = 40  # bytes of what is no text


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What an export request asks for; `labels` and `mark` are of CSV."""

    listing: Listing
    format: str
    labels: bool
    mark: bool


@dataclass
class ExportOperation(Operation):
    """The parameters for /schema: the handler reads the query string itself, as a contract names them."""

    def __post_init__(self) -> None:
        self.parameters = [
            *(self.parameters or []),
            parameter("format", "string", "What the file is", enum=list(WRITERS), default="csv"),
            parameter("sort", "string", "Fields, comma-separated, - for descending"),
            parameter("fields", "string", "Only these fields and computed columns, comma-separated"),
            parameter("include", "string", "computed: all computed columns", enum=["computed"]),
            parameter("header", "string", "CSV: what its first line has", enum=list(HEADERS), default="names"),
            parameter("bom", "boolean", "CSV: begin with a byte order mark", default=False),
            *filter_parameters(),
        ]
        file = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY))
        for status, answer in (self.responses or {}).items():
            if status == "200" and isinstance(answer, OpenAPIResponse):
                answer.content = {writer.media_type: file for writer in WRITERS.values()}


def read_wanted(contract: Contract, parameters: Sequence[tuple[str, str]], bounds: Bounds = BOUNDS) -> Wanted:
    """Check the query parameters of an export; raises InvalidFilter that names the first one at fault."""
    own: dict[str, str] = {}
    for name, value in parameters:
        if name in REFUSED:
            raise refuse(name, "an export has all rows that pass the filters.")
        if name == "include":
            read_include([value], ("computed",))
        if name in ("format", "header", "bom"):
            if name in own:
                raise refuse(name, "it can be given once.")
            own[name] = value
    format_ = _choice(own, "format", tuple(WRITERS))
    header, mark = _choice(own, "header", HEADERS), _choice(own, "bom", ("false", "true"))
    if format_ != "csv" and (given := own.keys() - {"format"}):
        raise refuse(min(given), "it goes with format=csv.")
    listing = read_listing(contract, [(name, value) for name, value in parameters if name not in own], bounds)
    return Wanted(listing=listing, format=format_, labels=header == "labels", mark=BOOLEANS[mark])


def _choice(own: dict[str, str], name: str, choices: tuple[str, ...]) -> str:
    value = own.get(name, choices[0])
    if value not in choices:
        raise refuse(name, f"one of {', '.join(choices)}.")
    return value


def _writer(wanted: Wanted, columns: Sequence[Column]) -> Writer:
    if wanted.format == "csv":
        return Csv(columns, labels=wanted.labels, mark=wanted.mark)
    return WRITERS[wanted.format](columns)


class Lines:
    """The rows of a view as lines of a format, of one snapshot; `headers` get what is known when they begin."""

    def __init__(self, runtime: Runtime, composer: ExportComposer, writer: Writer):
        self._runtime, self._composer, self._size = runtime, composer, _fetched(composer.contract)
        self._rows = composer.rows(writer.form)
        self.headers: dict[str, str] = {}

    async def batches(self) -> AsyncGenerator[list[str], None]:
        """Raises DatasetNotFound."""
        composer, seconds = self._composer, self._runtime.settings.export_timeout
        async with self._runtime.database.transaction() as connection:
            await connection.row(BEGIN, seconds=seconds, walk=composer.walks)
            await read_dataset(Desk(connection, composer.contract, composer.organization))
            self.headers["X-Estimated-Rows"] = _estimated(await connection.value(composer.estimate()))
            async with aclosing(connection.batches(self._rows, self._size)) as batches:
                async for records in batches:
                    yield [record["line"] for record in records]


def _estimated(plan: str) -> str:
    return str(int(exact_json.decode(plan)[0]["Plan"]["Plan Rows"]))


def _fetched(contract: Contract) -> int:
    """How many rows may be in memory at once."""
    longest = sum(field.max_length if field.type == "text" else SHORT for field in contract.fields)
    return max(1, min(MOST_ROWS, MOST_BYTES // longest))


@get(
    f"{DATASET_PATH}/export",
    opt=require(Action.QUERY),
    tags=["rows"],
    summary="Your view as a file",
    operation_class=ExportOperation,
    responses=answers(bytes, 404, description="The file"),
)
async def export(request: VanguardRequest, org: Organization, dataset: DatasetName) -> Download:
    """All rows that pass the filters, merged and sorted as in a list, as CSV, XLSX or NDJSON; streamed at any size."""
    runtime = request.runtime
    contract = await contract_of(request, org, dataset)
    wanted = read_wanted(contract, read_parameters(request.scope["query_string"]), runtime.bounds)
    columns = exported(contract, wanted.listing)
    writer = _writer(wanted, columns)
    composer = ExportComposer(contract, wanted.listing, org, request.user.user_id)
    lines = Lines(runtime, composer, writer)
    name = f"{contract.name}-{runtime.clock().date()}"
    note = noted(request, org, contract.name, "rows", wanted.format)
    return Download(runtime, writer, name, lines.batches, writer.lines, note, lines.headers)


ROUTES = [export]
