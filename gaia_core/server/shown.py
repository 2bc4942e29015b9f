"""Pictures that were asked for of late, and who may see them."""

import attrs
from cachetools import TTLCache

from gaia_core.engine import Gaia
from gaia_core.ledger.gallery import Gallery
from gaia_core.responses import StoredImage

MOST = 1_024
"""How many are remembered; the least asked for goes first."""
SECONDS = 60.0
"""How long one is remembered."""


def _memory() -> TTLCache[tuple[str | None, str], StoredImage]:
    return TTLCache(MOST, SECONDS)


@attrs.define(eq=False)
class Shown:
    """
    Finds pictures for those who may see them; remembers the latest.

    Whose a picture is and what it is never changes, so that a page full of pictures
    asks the ledger for each of them once.
    """

    _known: TTLCache[tuple[str | None, str], StoredImage] = attrs.field(
        factory=_memory, init=False
    )

    async def find(
        self, image_id: str, viewer: str | None, *, gaia: Gaia, gallery: Gallery
    ) -> StoredImage | None:
        """
        Find a picture; None if there is none, or it is not theirs.

        Args:
            image_id: Its id.
            viewer: Whose it must be; None: whoever asks has its link.
            gaia: Where it is stored.
            gallery: What knows whose it is.
        """
        if (known := self._known.get((viewer, image_id))) is not None:
            return known
        is_theirs = viewer is None or await gallery.find(image_id, principal=viewer)
        image = await gaia.storage.get(image_id) if is_theirs else None
        if image is not None:
            self._known[viewer, image_id] = image
        return image
