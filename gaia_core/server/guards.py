"""Which pages and which names the server may be called from."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from fastapi import Request

from gaia_core.server.problems import RefusedError
from gaia_core.server.site import Site, SiteDep
from gaia_core.settings import ServerSettings

LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""What this machine calls itself; no other site can be known by these."""


async def same_site(request: Request, site: SiteDep) -> None:
    """
    Refuse what a page of another site makes a browser send.

    Browsers say where a request came from, and pages cannot change it; whatever
    says nothing is no browser. The address of a picture that is signed never comes
    here: it opens anywhere, for that is what it is for.

    Raises:
        RefusedError: If it came from a page that is neither this server's own nor
            allowed by ``server.allowed_origins``.
    """
    headers = request.headers
    origin = headers.get("origin")
    if origin is None:
        if headers.get("sec-fetch-site", "none") in {"none", "same-origin"}:
            return
    elif origin in site.settings.allowed_origins or _is_own(origin, request, site):
        return
    raise RefusedError(403, "cross_site")


def _is_own(origin: str, request: Request, site: Site) -> bool:
    """Tell whether an origin is this server, as the browser knows it."""
    if origin == origin_of(site.settings.public_url or ""):
        return True
    scheme, _, host = origin.partition("://")
    # A proxy may have taken the encryption off; nobody puts it on by mistake.
    is_scheme = scheme in {request.scope["scheme"], "https"}
    return is_scheme and host.lower() == request.headers.get("host", "").lower()


def origin_of(url: str) -> str:
    """
    Give the origin of an address, as browsers write it.

    >>> origin_of("https://pictures.example/gaia/")
    'https://pictures.example'
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def names_of(settings: ServerSettings) -> frozenset[str] | None:
    """
    Give the names the server may be called by; None: any.

    Those of this machine are always among them: no page of another site can be
    reached under such a name.
    """
    known = set(settings.allowed_hosts)
    if settings.public_url:
        known.add(name_of(urlsplit(settings.public_url).netloc))
    if not settings.allowed_hosts and not is_this_machine(settings.host):
        return None
    return frozenset({*(name.lower() for name in known), *LOCAL_NAMES})


def is_this_machine(host: str) -> bool:
    """
    Tell whether only this machine can reach an address.

    >>> is_this_machine("127.0.0.1"), is_this_machine("::1"), is_this_machine("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def is_private(settings: ServerSettings) -> bool:
    """
    Tell whether nobody but whoever has this machine can reach the server.

    A name or a proxy that others know it by says that they can.
    """
    names = names_of(settings)
    is_known = names is None or names > LOCAL_NAMES or settings.trusted_proxies
    return is_this_machine(settings.host) and not is_known


def name_of(host: str) -> str:
    """
    Take the port off a ``Host``.

    >>> name_of("localhost:8188"), name_of("[::1]:8188"), name_of("gaia.example")
    ('localhost', '[::1]', 'gaia.example')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()
