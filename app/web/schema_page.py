"""The OpenAPI document at /schema/openapi.json, and a page at /schema to read and try it on.

The page is Swagger UI as the package swagger-ui-py ships it, served from here: it works without the internet, and no
foreign host learns who reads it.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import MediaType, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath

from app import __version__
from app.base.errors import ConfigurationError

PATH = "/schema"
ASSETS = {
    "swagger-ui.css": MediaType.CSS,
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}


def openapi_config() -> OpenAPIConfig:
    """The document's head, and the routes that show it: all of them public."""
    return OpenAPIConfig(
        title="Vanguard",
        version=__version__,
        description="Plan data merged live with everybody's private drafts.",
        components=Components(
            security_schemes={"token": SecurityScheme(type="http", scheme="bearer", bearer_format="JWT")}
        ),
        security=[{"token": []}],
        openapi_router=Router(
            PATH,
            route_handlers=[asset],
            include_in_schema=False,
            opt={"public": True},
            dto=None,
            return_dto=None,
            after_request=_refuse_unknown,
        ),
        render_plugins=[
            SwaggerRenderPlugin(
                path="/swagger",
                js_url=f"{PATH}/assets/swagger-ui-bundle.js",
                css_url=f"{PATH}/assets/swagger-ui.css",
                standalone_preset_js_url=f"{PATH}/assets/swagger-ui-standalone-preset.js",
                favicon=f'<link rel="icon" type="image/png" href="{PATH}/assets/favicon-32x32.png">',
            )
        ],
    )


@get("/assets/{name:str}", sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[bytes]:
    """One of the page's files; the package has many more."""
    if name not in ASSETS:
        raise NotFoundException
    body = (_directory() / name).read_bytes()
    return Response(body, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})


async def _refuse_unknown(response: Response[Any]) -> Response[Any]:
    """Litestar has a page of its own for a path that is not there; here it is a problem like any other."""
    if response.status_code == 404:
        raise NotFoundException
    return response


def _directory() -> Path:
    # The package is not imported: it would bring the handlers of other frameworks.
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The package swagger-ui-py is not installed.")
    return Path(spec.origin).parent / "static"
