"""Contracts: the model, the built-in ones, and what is made of them.

Validation, rules, filters, DDL, images, aggregates; and the states of a change.
"""

from decimal import Decimal, InvalidOperation
from pathlib import Path

import msgspec

from app.base.errors import ConfigurationError
from app.contracts.model import Contract

_decoder = msgspec.json.Decoder(Contract, float_hook=Decimal)


def read_contract(path: Path) -> Contract:
    """A contract from its JSON file; raises ConfigurationError that names the place."""
    try:
        return _decoder.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, InvalidOperation) as error:
        raise ConfigurationError(f"{path.name}: {error}") from None


def stored_contract(document: str, *, schema: str, name: str) -> Contract:
    """An organization's own contract as it is stored, on its schema and under its address."""
    contract = _decoder.decode(_with_schema(document, schema))
    return msgspec.structs.replace(contract, name=name)


def _with_schema(document: str, schema: str) -> bytes:
    return b'{"schema":"%b",%b' % (schema.encode(), document.lstrip()[1:].encode())


PFA = read_contract(Path(__file__).parent / "pfa.json")
BUILT_IN: tuple[Contract, ...] = (PFA,)

__all__ = ["BUILT_IN", "PFA", "Contract", "read_contract", "stored_contract"]
