"""What a server must not start with: anybody let in, nobody let in, no such folder."""

from datetime import UTC, datetime

from gaia_core.errors import SettingsError
from gaia_core.ledger.access import KeyState
from gaia_core.server.guards import is_this_machine
from gaia_core.server.site import Site
from gaia_core.settings import ServerSettings

LEAST_TOKEN = 16
"""Fewest characters of a token that other machines may try."""


def check_access(settings: ServerSettings) -> None:
    """
    Refuse to let everybody in who can reach this machine, and folders that are none.

    Raises:
        SettingsError: If the settings would, or name such a folder.
    """
    is_open = not is_this_machine(settings.host)
    where = settings.host or "this machine"
    if is_open and settings.require_auth is False:
        message = (
            f"[server] require_auth = false lets anybody who reaches {where} spend "
            'your money: leave it out, or listen on host = "127.0.0.1" only.'
        )
        raise SettingsError(message)
    if is_open and settings.token and len(settings.token.reveal()) < LEAST_TOKEN:
        message = (
            f"[server] token can be guessed by anybody who reaches {where}: it needs "
            f"at least {LEAST_TOKEN} characters, chosen at random."
        )
        raise SettingsError(message)
    for root in settings.image_roots:
        if not root.expanduser().is_dir():
            message = (
                f"[server] image_roots names {root}, which is no folder: make it, or "
                "take it out."
            )
            raise SettingsError(message)


async def check_keys(site: Site) -> None:
    """
    Refuse to listen for others where nobody could come in, or anybody.

    Raises:
        SettingsError: If no key is valid.
    """
    settings = site.settings
    if is_this_machine(settings.host) or settings.token is not None:
        return
    now = datetime.now(UTC)
    keys = await site.access.listed()
    if any(key.state(now) is KeyState.LIVE for key in keys):
        return
    message = (
        f"Other machines can reach {settings.host or 'every address'}, and there is "
        "no key to let them in with: make one with `gaia keys create NAME`, or "
        "listen on 127.0.0.1."
    )
    raise SettingsError(message)
