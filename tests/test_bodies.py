"""Bodies: exact numbers, strict shapes, our errors, and a schema that shows them."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from litestar import Litestar, patch, post
from litestar.params import JSONBody
from litestar.testing import TestClient

from app.base.errors import VanguardError
from app.web.bodies import JsonBody
from app.web.problems import answer


class Change(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A struct as handlers declare them."""

    row_id: str
    delta: dict[str, Any] = {}


@post("/change", status_code=200)
async def change(data: JSONBody[Change]) -> str:
    return repr(data.delta)


@patch("/merge")
async def merge(data: JSONBody[dict[str, Any]]) -> str:
    return repr(data)


@post("/optional", status_code=200)
async def optional(data: JSONBody[Change | None] = None) -> str:
    return repr(data)


@post("/answer", status_code=200)
async def echo(data: JSONBody[Change]) -> Change:
    return data


@pytest.fixture
def client() -> Iterator[TestClient[Litestar]]:
    """A small application with the bodies of the real one."""
    app = Litestar([change, merge, optional, echo], dto=JsonBody, exception_handlers={VanguardError: answer})
    with TestClient(app) as client:
        yield client


def test_numbers_keep_their_digits(client: TestClient[Litestar]) -> None:
    sent = '{"rowId": "A", "delta": {"rate": 12.3400, "big": 12345678901234567890.1, "n": 1, "list": [0.10]}}'
    expected = {"rate": Decimal("12.3400"), "big": Decimal("12345678901234567890.1"), "n": 1, "list": [Decimal("0.10")]}
    assert client.post("/change", content=sent).text == repr(expected)
    assert client.patch("/merge", content='{"rate": 0.30}').text == repr({"rate": Decimal("0.30")})


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ('{"rowId": 1}', "rowId"),
        ('{"rowId": "A", "row_id": "A"}', "row_id"),
        ('{"rowId": "A", "delta": []}', "delta"),
        ("{}", "rowId"),
        ("[]", None),
    ],
)
def test_another_shape_is_refused_with_its_place(client: TestClient[Litestar], sent: str, field: str | None) -> None:
    response = client.post("/change", content=sent)
    assert (response.status_code, response.json()["code"]) == (400, "MALFORMED_REQUEST")
    assert response.json()["errors"][0].get("field") == field


@pytest.mark.parametrize("sent", ["{", "nul", "[" * 100_000, b"\xff", '{"rowId": "\\ud800"}'])
def test_what_is_not_json_is_refused(client: TestClient[Litestar], sent: str | bytes) -> None:
    assert client.post("/change", content=sent).status_code == 400


def test_a_body_may_be_left_out_where_the_handler_says_so(client: TestClient[Litestar]) -> None:
    assert client.post("/optional").text == "None"
    assert client.post("/change").status_code == 400


def test_answers_are_left_alone(client: TestClient[Litestar]) -> None:
    assert client.post("/answer", content='{"rowId": "A"}').json() == {"rowId": "A", "delta": {}}


def test_the_schema_shows_the_struct(client: TestClient[Litestar]) -> None:
    document = client.get("/schema/openapi.json").json()
    body = document["paths"]["/change"]["post"]["requestBody"]["content"]["application/json"]
    assert body["schema"]["$ref"] == "#/components/schemas/Change"
    assert set(document["components"]["schemas"]["Change"]["properties"]) == {"rowId", "delta"}
