"""Pictures of waiting requests stay in their files."""

from pathlib import Path

import pytest

from gaia_core import GenerateRequest
from gaia_core.errors import StorageError
from gaia_core.images import Image
from gaia_core.storage import FileStorage
from gaia_core.testing import png

RED = Image.from_bytes(png(24, 16, colour="red"))
BLUE = Image.from_bytes(png(24, 16, colour="blue"))


async def _kept(root: Path, picture: Image = RED) -> Image:
    storage = FileStorage(root)
    await storage.put_input(picture)
    return await storage.read_input(picture.sha256)


async def test_a_kept_picture_is_the_picture(tmp_path: Path) -> None:
    """It is equal to the one that was put in, in every respect."""
    kept = await _kept(tmp_path)

    assert (kept, hash(kept)) == (RED, hash(RED))
    assert {RED} == {kept}
    assert kept != BLUE
    assert (kept.data, kept.sha256) == (RED.data, RED.sha256)
    assert (kept.media_type, kept.width, kept.height) == ("image/png", 24, 16)
    assert kept.decode().size == (24, 16)


async def test_a_request_takes_it_as_it_is(tmp_path: Path) -> None:
    """A request holds on to the file, not to its bytes."""
    kept = await _kept(tmp_path)

    request = GenerateRequest(prompt="a keep", image=kept)

    assert request.image is kept
    assert RED.sha256 in repr(kept)


@pytest.mark.parametrize("data", [None, b"torn"], ids=["gone", "damaged"])
async def test_a_file_that_is_lost_is_named(tmp_path: Path, data: bytes | None) -> None:
    """Whoever asks for bytes that are not there any more is told so."""
    kept = await _kept(tmp_path)
    (path,) = (tmp_path / "inputs").glob("*/*")

    path.unlink()
    if data is not None:
        path.write_bytes(data)

    with pytest.raises(StorageError, match=RED.sha256):
        assert kept.data
    assert kept.width == 24
