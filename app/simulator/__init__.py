"""A server that speaks as PEMS does, over invented lines, and misbehaves on request: for tests and demonstrations."""

from app.simulator.faults import Edit, Fault, Step
from app.simulator.grid import Writing
from app.simulator.server import Simulator
from app.simulator.simulation import Counts, Credentials, read_credentials
from app.simulator.store import Applied, Unusable

__all__ = [
    "Applied",
    "Counts",
    "Credentials",
    "Edit",
    "Fault",
    "Simulator",
    "Step",
    "Unusable",
    "Writing",
    "read_credentials",
]
