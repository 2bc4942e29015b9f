"""The vendor's provider as an installed plugin, for clients in other processes."""

from pathlib import Path
from typing import Any

_MODULE = '''"""A provider for a vendor on this machine."""

from gaia_core.testing.vendors import {kind}

provider = {kind}(**{fields!r})
'''

_METADATA = "Metadata-Version: 2.1\nName: gaia-vendor\nVersion: 1.0\n"
_ENTRY_POINTS = "[gaia]\n{name} = gaia_vendor:provider\n"


def plugin_folder(
    path: Path,
    *,
    base_url: str,
    name: str = "vendor",
    has_lookup: bool = True,
    **fields: Any,
) -> Path:
    """
    Write a distribution that brings a provider for a vendor.

    A process that has the folder on its ``PYTHONPATH`` finds the plugin as if it
    were installed::

        folder = plugin_folder(tmp_path / "plugins", base_url=vendor.url)
        environ = os.environ | {"PYTHONPATH": str(folder)}
        subprocess.run([sys.executable, "-m", "gaia_core.cli", …], env=environ)

    Args:
        path: The folder; it is made.
        base_url: Where the vendor listens.
        name: The provider's name.
        has_lookup: Whether it can look up lost answers.
        **fields: Further fields of `VendorProvider`, in plain numbers and words.

    Returns:
        The folder.
    """
    kind = "RecoverableVendorProvider" if has_lookup else "VendorProvider"
    content = _MODULE.format(
        kind=kind, fields={"base_url": base_url, "name": name, **fields}
    )
    about = path / "gaia_vendor-1.0.dist-info"
    about.mkdir(parents=True)
    (path / "gaia_vendor.py").write_text(content, encoding="utf-8")
    (about / "METADATA").write_text(_METADATA, encoding="utf-8")
    points = _ENTRY_POINTS.format(name=name)
    (about / "entry_points.txt").write_text(points, encoding="utf-8")
    return path
