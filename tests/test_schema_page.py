"""The OpenAPI document and the page that shows it."""

import re

import pytest

from app.web.schema_page import ASSETS
from tests.support.world import World


@pytest.mark.parametrize("path", ["/schema", "/schema/swagger"])
async def test_the_page_needs_nothing_from_elsewhere(world: World, path: str) -> None:
    page = await world.http.get(path)
    assert (page.status_code, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert {name.rpartition("/")[2] for name in loaded} == set(ASSETS)
    for name in loaded:
        asset = await world.http.get(name)
        assert asset.status_code == 200
        assert asset.content


async def test_only_the_pages_own_files_are_served(world: World) -> None:
    for name in ("index.html", "swagger-editor.css", "..%2f..%2fpasswd", "%00"):
        assert (await world.http.get(f"/schema/assets/{name}")).status_code == 404


async def test_every_operation_says_what_it_is(world: World) -> None:
    document = (await world.http.get("/schema/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("summary"), f"{method} {path}"
            assert operation.get("tags"), f"{method} {path}"
    assert document["paths"]["/api/auth/login"]["post"]["security"] == [{}]
    assert document["components"]["schemas"]["Credentials"]["properties"]["email"]["examples"] == ["ann@demo.example"]
