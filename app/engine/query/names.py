"""The names of a question: which field of which dataset is meant."""

from collections.abc import Sequence

from app.contracts.columns import columns_of
from app.contracts.model import Contract
from app.contracts.shape import FieldType
from app.engine.query.faults import invalid
from app.engine.query.question import Column, Source


class Names:
    """The fields of all sources, by what they are asked for: `field` of the root, `alias.field` of any."""

    def __init__(self, sources: Sequence[Source]):
        self.sources = sources
        self._by_alias = {source.alias: source for source in sources}

    def column(self, name: str, path: str) -> Column:
        """Raises InvalidQuery."""
        alias, dot, field = name.rpartition(".")
        source = self._by_alias.get(alias) if dot else self.sources[0]
        if source is None:
            raise invalid(path, f"{alias[:80]!r} is none of the datasets {', '.join(self._by_alias)}.")
        kind = field_type(source.of.contract, field)
        if kind is None:
            raise invalid(path, f"{source.alias} has no field {field[:80]!r}.{self._elsewhere(source, field)}")
        shown = field if source.place == 0 else f"{source.alias}.{field}"
        label = labels(source.of.contract).get(field, field)
        return Column(source.place, field, kind, shown, label if source.place == 0 else f"{label} ({source.alias})")

    def _elsewhere(self, source: Source, field: str) -> str:
        found = [each.alias for each in self.sources if each is not source and field_type(each.of.contract, field)]
        return f" There is {', '.join(f'{alias}.{field}' for alias in found)}." if found and field else ""


def field_type(contract: Contract, field: str) -> FieldType | None:
    """The type of a field, of a computed column, or of `id`."""
    if field == "id":
        return "text"
    if field in contract.by_name:
        return contract.by_name[field].type
    return contract.column_of[field].type if field in contract.column_of else None


def labels(contract: Contract) -> dict[str, str]:
    """What fields are called by people."""
    return {column.name: column.label for column in columns_of(contract)}
