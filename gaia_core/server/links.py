"""Addresses of pictures that open for whoever has them, for a while."""

import hashlib
import time

import attrs
from itsdangerous import BadData, URLSafeTimedSerializer

from gaia_core.ledger.access import AccessBook
from gaia_core.observability import register_secret
from gaia_core.settings import ServerSettings

SKEW = 60.0
"""How far apart the clocks of two servers may be, in seconds."""

_SALT = "gaia.pictures"


@attrs.define(eq=False, kw_only=True)
class Links:
    """
    Signs addresses of pictures, and checks signatures.

    Attributes:
        settings: How long a link holds, and perhaps what it is signed with.
    """

    settings: ServerSettings
    _signer: URLSafeTimedSerializer | None = attrs.field(
        default=None, init=False, repr=False
    )

    async def open(self, access: AccessBook) -> None:
        """Get the key: the settings' own, or the one that the ledger keeps."""
        secret = self.settings.signing_secret
        key = secret.reveal().encode() if secret else await access.signing_key()
        register_secret(secret.reveal() if secret else key.hex())
        self._signer = URLSafeTimedSerializer(
            key, salt=_SALT, signer_kwargs={"digest_method": hashlib.sha256}
        )

    def sign(self, image_id: str) -> str:
        """Give what makes the address of a picture one that opens."""
        return str(self._opened.dumps(image_id))

    def opens(self, image_id: str, signature: str) -> bool:
        """Tell whether a signature opens this picture now."""
        try:
            # The signer's own check of the age refuses what a clock that is a
            # second ahead has signed.
            signed, moment = self._opened.loads(signature, return_timestamp=True)
        except BadData:
            return False
        age = time.time() - moment.timestamp()
        is_in_time = -SKEW <= age < self.settings.link_seconds + 1
        return is_in_time and bool(signed == image_id)

    @property
    def _opened(self) -> URLSafeTimedSerializer:
        if self._signer is None:
            message = "The server is not open yet: use it inside its lifespan."
            raise RuntimeError(message)
        return self._signer
