"""
Discover plugins, load them one at a time, and contain what fails.

A plugin that cannot be imported, raises, exits, hangs, misspells a hook or has a
wrong setting becomes a `PluginFailure`; all the others work on.
"""

from gaia_core.plugins.loaded import (
    InstalledPlugin,
    PluginFailure,
    Plugins,
    Provider,
)
from gaia_core.plugins.loading import load_plugins

__all__ = [
    "InstalledPlugin",
    "PluginFailure",
    "Plugins",
    "Provider",
    "load_plugins",
]
