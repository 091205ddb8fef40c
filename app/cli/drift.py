"""`vanguard drift`: what has drifted, and what is decided about it by whoever runs the installation."""

import uuid
from collections.abc import Awaitable, Callable

import click
import msgspec

from app.base import exact_json
from app.base.clock import now
from app.base.database import Connection, Database
from app.base.errors import DatasetNotFound, NotFound
from app.base.origin import COMMAND_LINE
from app.base.settings import Settings, read_settings
from app.base.statements import statement
from app.cli.program import main, print_table, with_database
from app.cli.watched import printable
from app.contracts import BUILT_IN, Contract
from app.contracts.comparison import Kind
from app.contracts.states import ReportState
from app.drift_reports.decisions import Decision, accept, map_field, reject
from app.drift_reports.wire import ChangeAnswer, ReportAnswer, ReportSummary, read_report, summary_of
from app.engine.datasets import Datasets, base_of
from app.engine.desk import Desk
from app.engine.locks import read_dataset
from app.main import owner_settings

LIST_DATASETS = statement("datasets/list_datasets")
LIST_REPORTS = statement("drift/list_reports")

MOST = 10_000  # reports that are listed
Act = Callable[[Desk, uuid.UUID, Decision], Awaitable[None]]


@main.group()
def drift() -> None:
    """What is not as contracts have it, and what is decided about that."""


@drift.command("list")
@click.option("--org", "organization", required=True, help="Of this organization.")
@click.option("--dataset", help="Only of this dataset.")
@click.option("--state", type=click.Choice([state.value for state in ReportState]), help="Only these.")
@click.option("--most", type=click.IntRange(1, MOST), default=50, show_default=True, help="So many reports.")
@click.option("--json", "as_lines", is_flag=True, help="As lines of JSON.")
def list_reports(organization: str, dataset: str | None, state: str | None, most: int, *, as_lines: bool) -> None:
    """List reports of drift, the newest first."""

    async def read(_: Settings, database: Database) -> list[ReportSummary]:
        async with database.connection() as connection:
            bases = await _bases(connection, organization, dataset)
            found = [each for base in bases for each in await _reports(connection, organization, base, state, most)]
        return sorted(found, key=lambda each: each.at, reverse=True)[:most]

    found = with_database(read)
    if as_lines:
        for each in found:
            click.echo(exact_json.encode(each))
        return
    rows = [
        (
            each.at, each.dataset, each.version, each.source, each.state, each.severity, _risk(each), str(each.changes),
            str(each.times), each.id,
        )
        for each in found
    ]  # fmt: skip
    print_table(
        "AT", "DATASET", "VERSION", "SOURCE", "STATE", "SEVERITY", "RISK", "CHANGES", "TIMES", "REPORT", rows=rows
    )  # fmt: skip


async def _bases(connection: Connection, organization: str, dataset: str | None) -> list[str]:
    """Names without versions; raises NotFound, DatasetNotFound."""
    rows = await connection.rows(LIST_DATASETS, organization=organization, hidden=[])
    bases = sorted({row["base"] for row in rows})
    if not bases:
        raise NotFound(f"There is no organization {organization}.")
    if dataset is None:
        return bases
    if base_of(dataset) not in bases:
        raise _no_dataset(organization, dataset)
    return [base_of(dataset)]


async def _reports(
    connection: Connection, organization: str, base: str, state: str | None, most: int
) -> list[ReportSummary]:
    rows = await connection.rows(
        LIST_REPORTS, organization=organization, base=base, state=state, severity=None, after=None, after_id=None,
        limit=most, shadow=True,
    )  # fmt: skip
    return [summary_of(base, row) for row in rows]


@drift.command()
@click.argument("report", type=click.UUID)
@click.option("--org", "organization", required=True, help="Its organization.")
@click.option("--dataset", required=True, help="Its dataset, or a version of it.")
@click.option("--json", "as_json", is_flag=True, help="As a line of JSON.")
def show(report: uuid.UUID, organization: str, dataset: str, *, as_json: bool) -> None:
    """Show REPORT with its changes, and who uses the fields that they are about."""

    async def read(_: Settings, database: Database) -> ReportAnswer:
        contract = await _contract(database, organization, dataset)
        async with database.connection() as connection:
            return await read_report(Desk(connection, contract, organization), report)

    found = with_database(read)
    if as_json:
        click.echo(exact_json.encode(found))
        return
    click.echo(
        f"{found.dataset} {found.version}, {found.source}: {found.severity}, {found.state}; risk {_risk(found)}; "
        f"seen {found.times} times from {found.at} to {found.seen_at}."
    )
    rows = [
        (
            each.kind, _text(each.field or each.path), _text(each.from_), _text(each.to), _values(each), each.severity,
            "" if each.confidence is None else f"{each.confidence:.2f}", _users(each), _decision(each),
        )
        for each in found.changes
    ]  # fmt: skip
    print_table(
        "KIND", "FIELD", "FROM", "TO", "CHANGE", "SEVERITY", "CONFIDENCE", "USED BY", "DECISION", rows=rows
    )  # fmt: skip
    if found.decided_at is not None:
        reason = "" if found.reason is None else f": {printable(found.reason)}"
        made = "" if found.made_version is None else f", which made version {found.made_version}"
        click.echo(f"{found.state} at {found.decided_at} by {_decider(found)}{made}{reason}.")


@drift.command("accept")
@click.argument("report", type=click.UUID)
@click.option("--org", "organization", required=True, help="Its organization.")
@click.option("--dataset", required=True, help="Its dataset, or a version of it.")
def accept_report(report: uuid.UUID, organization: str, dataset: str) -> None:
    """Accept REPORT: what came counts from now on. Done by the database's owner where that makes a version."""
    found = _decided(accept, report, organization, dataset, owning=True)
    made = "" if found.made_version is None else f" It made version {found.made_version}."
    click.echo(f"Accepted the report {found.id} of {found.dataset}.{made}")


@drift.command("map")
@click.argument("report", type=click.UUID)
@click.option("--org", "organization", required=True, help="Its organization.")
@click.option("--dataset", required=True, help="Its dataset, or a version of it.")
@click.option("--from", "from_", metavar="FIELD", required=True, help="The field, or the column that it was read from.")
@click.option("--to", metavar="COLUMN", required=True, help="The column that it is read from now on.")
def map_report(report: uuid.UUID, organization: str, dataset: str, from_: str, to: str) -> None:
    """Read a field of REPORT from another column."""

    async def act(desk: Desk, id_: uuid.UUID, by: Decision) -> None:
        await map_field(desk, id_, from_, to, by)

    found = _decided(act, report, organization, dataset)
    click.echo(f"Mapped {printable(from_)} to {printable(to)} in the report {found.id} of {found.dataset}.")
    if found.decided_at is None:
        click.echo("It counts once nothing is left that is BREAKING and undecided.")


@drift.command("reject")
@click.argument("report", type=click.UUID)
@click.option("--org", "organization", required=True, help="Its organization.")
@click.option("--dataset", required=True, help="Its dataset, or a version of it.")
@click.option("--reason", required=True, help="Why; whoever sends it is told.")
def reject_report(report: uuid.UUID, organization: str, dataset: str, reason: str) -> None:
    """Reject REPORT: what came stays outside."""

    async def act(desk: Desk, id_: uuid.UUID, by: Decision) -> None:
        await reject(desk, id_, reason, by)

    found = _decided(act, report, organization, dataset)
    click.echo(f"Rejected the report {found.id} of {found.dataset}.")


def _decided(act: Act, report: uuid.UUID, organization: str, dataset: str, *, owning: bool = False) -> ReportAnswer:
    """The report after a decision; `owning`: over a connection that may make schemas."""

    async def decide(settings: Settings, database: Database) -> ReportAnswer:
        contract = await _contract(database, organization, dataset)
        by = Decision(user=COMMAND_LINE, at=now(), settings=settings)

        async def work(connection: Connection) -> ReportAnswer:
            desk = Desk(connection, contract, organization)
            await act(desk, report, by)
            return await read_report(desk, report)

        return await database.run(work)

    return with_database(decide, **(_of_owner() if owning else {}))


def _of_owner() -> dict[str, object]:
    settings = owner_settings(read_settings())
    return {"database_url": settings.database_url, "statement_timeout": settings.statement_timeout}


async def _contract(database: Database, organization: str, dataset: str) -> Contract:
    """Whatever its state; raises DatasetNotFound."""
    standing = await Datasets(database, BUILT_IN).find(organization, dataset)
    if standing is None:
        raise _no_dataset(organization, dataset)
    async with database.connection() as connection:
        await read_dataset(Desk(connection, standing.contract, organization))
    return standing.contract


def _no_dataset(organization: str, dataset: str) -> DatasetNotFound:
    return DatasetNotFound(f"{organization} has no dataset {dataset}.")


# -- words of a table --------------------------------------------------------------------------------------------------


def _risk(report: ReportAnswer | ReportSummary) -> str:
    return "" if report.health is None else str(report.health["risk"])


def _text(text: str | None) -> str:
    return "" if text is None else printable(text)


def _values(change: ChangeAnswer) -> str:
    """What is in the contract, and would have to be; of a whole field its name says it."""
    if change.kind in (Kind.ADD, Kind.REMOVE, Kind.RENAME):
        return ""
    old, new = (printable(exact_json.encode(each).decode()) for each in (change.old, change.new))
    return f"{old} -> {new}"


def _users(change: ChangeAnswer) -> str:
    """What is not 0, as words."""
    told = [f"{name} {count}" for name, count in msgspec.structs.asdict(change.uses).items() if count]
    if change.violations:
        told.append(f"violations {change.violations}")
    return ", ".join(told)


def _decision(change: ChangeAnswer) -> str:
    return f"mapped to {_text(change.mapped_to)}" if change.decision == "mapped" else change.decision or ""


def _decider(report: ReportAnswer) -> str:
    return _text(report.decided_by_name or report.decided_by) or "the service"
