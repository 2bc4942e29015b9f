"""
Running the server: from the settings to a process that ends well.

It listens before it opens anything, so that a port that is taken is told at once,
and it goes on answering while it stops: with 503, so that whoever shares the load
out looks elsewhere.
"""

import asyncio
import errno
import gc
import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import attrs
import uvicorn
from fastapi import FastAPI

from gaia_core.engine import Gaia
from gaia_core.errors import SettingsError
from gaia_core.observability import get_logger
from gaia_core.server.app import create_app
from gaia_core.server.connections import MOST_HEADER_BYTES, BoundedProtocol
from gaia_core.server.guards import is_private
from gaia_core.server.site import Site
from gaia_core.server.starting import check_access, check_keys
from gaia_core.server.traffic import Traffic
from gaia_core.settings import ServerSettings, Settings

DRAIN_SECONDS = 30.0
"""How long what was sent is waited for when the server stops, in seconds."""
LAST_SECONDS = 4.5
"""How long what remains may take after that; then the process ends."""
MOST_CONNECTIONS = 2_000
"""Most connections at a time."""
COLLECT_AFTER = 10_000
"""How many more objects there must be until Python looks for cycles among the new."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FIRST_CODE = 128
_IDLE_SECONDS = 5
_TICK = 0.05
_NOT_HTTP = "Invalid HTTP request"
_ANYWHERE = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared, not bound to
_FILES_BESIDE = 1_000


@attrs.frozen(kw_only=True)
class Listening:
    """
    Where a server listens.

    Attributes:
        url: Where this machine reaches it.
        host: The address it listens on.
        port: The port.
        needs_key: Whether callers must present a key.
    """

    url: str
    host: str
    port: int
    needs_key: bool


Tell = Callable[[Listening], None]
"""Is told once the server answers."""


def serve(settings: Settings, tell: Tell) -> None:
    """
    Run the server until SIGTERM or Ctrl-C; a second signal leaves at once.

    Args:
        settings: What to go by.
        tell: Is told where it listens once it answers.

    Raises:
        SettingsError: If it must not, or cannot, listen where it should.
    """
    check_access(settings.server)
    config, ending = _config(settings.server), _Ending()
    with (
        _listening(settings.server) as listener,
        _uvicorn_heard(),
        ending.kept(),
        asyncio.Runner(loop_factory=config.get_loop_factory()) as runner,
    ):
        _allow_connections()
        runner.run(_serve(settings, config, listener, ending, tell))


# -- from beginning to end --------------------------------------------------------


async def _serve(
    settings: Settings,
    config: uvicorn.Config,
    listener: socket.socket,
    ending: "_Ending",
    tell: Tell,
) -> None:
    with ending.heeded():
        try:
            async with _opened(settings) as app:
                config.app = app
                site: Site = app.state.gaia_site
                server = _Server(config, ending, site.traffic)
                listening = _where(listener, settings.server)
                server.announce = lambda: tell(listening)
                with _rare_collections():
                    await server.serve([listener])
                site.gaia.closing_grace = ending.left
        except asyncio.CancelledError:
            # Asked to stop before it ever listened: there is nothing to wait for.
            if not ending.is_asked:
                raise


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[FastAPI]:
    """Open everything here: what goes wrong is told, and nothing outlasts the end."""
    app = create_app(Gaia.open(settings))
    site: Site = app.state.gaia_site
    async with site.gaia, app.router.lifespan_context(app):
        await check_keys(site)
        yield app


@contextmanager
def _rare_collections() -> Iterator[None]:
    """
    Look for cycles of garbage less often, and never among what was there before.

    By default it takes a fifth of the time of small requests, and finds little.
    """
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@attrs.define(eq=False)
class _Ending:
    """
    Notes that the process is to end, and sees to it that it does.

    Attributes:
        is_asked: Whether somebody asked for the end.
        ends: Until when what was sent is waited for, on the monotonic clock.
        server: What stops then; None: it has not begun.
    """

    is_asked: bool = False
    ends: float = math.inf
    server: "_Server | None" = None
    _last: threading.Timer | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the promise to end while the block runs, whatever hangs in it."""
        try:
            yield
        finally:
            if self._last is not None:
                self._last.cancel()

    @property
    def left(self) -> float:
        """Tell for how long what was sent may still be waited for, in seconds."""
        return max(0.0, self.ends - time.monotonic())

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Heed signals while the block runs, in the task that is running now."""
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def on_signal(number: int, _frame: object) -> None:
            if self.is_asked:
                os._exit(_FIRST_CODE + number)
            self.is_asked = True
            loop.call_soon_threadsafe(self._begin, task)

        try:
            before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
        except ValueError:
            # Only the main thread hears signals: whoever started another ends it.
            yield
            return
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _begin(self, task: "asyncio.Task[Any] | None") -> None:
        self.ends = time.monotonic() + DRAIN_SECONDS
        self._last = threading.Timer(DRAIN_SECONDS + LAST_SECONDS, os._exit, (1,))
        self._last.daemon = True
        self._last.start()
        get_logger().info("gaia.server_stopping")
        if self.server is not None:
            self.server.stop()
        elif task is not None:
            task.cancel()


class _Server(uvicorn.Server):
    """uvicorn, but while it stops it still answers: with 503."""

    def __init__(
        self, config: uvicorn.Config, ending: _Ending, traffic: Traffic
    ) -> None:
        super().__init__(config)
        self.announce: Callable[[], None] = lambda: None
        self._ending, self._traffic = ending, traffic
        ending.server = self

    def stop(self) -> None:
        """Take nothing new, and end once what is under way is done."""
        self._traffic.closing.set()
        self.should_exit = True

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to `_Ending`: uvicorn would end by the signal itself."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer, and tell so."""
        await super().startup(sockets)
        self.announce()

    async def main_loop(self) -> None:
        """Serve until asked to stop, then until nothing is under way."""
        await super().main_loop()
        while self._traffic.under_way and self._ending.left:  # noqa: ASYNC110  each request would have to set an event
            await asyncio.sleep(_TICK)


def _config(settings: ServerSettings) -> uvicorn.Config:
    return uvicorn.Config(
        "gaia_core.server:create_app",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=_IDLE_SECONDS,
        # Requests were waited for before: what is left then is cut off.
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )


# -- the socket -------------------------------------------------------------------


def _listening(settings: ServerSettings) -> socket.socket:
    """
    Listen, before anything else is opened.

    Raises:
        SettingsError: If that address cannot be had.
    """
    try:
        family, address = _address(settings)
        is_dual = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server(
            address,
            family=family,
            backlog=MOST_CONNECTIONS,
            dualstack_ipv6=is_dual and settings.host in _ANYWHERE,
        )
    except OSError as error:
        message = f"{_cannot_listen(error, settings)}; `--port` and `--host` choose."
        raise SettingsError(message) from error


def _address(settings: ServerSettings) -> tuple[socket.AddressFamily, tuple[str, int]]:
    found = socket.getaddrinfo(
        settings.host.strip("[]") or None,
        settings.port,
        type=socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    # `localhost` is both: most of what will call it tries the older one.
    family, *_, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, (str(address[0]), settings.port)


def _cannot_listen(error: OSError, settings: ServerSettings) -> str:
    where = f"port {settings.port} of {settings.host or 'every address'}"
    if error.errno == errno.EADDRINUSE:
        return f"Something listens on {where} already"
    if error.errno == errno.EACCES:
        return f"This user may not listen on {where}"
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        return f"{settings.host} is no address of this machine"
    return f"Nothing can listen on {where}: {error.strerror}"


def _where(listener: socket.socket, settings: ServerSettings) -> Listening:
    host, port = settings.host, listener.getsockname()[1]
    near = "127.0.0.1" if host in _ANYWHERE else host.strip("[]")
    name = f"[{near}]" if ":" in near else near
    return Listening(
        url=f"http://{name}:{port}",
        host=host,
        port=port,
        needs_key=settings.require_auth is not False
        and not (is_private(settings) and settings.require_auth is None),
    )


def _allow_connections() -> None:
    """Raise the number of open files to what so many connections need."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MOST_CONNECTIONS + _FILES_BESIDE
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _uvicorn_heard() -> Iterator[None]:
    """Have what uvicorn says go where everything else goes."""
    logger, handler = logging.getLogger("uvicorn"), _ToLog()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _ToLog(logging.Handler):
    """Passes on what uvicorn has to say, so that secrets are masked in it too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; what is no HTTP at all is nothing to warn of."""
        message = record.getMessage()
        get_logger().log(
            logging.DEBUG if message.startswith(_NOT_HTTP) else record.levelno,
            "gaia.server_noted",
            message=message,
            exc_info=record.exc_info,
        )
