"""The folders of this user, as platformdirs knows them."""

import os
import sys
from pathlib import Path

_LINUX = {
    "config": ("XDG_CONFIG_HOME", ".config"),
    "data": ("XDG_DATA_HOME", ".local/share"),
}


def user_folder(kind: str) -> Path:
    """
    Give the folder of this user that Gaia's files of a kind belong in.

    Args:
        kind: ``config`` or ``data``.
    """
    variable, usual = _LINUX[kind]
    named, home = (os.environ.get(name, "") for name in (variable, "HOME"))
    is_plain = sys.platform == "linux" and "ANDROID_ROOT" not in os.environ
    if is_plain and home.startswith("/"):
        # The usual case; platformdirs knows all the others, and takes 5 ms to load.
        folder = Path(named) if named.startswith("/") else Path(home) / usual
        return folder / "gaia"
    import platformdirs  # noqa: PLC0415 - as above

    dirs = platformdirs.PlatformDirs("gaia", appauthor=False)
    return dirs.user_config_path if kind == "config" else dirs.user_data_path
