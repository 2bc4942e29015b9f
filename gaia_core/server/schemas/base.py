"""What all shapes have in common."""

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

ID = re.compile(r"[0-9a-f]{32}")
"""What names a picture, an operation or a batch."""


class Taken(BaseModel):
    """What a client sends: an unknown field is an error, not a surprise."""

    model_config = ConfigDict(extra="forbid", strict=False, frozen=True)


class Given(BaseModel):
    """What a client gets."""

    model_config = ConfigDict(extra="forbid")


ResponseFormat = Literal["url", "b64_json"]
"""How pictures come: by their address, or with their bytes in base64 as well."""
Prompt = Annotated[str, Field(min_length=1, max_length=8_000)]
"""What to draw."""
Name = Annotated[str, Field(min_length=1, max_length=255)]
"""The name of a campaign, a user, a model or a provider."""
