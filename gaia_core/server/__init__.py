"""
The HTTP server, its front doors and the web page.

Needs the extra ``server``: ``pip install 'gaia-core[server]'``.
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
