"""What clients of OpenAI's Images API send; what they get, says the reference."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gaia_core.server.schemas.base import Name, ResponseFormat
from gaia_core.server.schemas.images import GenerateIn, Size

Background = Literal["auto", "opaque", "transparent"]
"""What is behind the subject."""
Quality = Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"]
"""How good it must be: the best there is from ``high`` on."""
OutputFormat = Literal["png", "jpeg", "webp"]
"""The file format of the pictures."""


class ImagesIn(GenerateIn):
    """
    What making and editing have in common.

    Everything that ``POST /api/images/generate`` takes may be there as well, in the
    ``extra_body`` of the client.
    """

    size: Size | None = None
    response_format: ResponseFormat = "b64_json"
    quality: Quality = "auto"
    background: Background = "auto"
    output_format: OutputFormat | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    moderation: Literal["auto", "low"] | None = None
    complexity: Literal["low", "medium", "high"] | None = None
    user: Annotated[str, Field(max_length=255)] | None = None
    safety_identifier: Name | None = None
    stream: bool = False
    partial_images: Annotated[int, Field(ge=0, le=3)] = 0

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, given: Any) -> Any:
        """Take null for a field that is not there, and the size ``auto`` as well."""
        if not isinstance(given, dict):
            return given
        fields = {name: value for name, value in given.items() if value is not None}
        if fields.get("size") == "auto":
            del fields["size"]
        return fields

    @property
    def person(self) -> str | None:
        """The user it is for, as far as the client says."""
        return self.safety_identifier or self.user or None


class GenerationsIn(ImagesIn):
    """Make pictures from words."""


class EditsIn(ImagesIn):
    """
    Work on pictures: fields of a form, beside the files.

    Attributes:
        input_fidelity: How closely to keep to them.
    """

    input_fidelity: Literal["low", "high"] | None = None
