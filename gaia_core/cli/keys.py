"""``gaia keys``: what opens the server for others."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from gaia_core.cli.options import json_option
from gaia_core.cli.sessions import Session
from gaia_core.cli.tables import print_table
from gaia_core.cli.writing import print_json, print_line, say
from gaia_core.errors import GaiaError, InvalidRequestError
from gaia_core.ledger.access import USUAL, AccessBook, ApiKey, Scope, new_key
from gaia_core.observability import register_secret

if TYPE_CHECKING:
    from gaia_core import Gaia

LONGEST_NAME = 255
"""How long the name of a principal may be."""

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SPAN = re.compile(r"([1-9]\d{0,5})([mhdw])")
_NO_BOOK = "This ledger keeps no API keys."


def _expiry(
    context: click.Context, param: click.Parameter, value: str | None
) -> datetime | None:
    """Read a span such as ``30d``; give the moment it ends."""
    if value is None:
        return None
    found = _SPAN.fullmatch(value)
    try:
        if found is not None:
            span = timedelta(**{_UNITS[found[2]]: int(found[1])})
            return datetime.now(UTC) + span
    except OverflowError:
        pass
    message = f"{value!r} is no span such as 90m, 12h, 30d or 52w."
    raise click.BadParameter(message, context, param)


def _name(context: click.Context, param: click.Parameter, value: str) -> str:
    """Take a name that can be kept and shown as it is."""
    name = value.strip()
    if 0 < len(name) <= LONGEST_NAME and name.isprintable():
        return name
    message = f"A name has 1 to {LONGEST_NAME} printable characters."
    raise click.BadParameter(message, context, param)


@click.group()
def keys() -> None:
    """Make, list and take back what opens the server."""


@keys.command("create")
@click.argument("name", callback=_name)
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="What it may be used for; may be repeated. Otherwise make and read.",
)
@click.option(
    "--expires",
    "expires_at",
    callback=_expiry,
    metavar="SPAN",
    help="When it ends, such as 12h or 30d. Otherwise when it is revoked.",
)
@json_option
@click.pass_obj
def create(
    session: Session,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
    *,
    is_json: bool,
) -> None:
    """
    Make a key for a principal, and show it once.

    Pictures, limits and budgets belong to the name; several keys may share one.
    Nobody can see the key again: the ledger keeps a digest of it.
    """
    session.silence()
    kept, secret = new_key(name, scopes=scopes or USUAL, expires_at=expires_at)
    register_secret(secret.reveal())
    session.look(partial(_add, kept))
    if is_json:
        print_json({"key": secret.reveal(), **_shape(kept)})
        return
    print_line(secret.reveal())
    say(f"Key {kept.id} of {kept.name} is shown this once: keep it in a safe place.")


@keys.command("list")
@json_option
@click.pass_obj
def list_(session: Session, *, is_json: bool) -> None:
    """List the keys, newest first; never what opens the server."""
    session.silence()
    found = session.look(_listed)
    if is_json:
        print_json({"keys": [_shape(key) for key in found]})
        return
    if not found:
        say("There are no keys: gaia keys create NAME makes one.")
        return
    headings = ("Id", "Name", "Scopes", "Created", "Expires", "State")
    print_table(headings, map(_row, found))


@keys.command("revoke")
@click.argument("key_id", metavar="ID")
@json_option
@click.pass_obj
def revoke(session: Session, key_id: str, *, is_json: bool) -> None:
    """Take a key back, for good; a running server refuses it in a few seconds."""
    session.silence()
    key = session.look(partial(_revoke, _without_secret(key_id)))
    if is_json:
        print_json(_shape(key))
        return
    print_line(f"Revoked {key.id} of {key.name}.")


# -- the book ---------------------------------------------------------------------


async def _book(gaia: "Gaia") -> AccessBook:
    await gaia.ready()
    if (book := gaia.ledger.access) is None:
        raise GaiaError(_NO_BOOK)
    return book


async def _add(key: ApiKey, gaia: "Gaia") -> None:
    await (await _book(gaia)).add(key)


async def _listed(gaia: "Gaia") -> Sequence[ApiKey]:
    return await (await _book(gaia)).listed()


async def _revoke(key_id: str, gaia: "Gaia") -> ApiKey:
    key = await (await _book(gaia)).revoke(key_id)
    if key is None:
        message = f"There is no key {key_id!r}: gaia keys list shows them."
        raise InvalidRequestError(message)
    return key


def _without_secret(words: str) -> str:
    """Take the id alone where somebody gives the whole key."""
    parts = words.split("_")
    return parts[1] if parts[0] == "gaia" and len(parts) > 1 else words


# -- showing ----------------------------------------------------------------------


def _row(key: ApiKey) -> list[str]:
    return [
        key.id,
        key.name,
        " ".join(sorted(key.scopes)),
        _day(key.created_at),
        "never" if key.expires_at is None else _day(key.expires_at),
        key.state(datetime.now(UTC)).value,
    ]


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _shape(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": key.state(datetime.now(UTC)).value,
        "created_at": key.created_at.isoformat(),
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "revoked_at": key.revoked_at and key.revoked_at.isoformat(),
    }
