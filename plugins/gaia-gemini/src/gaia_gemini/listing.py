"""What the service says it has, and what of it is of use here."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from gaia_core import Capability, ModelInfo
from gaia_gemini.models import matches

if TYPE_CHECKING:
    from google.genai import Client

_DRAWS = ("image", "nano-banana")
_GENERATES = "generateContent"
_PAGE = 200


@attrs.frozen(kw_only=True)
class Found:
    """
    What the service has.

    Attributes:
        names: Every model.
        drawing: Those that draw, as far as their names tell.
    """

    names: frozenset[str]
    drawing: tuple[str, ...]


async def asked(sdk: "Client") -> Found:
    """Ask for every model; it is free."""
    names: list[str] = []
    drawing: list[str] = []
    async for model in await sdk.aio.models.list(config={"page_size": _PAGE}):
        name = (model.name or "").rpartition("/")[2]
        names.append(name)
        # Vertex AI does not say what a model does.
        does = model.supported_actions or [_GENERATES]
        if _GENERATES in does and is_drawing(name):
            drawing.append(name)
    return Found(names=frozenset(names), drawing=tuple(drawing))


def is_drawing(name: str) -> bool:
    """
    Tell by its name whether a model draws: the service's list has no word for it.

    >>> is_drawing("gemini-3-pro-image"), is_drawing("imagen-4.0-upscale-preview")
    (True, False)
    """
    return not name.startswith("imagen") and any(part in name for part in _DRAWS)


def living(cards: Iterable[ModelInfo], found: Found) -> list[ModelInfo]:
    """Keep the cards of what the service has; upscaling is in no list of its."""
    return [
        card
        for card in cards
        if card.id in found.names or Capability.UPSCALING in card.capabilities
    ]


def known(cards: Iterable[ModelInfo], search: str | None) -> list[ModelInfo]:
    """Keep the cards that hold every word of a search, if there is one."""
    return [card for card in cards if search is None or matches(card, search)]
