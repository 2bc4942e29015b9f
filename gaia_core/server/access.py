"""
Who calls, and what they may do.

Every route names the scope it needs by the type of one parameter: `Maker`,
`Reader` or `Monitor`. Who the caller is was found out before, by the dependency
that the router was made with; no path is ever compared.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeAlias

import attrs
from fastapi import HTTPException, Request, Security, status
from fastapi.security import SecurityScopes

from gaia_core.ledger.access import Scope

__all__ = [
    "OWNER",
    "Auth",
    "Maker",
    "Monitor",
    "Principal",
    "Reader",
    "Scope",
    "authorised",
    "nobody_asked",
    "principal_of",
    "unknown_caller",
]


def _scopes(words: Iterable[Scope | str]) -> frozenset[Scope]:
    return frozenset(map(Scope, words))


def _check_name(_: object, __: object, name: str) -> None:
    if "\0" in name or any(map(_is_half, name)):
        message = f"The name of a principal holds characters that are no text: {name!a}"
        raise ValueError(message)


def _is_half(letter: str) -> bool:
    """Tell half of a character, as UTF-16 has them, from a whole one."""
    return "\ud800" <= letter <= "\udfff"


@attrs.frozen(kw_only=True)
class Principal:
    """
    A caller whose name is known.

    Attributes:
        name: Whose pictures, keys, limits and batches they are. Empty: whoever has
            this machine; what the command line makes is theirs as well.
        scopes: What they may do.

    Raises:
        ValueError: If no database keeps the name as it is: replaced, it could be
            somebody else's.
    """

    name: str = attrs.field(default="", validator=_check_name)
    scopes: frozenset[Scope] = attrs.field(default=frozenset(Scope), converter=_scopes)

    def may(self, scope: Scope | str) -> bool:
        """Tell whether they may do something."""
        return scope in self.scopes


OWNER = Principal()
"""Whoever has this machine, and may do everything on it."""

Auth: TypeAlias = Callable[..., Any | Awaitable[Any]]
"""
A FastAPI dependency that names the caller: a `Principal`, a name, or None.

A name may make pictures and see its own. None is nobody: they get 401. An
`HTTPException` of its own keeps its status and its headers; the body is Gaia's, as
for every error, so its words go nowhere.
"""


_OF_A_NAME = frozenset({Scope.MAKE, Scope.READ})
"""What a user may do of whom a host says no more than the name."""


def principal_of(who: object) -> Principal | None:
    """
    Take what a host's dependency says as a principal.

    Raises:
        TypeError: If it is neither a `Principal`, nor a name, nor None.
    """
    if who is None or isinstance(who, Principal):
        return who
    if isinstance(who, str) and who:
        return Principal(name=who, scopes=_OF_A_NAME)
    message = (
        "auth must give a Principal, a name that is not empty, or None, not "
        f"{type(who).__name__}: return the user's id as a str."
    )
    raise TypeError(message)


async def nobody_asked() -> Principal:
    """Take every caller for the owner of this machine: an ``auth`` for local use."""
    return OWNER


def unknown_caller() -> HTTPException:
    """Make what is raised where nobody knows the caller."""
    return HTTPException(
        status.HTTP_401_UNAUTHORIZED, headers={"WWW-Authenticate": "Bearer"}
    )


async def authorised(request: Request, scopes: SecurityScopes) -> Principal:
    """
    Give the caller, if they may do what the route needs.

    Raises:
        HTTPException: 401 if nobody knows them, 403 if they may not.
    """
    principal: Principal | None = getattr(request.state, "gaia_principal", None)
    if principal is None:
        raise unknown_caller()
    if not all(map(principal.may, scopes.scopes)):
        raise HTTPException(status.HTTP_403_FORBIDDEN)
    return principal


Maker = Annotated[Principal, Security(authorised, scopes=[Scope.MAKE])]
"""The caller of a route that makes something."""
Reader = Annotated[Principal, Security(authorised, scopes=[Scope.READ])]
"""The caller of a route that shows what is theirs."""
Monitor = Annotated[Principal, Security(authorised, scopes=[Scope.MONITOR])]
"""The caller of a route that shows the whole server."""
