"""
Where pictures are kept.

`ImageStorage` is what a store does; `FileStorage` does it in a folder.
"""

from gaia_core.storage.contract import ImageStorage
from gaia_core.storage.disk import Disk
from gaia_core.storage.files import FileStorage

__all__ = ["Disk", "FileStorage", "ImageStorage"]
