"""Which dataset a request is about."""

from app.base.errors import DatasetNotFound
from app.contracts import Contract
from app.web.runtime import Runtime


def contract_of(runtime: Runtime, dataset: str) -> Contract:
    """The contract of a dataset by its name on the wire; raises DatasetNotFound."""
    try:
        return runtime.contracts[dataset]
    except KeyError:
        raise DatasetNotFound(f"No dataset is called {dataset[:80]!r} here.") from None
