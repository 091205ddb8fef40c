"""A server that speaks as PEMS does, over invented lines, and misbehaves on request: for tests and demonstrations."""

from app.simulator.columns import Columns
from app.simulator.dataspies import Dataspies, Dataspy
from app.simulator.faults import Edit, Fault, Step
from app.simulator.server import Simulator
from app.simulator.simulation import Counts, Credentials, read_credentials
from app.simulator.store import Applied, Unusable
from app.simulator.writing import Writing

__all__ = [
    "Applied",
    "Columns",
    "Counts",
    "Credentials",
    "Dataspies",
    "Dataspy",
    "Edit",
    "Fault",
    "Simulator",
    "Step",
    "Unusable",
    "Writing",
    "read_credentials",
]
