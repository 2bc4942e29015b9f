"""
Where pictures are kept.

`ImageStorage` is what a store does; `FileStorage` does it in a folder,
and `Spill` keeps what that folder could not take.
"""

from gaia_core.storage.contract import ImageStorage
from gaia_core.storage.disk import Disk
from gaia_core.storage.files import FileStorage
from gaia_core.storage.spill import Spill

__all__ = ["Disk", "FileStorage", "ImageStorage", "Spill"]
