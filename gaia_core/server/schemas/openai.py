"""What clients of OpenAI's Images API send, and what they get."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from gaia_core.server.schemas.base import Given, Name, ResponseFormat
from gaia_core.server.schemas.images import GenerateIn

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
        empty = {"size": ("auto", ""), "model": ("",)}
        return {
            name: value
            for name, value in given.items()
            if value is not None and value not in empty.get(name, ())
        }

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


class OpenAIImageOut(Given):
    """
    One picture.

    Attributes:
        b64_json: Its bytes in base64.
        url: Where it is; only where that was asked for.
        id: Its id under ``/api/images``.
        seed: The seed that made it, if known.
    """

    b64_json: str | None = None
    url: str | None = None
    id: str
    seed: int | None


class OpenAIOurs(Given):
    """
    What OpenAI has no fields for.

    Attributes:
        operation_id: What to look up under ``/api/operations``.
        provider: Who made it.
        model: The model that made it.
        cost_usd: What it cost, as far as known.
        attempts: Every try, the successful one last.
        warnings: What was not heeded, and what a fallback changed.
        is_reused: Whether nothing was made for it.
    """

    operation_id: str
    provider: str
    model: str
    cost_usd: float | None
    attempts: list[dict[str, Any]]
    warnings: list[str]
    is_reused: bool


class OpenAIImagesOut(Given):
    """The pictures that were asked for."""

    created: int
    data: list[OpenAIImageOut]
    output_format: str | None
    quality: str | None
    size: str
    background: str | None
    usage: dict[str, Any]
    gaia: OpenAIOurs


class OpenAIModelOut(Given):
    """One model."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    name: str
    provider: str | None
    capabilities: list[str]


class OpenAIModelsOut(Given):
    """The models there are."""

    object: Literal["list"]
    data: list[OpenAIModelOut]


class OpenAIErrorOut(Given):
    """
    What went wrong.

    Attributes:
        message: What a person reads.
        type: Its kind, as OpenAI names them.
        param: The field it is about.
        code: Its code, as OpenAI names them where it has a word for it.
        operation_id: The operation it ended, if there was one.
        billed: Whether it was charged; null: nobody knows.
    """

    message: str
    type: str
    param: str | None
    code: str
    error_type: str
    suggested_action: str
    retry_after: float | None
    fallback_available: bool
    operation_id: str | None
    billed: bool | None


class OpenAIProblemOut(Given):
    """An error, in its envelope."""

    error: OpenAIErrorOut
