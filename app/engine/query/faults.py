"""The refusal of a question, at its place."""

from app.base.errors import Code, Culprit, InvalidQuery


def invalid(path: str, message: str) -> InvalidQuery:
    """What is wrong, and where: `joins[0].from`."""
    return InvalidQuery(f"{path}: {message}", errors=[Culprit(code=Code.INVALID_VALUE, field=path, message=message)])
