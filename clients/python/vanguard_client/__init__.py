"""Live tables and editable records over Vanguard: see README.md."""

from vanguard_client.backoff import Backoff
from vanguard_client.edit import RecordEdit
from vanguard_client.errors import (
    Conflicted,
    EditClosed,
    EditInProgress,
    FeedExpired,
    Forbidden,
    InvalidRecord,
    QueueFull,
    RecordNotFound,
    Refused,
    TableClosed,
    TimedOut,
    Unauthorized,
    Unavailable,
    Unsaved,
    VanguardError,
)
from vanguard_client.memory import MemoryDataSet
from vanguard_client.protocols import (
    DataSet,
    Insertable,
    Readable,
    ReadableValue,
    ValueSet,
    Writable,
    WritableValue,
)
from vanguard_client.records import Values
from vanguard_client.rest import RestDataSet
from vanguard_client.results import Conflict, Created, Error, FieldConflict, PartialSave, Saved, SaveResult
from vanguard_client.server import Vanguard
from vanguard_client.sqlite import SqliteDataSet
from vanguard_client.table import LiveTable
from vanguard_client.typed import TypedDataSet

__all__ = [
    "Backoff",
    "Conflict",
    "Conflicted",
    "Created",
    "DataSet",
    "EditClosed",
    "EditInProgress",
    "Error",
    "FeedExpired",
    "FieldConflict",
    "Forbidden",
    "Insertable",
    "InvalidRecord",
    "LiveTable",
    "MemoryDataSet",
    "PartialSave",
    "QueueFull",
    "Readable",
    "ReadableValue",
    "RecordEdit",
    "RecordNotFound",
    "Refused",
    "RestDataSet",
    "SaveResult",
    "Saved",
    "SqliteDataSet",
    "TableClosed",
    "TimedOut",
    "TypedDataSet",
    "Unauthorized",
    "Unavailable",
    "Unsaved",
    "ValueSet",
    "Values",
    "Vanguard",
    "VanguardError",
    "Writable",
    "WritableValue",
]
