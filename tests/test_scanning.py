"""Finding entry points by hand: as `importlib.metadata` does, or not at all."""

import sys
import zipfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from gaia_core.plugins.scanning import FoundPoint, scan

Install = Callable[..., Path]

POINT = "[gaia]\nhello = hello_module:Provider\n"


@pytest.fixture(name="install")
def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Give a function that writes a distribution; nothing else is on the path."""
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.setattr(sys, "meta_path", list(PLAIN))

    def install(
        points: str = POINT,
        *,
        folder: str = "gaia_hello-1.0.dist-info",
        described: str = "Metadata-Version: 2.1\nName: Gaia.Hello\nVersion: 1.0\n",
        description: str = "METADATA",
        site: Path = tmp_path,
    ) -> Path:
        info = site / folder
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(points, encoding="utf-8")
        (info / description).write_text(described, encoding="utf-8")
        return info

    return install


PLAIN = [one for one in sys.meta_path if not hasattr(one, "find_distributions")] + [
    one for one in sys.meta_path if getattr(one, "__name__", "") == "PathFinder"
]


def _slowly() -> list[tuple[str, str]]:
    points = metadata.entry_points(group="gaia")
    return sorted((point.name, point.value) for point in points)


def test_this_environment_is_read_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is installed here is found by both, with its distribution."""
    monkeypatch.setattr(sys, "meta_path", PLAIN)

    found = scan("gaia")

    assert found is not None
    assert sorted((point.name, point.value) for point in found) == _slowly()
    for point in metadata.entry_points(group="gaia"):
        assert point.dist is not None
        label = f"{point.dist.name.replace('_', '-').lower()} {point.dist.version}"
        assert label in [one.distribution for one in found if one.name == point.name]


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        pytest.param(POINT, [("hello", "hello_module:Provider")], id="plain"),
        pytest.param(
            "# ours\n\n[other]\nx = y\n[gaia]\n  a=b.c : d.e  \n# no\n[z]\nq = r\n",
            [("a", "b.c : d.e")],
            id="other-sections",
        ),
        pytest.param("[gaia]\na = b [extra]\n", [("a", "b [extra]")], id="extras"),
        pytest.param("[gaia.x]\na = b\n", [], id="another-group"),
        pytest.param("", [], id="empty"),
    ],
)
def test_lists_of_entry_points(
    install: Install, points: str, expected: list[tuple[str, str]]
) -> None:
    """Only the lines of the group are taken, as `importlib.metadata` reads them."""
    install(points)

    found = scan("gaia")

    assert found is not None
    assert [(one.name, one.value) for one in found] == expected == _slowly()
    assert {one.distribution for one in found} <= {"gaia-hello 1.0"}


@pytest.mark.parametrize(
    ("folder", "description"),
    [
        ("gaia_hello-1.0.dist-info", "METADATA"),
        ("Gaia_Hello-1.0.DIST-INFO", "METADATA"),
        ("gaia_hello.egg-info", "PKG-INFO"),
    ],
    ids=["wheel", "capitals", "egg-info"],
)
def test_kinds_of_distributions(
    install: Install, folder: str, description: str
) -> None:
    """Wheels and older kinds are read."""
    install(folder=folder, description=description)

    assert scan("gaia") == [
        FoundPoint(
            name="hello",
            value="hello_module:Provider",
            distribution="gaia-hello 1.0",
        )
    ]


def test_the_first_of_a_name_hides_the_others(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A distribution earlier on the path counts, also when it has no entry point."""
    first = tmp_path / "first"
    install("[other]\nx = y\n", folder="Gaia.hello-2.0.dist-info", site=first)
    install()
    monkeypatch.setattr(sys, "path", [str(first), *sys.path, str(tmp_path / "none")])

    assert scan("gaia") == []
    assert _slowly() == []


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"points": "[gaia]\nno value\n"}, id="no-value"),
        pytest.param({"points": "[gaia]\na = b c\n"}, id="no-module"),
        pytest.param({"described": ""}, id="no-name"),
        pytest.param({"described": "Name: gaia-hello\n"}, id="no-version"),
    ],
)
def test_what_is_unusual_is_left_to_others(
    install: Install, fields: dict[str, str]
) -> None:
    """Where something is odd it does not guess."""
    install(**fields)

    assert scan("gaia") is None


def test_text_of_no_encoding_is_left_to_others(install: Install) -> None:
    """Bytes that are no text are no list."""
    (install() / "entry_points.txt").write_bytes(b"[gaia]\n\xff")

    assert scan("gaia") is None


def test_zip_files_and_eggs_are_left_to_others(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies in no folder is found another way."""
    install()
    packed, egg = tmp_path / "packed.zip", tmp_path / "some.egg"
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("nothing", "")
    monkeypatch.setattr(sys, "path", [*sys.path, str(packed)])
    with_zip = scan("gaia")
    egg.mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])

    assert with_zip is None
    assert scan("gaia") is None


def test_finders_of_their_own_are_left_to_others(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who finds distributions elsewhere is asked, not passed over."""

    class Finder:
        def find_distributions(self, _context: object) -> list[object]:
            return []

    install()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder()])

    assert scan("gaia") is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("pathlib", sys.modules["pathlib"]),
        ("pathlib:Path", Path),
        ("pathlib : Path.home [extra]", Path.home),
    ],
    ids=["module", "object", "deep"],
)
def test_entry_points_are_loaded(value: str, expected: object) -> None:
    """A module, an object in it, or an object in that."""
    point = FoundPoint(name="x", value=value, distribution="y 1")

    assert point.load() == expected


def test_a_name_of_nothing_is_not_loaded() -> None:
    """What names no module says so."""
    point = FoundPoint(name="x", value="not a module", distribution="y 1")

    with pytest.raises(ValueError, match="'not a module' names no module"):
        point.load()
