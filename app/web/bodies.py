"""How a request's body becomes a struct: unpacked, strictly, and with the digits of its numbers.

create_app sets `dto=JsonBody` once. A handler says only what it takes, and both the decoding and /schema follow:

    @post("/drafts")
    async def save(request: VanguardRequest, data: JSONBody[Batch]) -> Saved: ...

The decoder is `app.base.exact_json.read`, so a fraction under `Any` is a Decimal, an unknown field of a struct that
forbids them is refused, and the error has our form. Examples belong to the struct: `Annotated[str,
Meta(examples=[...])]`.
"""

import zlib
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

from litestar import Request
from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from app.base import exact_json
from app.base.errors import MalformedRequest
from app.web.problems import PayloadTooLarge, UnsupportedMediaType

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator

MERGE_PATCH = "application/merge-patch+json"
PATCH_TYPES = (MERGE_PATCH, "application/json")
ACCEPT_PATCH = {"Accept-Patch": ", ".join(PATCH_TYPES)}
GZIP = 31  # zlib's word for gzip's frame, and no other


class JsonBody(AbstractDTO[Any]):
    """Decodes `data` as the handler annotates it; answers are none of its business."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body in the shape that the handler asks for."""
        request = cast("Request[Any, Any, Any]", self.asgi_connection)
        if request.method == "PATCH":
            check_patch(*request.content_type)
        # What another body is called is no matter: it is read in one way.
        shape = self.asgi_connection.route_handler.parsed_data_field.annotation
        return exact_json.read(value, shape, members_checked=getattr(request, "members_checked", False))

    @classmethod
    def create_for_field_definition(cls, *_: Any, **__: Any) -> None:
        """Nothing to prepare: the struct is its own transfer model."""

    @classmethod
    def create_openapi_schema(
        cls, field_definition: FieldDefinition, handler_id: str, schema_creator: "SchemaCreator"
    ) -> Reference | Schema:
        """The struct's own schema."""
        return schema_creator.for_field_definition(field_definition)

    @classmethod
    def is_supported_model_type_field(cls, field_definition: FieldDefinition) -> bool:
        """Never for an answer: Litestar asks this about return types only."""
        return False

    @classmethod
    def generate_field_definitions(cls, model_type: type[Any]) -> Generator[DTOFieldDefinition, None, None]:
        """Unused: no transfer model is made."""
        yield from ()

    @classmethod
    def detect_nested_field(cls, field_definition: FieldDefinition) -> bool:
        """Unused: no transfer model is made."""
        return False


def check_patch(media_type: str, parameters: dict[str, str]) -> None:
    """The name of a patch says what it does (RFC 5789), so another one is refused; none is no other one."""
    if media_type and media_type.lower() not in PATCH_TYPES:
        detail = f"A patch is {MERGE_PATCH}, not {media_type[:80]}."
    elif parameters.get("charset", "utf-8").lower() != "utf-8":
        detail = f"A patch is UTF-8, not {parameters['charset'][:80]}."
    else:
        return
    raise UnsupportedMediaType(detail, taken=ACCEPT_PATCH)


def check_values(body: bytes, most: int) -> None:
    """Raises PayloadTooLarge for a body of so many values that everybody else would wait while it is read: each comes
    behind a comma, or is the first of an object or a list. Those in texts count, too: to tell them apart is to read.
    """
    if len(body) > most and body.count(b",") + body.count(b"{") + body.count(b"[") > most:
        raise PayloadTooLarge(
            f"The body has more than {most:,} values (VANGUARD_MAX_BODY_VALUES). Send it in several smaller requests."
        )


def unpacked(body: bytes, content_encoding: str | None, most: int) -> bytes:
    """The body as it was before Content-Encoding; no more of it is unpacked than the `most` bytes that it may have."""
    if not body or content_encoding is None:
        return body
    codings = [
        each for coding in content_encoding.split(",") if (each := coding.strip().lower()) not in ("", "identity")
    ]
    if not codings:
        return body
    if codings not in (["gzip"], ["x-gzip"]):
        detail = f"A body is sent as it is, or with Content-Encoding: gzip, not {', '.join(codings)[:80]}."
        raise UnsupportedMediaType(detail, taken={"Accept-Encoding": "gzip"})
    inflater = zlib.decompressobj(GZIP)
    try:
        plain = inflater.decompress(body, most + 1)
    except zlib.error:
        raise MalformedRequest("The body is not gzip, though Content-Encoding says so.") from None
    if len(plain) > most:
        raise PayloadTooLarge(f"Unpacked, the body has more than {most:,} bytes. Send it in several smaller requests.")
    if not inflater.eof:
        raise MalformedRequest("The gzip of the body breaks off before its end.")
    if inflater.unused_data:
        raise MalformedRequest("The gzip of the body has ended before its last byte; send one stream.")
    return plain
