"""The refusal of a question: each thing that is wrong at its place."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from app.base.errors import Code, Culprit, InvalidQuery

MOST = 20  # faults that are looked for

Given = TypeVar("Given")
Read = TypeVar("Read")


def invalid(path: str, message: str) -> InvalidQuery:
    """What is wrong, and where: `joins[0].from`."""
    return InvalidQuery(f"{path}: {message}", errors=[Culprit(code=Code.INVALID_VALUE, field=path, message=message)])


class Faults:
    """What is wrong with the parts of a question, so that it is told at once, as far as anybody would read it."""

    def __init__(self) -> None:
        self._found: list[InvalidQuery] = []

    def each(self, given: Iterable[Given], path: str, read: Callable[[Given, str], Read]) -> tuple[Read, ...]:
        """What could be read of these, each at its place: `fields[0]`."""
        return self.named(((f"{path}[{place}]", each) for place, each in enumerate(given)), read)

    def named(self, given: Iterable[tuple[str, Given]], read: Callable[[Given, str], Read]) -> tuple[Read, ...]:
        """What could be read of these, each with its place."""
        found = []
        for path, each in given:
            if len(self._found) == MOST:
                break
            try:
                found.append(read(each, path))
            except InvalidQuery as error:
                self._found.append(error)
        return tuple(found)

    def check(self) -> None:
        """Raises InvalidQuery with all that was found."""
        if len(self._found) < 2:
            for error in self._found:
                raise error
            return
        errors = [culprit for error in self._found for culprit in error.errors]
        raise InvalidQuery(f"{self._found[0].detail} (And {len(errors) - 1} more, in `errors`.)", errors=errors)
