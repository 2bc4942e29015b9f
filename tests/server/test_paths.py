import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from gaia_core.server.paths import read_below
from gaia_core.testing import png
from tests.server.conftest import OpenClient

PICTURE = png(24, 16)
SECRET = png(8, 8, "black")


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> Path:
    """Give a folder of pictures, beside things that are none of a caller's business."""
    root = tmp_path / "img"
    (root / "deep" / "er").mkdir(parents=True)
    (root / "hero.png").write_bytes(PICTURE)
    (root / "deep" / "er" / "hero ö.png").write_bytes(PICTURE)
    for name in ("images-evil", "img-evil", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "secret.png").write_bytes(SECRET)
    return root


def link(name: str, target: str) -> Callable[[Path], str]:
    """Put a link below the folder, and ask for it, or for what lies behind it."""

    def make(root: Path) -> str:
        first = name.partition("/")[0]
        (root / first).symlink_to(target)
        return name

    return make


def pipe(root: Path) -> str:
    """Put a pipe that nobody writes to."""
    os.mkfifo(root / "pipe.png")
    return "pipe.png"


def bound_socket(root: Path) -> str:
    """Put a socket."""
    with socket.socket(socket.AF_UNIX) as made:
        # Its address must be short.
        before = Path.cwd()
        os.chdir(root)
        made.bind("s.png")
        os.chdir(before)
    return "s.png"


def device(root: Path) -> str:
    """Put a device, as only root can."""
    try:
        os.mknod(root / "null.png", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    return "null.png"


def hole(root: Path) -> str:
    """Put a file that is larger than it is."""
    with (root / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    return "huge.png"


def empty(root: Path) -> str:
    """Put a file without anything in it, as those of /proc are."""
    (root / "empty.png").touch()
    return "empty.png"


def literal(path: str) -> Callable[[Path], str]:
    """Ask for a path as it stands; ``{root}`` stands for the folder."""
    return lambda root: path.format(root=root, above=root.parent)


REFUSED = {
    "nothing": literal(""),
    "missing": literal("missing.png"),
    "the-folder": literal("{root}"),
    "a-folder": literal("deep"),
    "here": literal("./hero.png"),
    "here-inside": literal("deep/./er/../../hero.png"),
    "up": literal("../other/secret.png"),
    "up-inside": literal("deep/../../other/secret.png"),
    "up-absolute": literal("{root}/../other/secret.png"),
    "up-encoded": literal("%2e%2e/other/secret.png"),
    "up-wide": literal("\N{TWO DOT LEADER}/other/secret.png"),
    "absolute": literal("{above}/other/secret.png"),
    "prefix": literal("{above}/img-evil/secret.png"),
    "prefix-joined": literal("{root}-evil/secret.png"),
    "backslash": literal("..\\other\\secret.png"),
    "backslash-encoded": literal("..%5Cother%5Csecret.png"),
    "twice": literal("/{root}/hero.png"),
    "twice-inside": literal("deep//er"),
    "slash-behind": literal("hero.png/"),
    "file-as-folder": literal("hero.png/hero.png"),
    "nul": literal("hero.png\0.txt"),
    "newline": literal("hero.png\n"),
    "surrogate": literal("hero\udcff.png"),
    "long": literal("a" * 1_000),
    "home": literal("~/hero.png"),
    "address": literal("file://{root}/hero.png"),
    "passwords": literal("/etc/passwd"),
    "environment": literal("/proc/self/environ"),
    "own-files": literal("/proc/self/fd/0"),
    "device": literal("/dev/zero"),
    "link": link("link.png", "hero.png"),
    "link-away": link("link.png", "../other/secret.png"),
    "link-absolute": link("link.png", "/etc/passwd"),
    "link-in-the-middle": link("link/secret.png", "../other"),
    "link-to-the-root": link("link/etc/hostname", "/"),
    "link-to-processes": link("link/self/environ", "/proc"),
    "pipe": pipe,
    "socket": bound_socket,
    "device-below": device,
    "larger-than-taken": hole,
    "empty": empty,
}


@pytest.mark.parametrize("ask", REFUSED.values(), ids=REFUSED)
def test_what_is_not_read(root: Path, ask: Callable[[Path], str]) -> None:
    """There is no such file, whatever there is."""
    assert read_below((root,), ask(root), max_bytes=1_000_000) is None


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("hero.png", id="relative"),
        pytest.param("deep/er/hero ö.png", id="deep"),
        pytest.param("{root}/hero.png", id="absolute"),
    ],
)
def test_what_is_read(root: Path, path: str) -> None:
    """Files below the folder are read by either kind of path."""
    assert read_below((root,), path.format(root=root), max_bytes=1_000) == PICTURE


def test_the_folder_itself_may_be_a_link(root: Path, tmp_path: Path) -> None:
    """What the settings name is the owner's own choice."""
    (tmp_path / "pictures").symlink_to(root)

    assert read_below((tmp_path / "pictures",), "hero.png", max_bytes=1_000) == PICTURE


def test_every_folder_is_looked_into(root: Path, tmp_path: Path) -> None:
    """The first one that has such a file counts; one that is gone is passed over."""
    roots = (tmp_path / "gone", tmp_path / "other", root)

    assert read_below(roots, "hero.png", max_bytes=1_000) == PICTURE
    assert read_below(roots, "secret.png", max_bytes=1_000) == SECRET


def test_without_folders_nothing_is_read(root: Path) -> None:
    """Nobody reads a file of a server whose settings name no folder."""
    assert read_below((), f"{root}/hero.png", max_bytes=1_000) is None


def open_files() -> int:
    """Count the files that this process has open."""
    return len([*Path("/proc/self/fd").iterdir()])


def test_no_file_is_left_open(root: Path) -> None:
    """Whether a file is read or not, nothing stays behind."""
    before = open_files()

    for path in ("hero.png", "deep/er/missing.png", "deep/hero.png/x", "deep"):
        read_below((root,), path, max_bytes=1_000)

    assert open_files() == before


@pytest.mark.parametrize(
    ("path", "roots", "status", "code"),
    [
        pytest.param("hero.png", True, 200, None, id="below-a-root"),
        pytest.param("hero.png", False, 404, "not_found", id="no-root"),
        pytest.param("../other/secret.png", True, 404, "not_found", id="up"),
        pytest.param("/etc/passwd", True, 404, "not_found", id="passwords"),
        pytest.param("notes.txt", True, 422, "invalid_image", id="no-picture"),
    ],
)
async def test_over_http(
    open_client: OpenClient,
    root: Path,
    path: str,
    roots: bool,
    status: int,
    code: str | None,
) -> None:
    """A path is off until the settings name a folder, and never says what is there."""
    (root / "notes.txt").write_text("canary-5d1c")
    server = {"image_roots": (root,) if roots else ()}
    async with open_client(server=server) as client:
        answer = await client.post("/api/images/upscale", json={"image_path": path})

    assert answer.status_code == status, answer.text
    assert answer.json().get("error_code") == code
    assert "canary" not in answer.text
    assert str(root) not in answer.text
