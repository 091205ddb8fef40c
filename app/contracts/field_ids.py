"""Ids of fields: what a field is through all versions of a dataset, whatever it is called."""

import msgspec

from app.contracts.model import Contract, Field


def with_ids(contract: Contract, before: Contract | None, *, highest: int) -> Contract:
    """The contract with an id for each field: one that it says is kept, a field of a name that was there before has
    that one's, any other gets the next above `highest`, the highest of all that were ever used.

    A field that says the id of another name is that field, renamed. A name that was given up and comes again is new.
    """
    said = {field.id for field in contract.fields if field.id is not None}
    known = {} if before is None else {field.name: field.id for field in before.fields if field.id not in said}
    following = max([highest, *(id_ for id_ in said)])
    fields: list[Field] = []
    for field in contract.fields:
        id_ = field.id or known.get(field.name)
        if id_ is None:
            following += 1
            id_ = following
        fields.append(msgspec.structs.replace(field, id=id_))
    return msgspec.structs.replace(contract, fields=tuple(fields))
