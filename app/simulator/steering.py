"""`/sim/...`: how tests and people steer the simulator and look into it. Nobody has to show who they are."""

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from app.base import exact_json
from app.simulator.columns import Columns
from app.simulator.dataspies import Dataspies
from app.simulator.faults import Fault, Step
from app.simulator.http import Answer, Request
from app.simulator.simulation import Simulation
from app.simulator.store import NotFound, Unusable
from app.simulator.writing import rewritten

T = TypeVar("T")

PREFIX = "/sim/"
NDJSON = "application/x-ndjson"


class ClockRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`now`: stand still there, null: go on. `advance`: seconds."""

    now: datetime | None = None
    advance: float | None = None


class RenderRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`localized`: as rows are unless LOCALIZE_RESULT is switched off."""

    localized: bool = True


def answer(simulation: Simulation, request: Request) -> Answer:
    """The answer to a request below /sim/."""
    handle = ROUTES.get((request.method, request.path))
    if handle is None:
        return _problem(404, f"There is no {request.method} {request.path[:80]}")
    try:
        return handle(simulation, request)
    except NotFound as error:
        return _problem(404, str(error))
    except Unusable as error:
        return _problem(400, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, OverflowError, RecursionError) as error:
        return _problem(400, str(error)[:400])


def _get_records(simulation: Simulation, request: Request) -> Answer:
    organization, key = request.query.get("org"), request.query.get("id")
    if key is None:
        return Answer(200, b"".join(simulation.dump(organization)), NDJSON)
    return _record(simulation, organization or "", key)


def _get_spare(simulation: Simulation, request: Request) -> Answer:
    return _json(simulation.spare(*_named(request)))


def _put_record(simulation: Simulation, request: Request) -> Answer:
    simulation.put(*_named(request), _body(request, dict[str, Any]))
    return _record(simulation, *_named(request))


def _edit_record(simulation: Simulation, request: Request) -> Answer:
    simulation.edit(*_named(request), _body(request, dict[str, Any]))
    return _record(simulation, *_named(request))


def _delete_record(simulation: Simulation, request: Request) -> Answer:
    simulation.delete(*_named(request))
    return _nothing()


def _get_faults(simulation: Simulation, _: Request) -> Answer:
    return _json(simulation.faults())


def _add_faults(simulation: Simulation, request: Request) -> Answer:
    for fault in _several(request, Fault):
        simulation.fault(fault)
    return _json(simulation.faults())


def _clear_faults(simulation: Simulation, _: Request) -> Answer:
    simulation.clear_faults()
    return _nothing()


def _add_script(simulation: Simulation, request: Request) -> Answer:
    simulation.script(*_several(request, Step))
    return _nothing()


def _get_columns(simulation: Simulation, _: Request) -> Answer:
    return _json(simulation.columns)


def _change_columns(simulation: Simulation, request: Request) -> Answer:
    simulation.drift(*_several(request, Columns))
    return _json(simulation.columns)


def _clear_columns(simulation: Simulation, _: Request) -> Answer:
    simulation.clear_columns()
    return _nothing()


def _write_as(simulation: Simulation, request: Request) -> Answer:
    simulation.writing = rewritten(simulation.writing, _body(request, dict[str, Any]))
    return _json(simulation.writing)


def _set_dataspies(simulation: Simulation, request: Request) -> Answer:
    simulation.dataspies = _body(request, Dataspies)
    return _json(simulation.dataspies)


def _render(simulation: Simulation, request: Request) -> Answer:
    simulation.render(localized=_body(request, RenderRequest).localized)
    return _nothing()


def _set_clock(simulation: Simulation, request: Request) -> Answer:
    asked = _body(request, ClockRequest)
    if asked.now is not None and asked.now.tzinfo is None:
        raise Unusable("The time needs an offset, such as Z")
    if asked.advance is None:
        simulation.set_clock(asked.now)
    else:
        simulation.advance(timedelta(seconds=asked.advance))
    return _json({"now": simulation.now()})


def _get_log(simulation: Simulation, _: Request) -> Answer:
    return _json(simulation.counts())


def _clear_log(simulation: Simulation, _: Request) -> Answer:
    simulation.clear_counts()
    return _nothing()


ROUTES: dict[tuple[str, str], Callable[[Simulation, Request], Answer]] = {
    ("GET", "/sim/records"): _get_records,
    ("GET", "/sim/spare"): _get_spare,
    ("PUT", "/sim/records"): _put_record,
    ("PATCH", "/sim/records"): _edit_record,
    ("DELETE", "/sim/records"): _delete_record,
    ("GET", "/sim/faults"): _get_faults,
    ("POST", "/sim/faults"): _add_faults,
    ("DELETE", "/sim/faults"): _clear_faults,
    ("POST", "/sim/script"): _add_script,
    ("GET", "/sim/columns"): _get_columns,
    ("POST", "/sim/columns"): _change_columns,
    ("DELETE", "/sim/columns"): _clear_columns,
    ("POST", "/sim/writing"): _write_as,
    ("POST", "/sim/dataspies"): _set_dataspies,
    ("POST", "/sim/render"): _render,
    ("POST", "/sim/clock"): _set_clock,
    ("GET", "/sim/log"): _get_log,
    ("DELETE", "/sim/log"): _clear_log,
}


def _named(request: Request) -> tuple[str, str]:
    organization, key = request.query.get("org"), request.query.get("id")
    if not organization or not key:
        raise Unusable("The query needs org and id")
    return organization, key


def _body(request: Request, shape: type[T]) -> T:
    if request.body is None:
        raise Unusable("The body is too long")
    return msgspec.json.Decoder(shape, float_hook=Decimal).decode(request.body or b"{}")


def _several(request: Request, shape: type[T]) -> list[T]:
    """One object or a list of them."""
    given = _body(request, object)
    return [msgspec.convert(each, shape) for each in (given if isinstance(given, list) else [given])]


def _record(simulation: Simulation, organization: str, key: str) -> Answer:
    document = simulation.record(organization, key)
    if document is None:
        raise NotFound
    return _json({"recordid": simulation.recordid(organization, key), "document": document})


def _json(value: Any) -> Answer:
    return Answer(200, exact_json.encode(value))


def _nothing() -> Answer:
    return Answer(200, b"{}")


def _problem(status: int, message: str) -> Answer:
    return Answer(status, exact_json.encode({"error": message}))
