"""Check: what a system of record looks like from here. Nothing is written, there or into the mirror."""

import msgspec
import structlog

from app.base.database import Database
from app.engine.desk import Desk
from app.upstream.protocol import UpstreamError
from app.worker import runs
from app.worker.drift import lay_over
from app.worker.target import Job, ReadClock, Target, alone

log = structlog.get_logger(__name__)


async def check(database: Database, target: Target, read_clock: ReadClock) -> bool:
    """Carry out the check that somebody asked for; False where another worker does.

    What upstream does wrong ends in the run's record. It neither opens the circuit nor closes it.
    """
    async with alone(database, Job.CHECK, target.organization, target.dataset) as connection:
        if connection is None:
            return False
        desk = Desk(connection, target.contract, target.organization)
        await lay_over(desk, target.upstream)
        run = await runs.open_run(desk, "check", await read_clock(connection))
        if run is None:
            return True
        code, error, report = None, None, None
        try:
            if not run.ends:
                report = runs.storable(msgspec.to_builtins(await target.upstream.check()))
        except UpstreamError as failure:
            code, error = runs.code_of(failure), str(failure)
        except Exception:
            await runs.finish(desk, run, await read_clock(connection), "INTERNAL_ERROR", runs.DEFECT)
            raise
        at = await read_clock(connection)
        if (ending := await runs.read_ending(desk, run, at)) is not None:
            code, error, report = ending.code, ending.error, None
        await runs.finish(desk, run, at, code, error, report)
        log.info("check ends", organization=target.organization, dataset=target.dataset, code=code)
        return True
