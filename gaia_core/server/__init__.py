"""
The HTTP server, its front doors and the web page.

Needs the extra ``server``: ``pip install 'gaia-core[server]'``. Its modules, in the
order in which a request meets them:

* The process: `starting`, `running`, `connections`.
* The app: `app`, `site`, `routes`, `description`; the web page is in `page`.
* Who comes in: `gate`, `traffic`, `guards`, `keys`, `access`.
* What comes in: `intakes`, `schemas`, `asking`; pictures through `inputs`, `paths`,
  `decoding`, `decoder`; what other programs mean by `model_names`, `masks`,
  `resending`, `webui`.
* While it is made: `waiting`, `watched`, `live`; batches by `runner`, `events`.
* What goes out: `answers`, `links`, `conversion`; pictures through `shown`,
  `serving`; errors through `problems`, `dialects`.
* What is told of all this: `checks`, `telemetry`, `prometheus`.
"""

from gaia_core.server.access import OWNER, Auth, Principal, Scope, nobody_asked
from gaia_core.server.app import create_app, router

__all__ = [
    "OWNER",
    "Auth",
    "Principal",
    "Scope",
    "create_app",
    "nobody_asked",
    "router",
]
