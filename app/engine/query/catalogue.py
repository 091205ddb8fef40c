"""What a caller can ask about: datasets by name, and the joins between them that somebody has accepted."""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from app.contracts import Contract
from app.contracts.states import DatasetState


class AcceptedJoin(msgspec.Struct, frozen=True, kw_only=True):
    """The child's fields hold the parent's: to one row of the parent at most go many of the child.

    `child_fields` and `parent_fields` belong together by their places. `confidence` is that of the candidate that was
    accepted, `fan_out` and `most` how many of the child one of the parent had then: on average, and at most. Datasets
    stand under their names without a version.
    """

    id: str
    version: int
    child: str
    child_fields: tuple[str, ...]
    parent: str
    parent_fields: tuple[str, ...]
    confidence: float
    fan_out: float = 1.0
    most: int = 1
    accepted_at: datetime


class Queryable(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset that can be asked about."""

    contract: Contract
    state: DatasetState
    major: int


class Catalogue(msgspec.Struct, frozen=True, kw_only=True):
    """All of an organization's, as one request finds them."""

    datasets: Mapping[str, Queryable]
    joins: tuple[AcceptedJoin, ...]
