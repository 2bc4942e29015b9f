"""Pictures as the vendor takes them."""

import base64

from gaia_core import Image


def data_uri(image: Image) -> str:
    """
    Write a picture as a data URI.

    >>> from gaia_core import Image
    >>> from gaia_core.testing import png
    >>> data_uri(Image.from_bytes(png(16, 16)))[:22]
    'data:image/png;base64,'
    """
    encoded = base64.b64encode(image.data).decode("ascii")
    return f"data:{image.media_type};base64,{encoded}"
