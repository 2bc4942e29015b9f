"""
Settings: ``gaia.toml``, the environment and the command line, in that order.

Every value remembers where it came from, and a wrong one says so::

    [gaia] policy must be one of priority, cheapest, fastest, best, not 'cheap'
    (environment: GAIA_POLICY).
"""

from gaia_core.secrets import Secret
from gaia_core.settings.loading import find_settings_file, load_settings
from gaia_core.settings.showing import SettingRow, describe, example_settings
from gaia_core.settings.values import (
    BudgetSettings,
    CacheSettings,
    LimitSettings,
    Period,
    PluginSettings,
    Policy,
    ProviderSettings,
    ServerSettings,
    Settings,
    setting,
)

__all__ = [
    "BudgetSettings",
    "CacheSettings",
    "LimitSettings",
    "Period",
    "PluginSettings",
    "Policy",
    "ProviderSettings",
    "Secret",
    "ServerSettings",
    "SettingRow",
    "Settings",
    "describe",
    "example_settings",
    "find_settings_file",
    "load_settings",
    "setting",
]
