"""The OpenAPI document at /schema/openapi.json, and a page at /schema to read and try it on.

The page is Swagger UI as the package swagger-ui-py ships it, served from here: it works without the internet, and no
foreign host learns who reads it. No script stands in the page: its policy forbids those, so that nothing that somebody
gets into it runs.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, Router, get
from litestar.exceptions import NotFoundException
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.params import FromPath

from app import __version__
from app.base.errors import ConfigurationError
from app.web.protection import PAGE_POLICY

PATH = "/schema"
ASSETS = {
    "swagger-ui.css": MediaType.CSS,
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui-standalone-preset.js": "text/javascript",
    "favicon-32x32.png": "image/png",
    # Ours:
    "begin.js": "text/javascript",
    "page.css": MediaType.CSS,
}

OURS = {
    "begin.js": b"""\
SwaggerUIBundle({
    url: "/schema/openapi.json",
    dom_id: "#page",
    deepLinking: true,
    showExtensions: true,
    showCommonExtensions: true,
    presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
""",
    "page.css": b"body { margin: 0; }\n",
}
PAGE = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Vanguard</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" type="image/png" href="{PATH}/assets/favicon-32x32.png">
<link rel="stylesheet" href="{PATH}/assets/swagger-ui.css">
<link rel="stylesheet" href="{PATH}/assets/page.css">
</head>
<body>
<div id="page"></div>
<script src="{PATH}/assets/swagger-ui-bundle.js"></script>
<script src="{PATH}/assets/swagger-ui-standalone-preset.js"></script>
<script src="{PATH}/assets/begin.js"></script>
</body>
</html>
""".encode()


class SwaggerPage(OpenAPIRenderPlugin):
    """The page; it reads the document itself."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        """The same for everybody."""
        return PAGE


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
            after_request=_finish,
        ),
        render_plugins=[SwaggerPage(path="/swagger")],
    )


@get("/assets/{name:str}", sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[bytes]:
    """One of the page's files; the package has many more."""
    if name not in ASSETS:
        raise NotFoundException
    body = OURS.get(name) or (_directory() / name).read_bytes()
    return Response(body, media_type=ASSETS[name], headers={"Cache-Control": "public, max-age=86400"})


async def _finish(response: Response[Any]) -> Response[Any]:
    """Litestar has a page of its own for a path that is not there; here it is a problem like any other. And the page
    may load what it is made of.
    """
    if response.status_code == 404:
        raise NotFoundException
    if response.media_type == MediaType.HTML:
        response.headers["Content-Security-Policy"] = PAGE_POLICY
    return response


def _directory() -> Path:
    # The package is not imported: it would bring the handlers of other frameworks.
    spec = find_spec("swagger_ui")
    if spec is None or spec.origin is None:
        raise ConfigurationError("The package swagger-ui-py is not installed.")
    return Path(spec.origin).parent / "static"
