"""Rows of upstream and the contract: which fit, complete with what is derived, and what is wrong with the others."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from typing import Any

from app.base import exact_json
from app.base.errors import Code, Culprit
from app.contracts import Contract
from app.contracts.validation import check_key, check_value
from app.upstream.protocol import Broken, Page, Row


def sort_out(contract: Contract, page: Page) -> tuple[dict[str, dict[str, Any]], dict[str, Broken]]:
    """The rows that fit the contract, complete with what is derived, and those that do not, by key.

    A row without a usable key gets a name made of what was received; count_nameless tells one without any by it. Of a
    key that comes twice nobody knows which row is meant: it does not fit.
    """
    good: dict[str, dict[str, Any]] = {}
    broken = {_name(row): row for row in page.broken}
    times = Counter([*(row.key for row in page.rows), *(row.key for row in page.broken)])
    for row in page.rows:
        if times[row.key] > 1:
            aside = twice(contract, row.key, row.document)
            broken[_name(aside)] = aside
        elif reasons := _check(contract, row):
            aside = Broken(key=row.key, reasons=reasons, received=row.document)
            broken[_name(aside)] = aside
        else:
            good[row.key] = row.document | _derived(contract, row.document)
    return good, broken


def fit(contract: Contract, row: Row) -> dict[str, Any] | None:
    """The row's document, complete with what is derived; None where it does not fit the contract."""
    return None if _check(contract, row) else row.document | _derived(contract, row.document)


def twice(contract: Contract, key: str, document: dict[str, Any]) -> Broken:
    """One of several rows with the same key, put aside: nobody knows which is meant."""
    message = f"Upstream sent two rows with the {contract.text_key} {key[:80]!r}."
    reason = Culprit(id=key[:200], field=contract.text_key, code=Code.DUPLICATE_ROW, message=message)
    return Broken(key=key, reasons=(reason,), received=document)


def _name(row: Broken) -> str:
    if row.key is not None and check_key(row.key) is None:
        return row.key
    digest = hashlib.sha256(exact_json.encode([row.received, [reason.code for reason in row.reasons]])).hexdigest()
    return f"({'no' if row.key is None else 'unusable'} id) {digest[:16]}"


def _check(contract: Contract, row: Row) -> tuple[Culprit, ...]:
    """What is wrong with a row, a culprit a field."""
    wrong = []
    if (reason := check_key(row.key)) is not None:
        wrong.append(Culprit(id=row.key[:200], field=contract.text_key, code=Code.INVALID_ID, message=reason))
    by_name = contract.by_name
    for name, value in row.document.items():
        if value is None:
            continue
        field = by_name.get(name)
        if field is None:
            found: tuple[str, str] | None = (Code.UNKNOWN_FIELD, f"{contract.name} has no field {name[:80]!r}.")
        else:
            found = check_value(field, value)
        if found is not None:
            wrong.append(Culprit(id=row.key[:200], field=name[:80], code=found[0], message=found[1]))
    return tuple(wrong)


def _derived(contract: Contract, document: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that say whether others are present."""
    return {
        field.name: all(document.get(name) is not None for name in field.derived_from)
        for field in contract.fields
        if field.derived_from
    }
