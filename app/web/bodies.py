"""How a request's body becomes a struct: strictly, and with the digits of its numbers.

create_app sets `dto=JsonBody` once. A handler says only what it takes, and both the decoding and /schema follow:

    @post("/drafts")
    async def save(request: VanguardRequest, data: JSONBody[Batch]) -> Saved: ...

The decoder is `app.base.exact_json.read`, so a fraction under `Any` is a Decimal, an unknown field of a struct that
forbids them is refused, and the error has our form. Examples belong to the struct: `Annotated[str,
Meta(examples=[...])]`.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from litestar.dto import AbstractDTO, DTOFieldDefinition
from litestar.openapi.spec import Reference, Schema
from litestar.typing import FieldDefinition

from app.base import exact_json
from app.web.problems import UnsupportedMediaType

if TYPE_CHECKING:
    from litestar._openapi.schema_generation import SchemaCreator


class JsonBody(AbstractDTO[Any]):
    """Decodes `data` as the handler annotates it; answers are none of its business."""

    def decode_bytes(self, value: bytes) -> Any:
        """The body in the shape that the handler asks for."""
        field = self.asgi_connection.route_handler.parsed_data_field
        try:
            return exact_json.read(value, field.annotation)
        except exact_json.NotJson as error:
            # What it is called is no matter: whatever reads as JSON is taken, all else is refused as what it is.
            if coding := self.asgi_connection.headers.get("Content-Encoding"):
                raise UnsupportedMediaType(f"{error.detail} Send it without Content-Encoding: {coding[:80]}.") from None
            raise

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
