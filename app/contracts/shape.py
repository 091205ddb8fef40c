"""What the parts of a contract have in common: strict structs, and what a name may be."""

import re
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

FieldType = Literal["text", "enum", "number", "integer", "boolean", "date", "datetime"]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][A-Za-z0-9]{0,39}\Z")]
SchemaName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,39}\Z")]


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of the contract's parts: immutable, strict, camelCase as on the wire."""


@lru_cache(maxsize=4096)
def snake(name: str) -> str:
    """camelCase to snake_case: forecastStart -> forecast_start."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", name).lower()
