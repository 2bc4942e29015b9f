"""The rules of the house, read from the source by `ast`."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import attrs
import pytest

import gaia_core

ROOT = Path(__file__).parent.parent
CORE = ROOT / "gaia_core"
ROOMS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))

LAYERS = (
    "capabilities",
    "errors",
    "images",
    "png",
    "containers",
    "requests",
    "results",
    "metadata",
    "responses",
    "catalog",
    "context",
    "hookspecs",
    "secrets",
    "observability",
    "metrics",
    "tracing",
    "progress",
    "settings",
    "plugins",
    "calls",
    "states",
    "fitting",
    "selection",
    "choices",
    "offers",
    "assortment",
    "records",
    "fetching",
    "ledger",
    "alerts",
    "reliability",
    "limits",
    "storage",
    "cache",
    "flights",
    "answers",
    "keeping",
    "silences",
    "lookups",
    "places",
    "bundles",
    "turns",
    "references",
    "replays",
    "endings",
    "bookings",
    "services",
    "asking",
    "walk",
    "doors",
    "running",
    "leftovers",
    "recovery",
    "withdrawals",
    "batches",
    "upkeep",
    "showroom",
    "parts",
    "engine",
    "blocking",
    "server",
    "cli",
    "testing",
)
"""A part of the core may import the parts named before it, and no other."""

EXCEPTIONS = {
    # An error carries the attempts that led to it; named for the type only.
    ("errors", "responses"),
}
"""Imports that point down the list all the same."""

AFTER_THE_LIST = {"cli", "testing"}
"""Doors and tools: these may take the public names from `gaia_core` itself."""

NOT_IN_THE_CORE = {
    "diffusers",
    "fal_client",
    "google",
    "numpy",
    "onnxruntime",
    "openai",
    "replicate",
    "runware",
    "torch",
    "transformers",
}
"""What only providers need."""

HEAVY = {
    "PIL",
    "aiohttp",
    "alembic",
    "cachetools",
    "cattrs",
    "fastapi",
    "filelock",
    "limits",
    "platformdirs",
    "pydantic",
    "rich",
    "sqlalchemy",
    "standardwebhooks",
    "structlog",
    "uvicorn",
}
"""Imported where first used, so that ``gaia models`` answers at once."""

MAY_BE_HEAVY = {"ledger", "server", "testing"}
"""Parts that are themselves imported where first used, the next ones apart."""

MUST_BE_LIGHT = {
    "gaia_core.ledger",
    *(f"gaia_core.ledger.{name}" for name in ("access", "batches", "contract")),
    *(f"gaia_core.ledger.{name}" for name in ("deferred", "gallery", "memory")),
    *(f"gaia_core.ledger.{name}" for name in ("operations", "reports")),
}
"""What everybody imports of a part that may be heavy."""

DISTRIBUTIONS = {
    "PIL": "pillow",
    "attr": "attrs",
    "opentelemetry": "opentelemetry-api",
    "google": "google-genai",
    "httptools": "uvicorn",  # of the extra "standard", which is declared
    "runware": "runware-sdk",
}
"""Where the name to import and the name to install differ."""

SERVER = "server"
"""The part of the core that has an extra of its own."""

NEEDED_WITHOUT_IMPORT = {
    "python-multipart",  # FastAPI reads forms with it
    "starlette",  # FastAPI itself takes versions that have known holes
    "uvicorn",  # `gaia serve` imports it; the router in a host's app does not
}
"""What the extra of the server declares, whether or not something imports it."""

OPTIONAL = {
    "opentelemetry-api",  # the core traces where it is installed
    "uvicorn",  # `gaia serve` starts it
}
"""What an extra declares and the core uses where it is installed."""

DANGEROUS_MODULES = {"cPickle", "dill", "marshal", "pickle", "shelve"}
DANGEROUS_CALLS = {"eval", "exec", "torch.load", "yaml.load", "yaml.unsafe_load"}
MAX_LINES = 500


@attrs.frozen
class Source:
    """One source file, parsed."""

    path: Path
    tree: ast.Module

    @property
    def name(self) -> str:
        """The path below the root, as messages show it."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def part(self) -> str:
        """The part of the core this file belongs to, such as ``engine``."""
        return self.path.relative_to(CORE).parts[0].removesuffix(".py")

    @property
    def module(self) -> str:
        """The module this file is."""
        parts = self.path.relative_to(self._src).with_suffix("").parts
        return ".".join(part for part in parts if part != "__init__")

    @property
    def package(self) -> str:
        """The package that relative imports of this file start from."""
        is_package = self.path.name == "__init__.py"
        return self.module if is_package else self.module.rpartition(".")[0]

    @property
    def _src(self) -> Path:
        return ROOT if self.path.is_relative_to(CORE) else _src_of(self.path)


def _src_of(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.name == "src")


def _read(*folders: Path) -> list[Source]:
    paths = sorted(path for folder in folders for path in folder.rglob("*.py"))
    return [Source(path, ast.parse(path.read_text(encoding="utf-8"))) for path in paths]


CORE_SOURCES = _read(CORE)
ROOM_SOURCES = _read(*(room / "src" for room in ROOMS))
SOURCES = [*CORE_SOURCES, *ROOM_SOURCES]


def _imports(source: Source, nodes: Iterator[ast.AST]) -> Iterator[str]:
    """Name every module that some nodes import, relative ones spelt out."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _imported_from(source, node)


def _imported_from(source: Source, node: ast.ImportFrom) -> Iterator[str]:
    parents = source.package.split(".")[: None if node.level < 2 else 1 - node.level]
    base = ".".join([*parents, *filter(None, [node.module])])
    module = base if node.level else node.module or ""
    yield from (f"{module}.{alias.name}" for alias in node.names)


def _at_import_time(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Walk what runs when the module is imported."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _at_import_time(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from _at_import_time(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _at_import_time(handler.body)


def _heavy_modules() -> set[str]:
    """Find the modules of the core that load a slow package when imported."""
    imported = {
        source.module: set(_imports(source, _at_import_time(source.tree.body)))
        for source in CORE_SOURCES
    }
    heavy: set[str] = set()
    before = -1
    while before < len(heavy):
        before = len(heavy)
        heavy |= {
            module
            for module, names in imported.items()
            if any(_is_heavy(name, heavy) for name in names)
        }
    return heavy


def _is_heavy(name: str, heavy: set[str]) -> bool:
    parts = name.split(".")
    above = {".".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return bool(above & (HEAVY | heavy))


HEAVY_MODULES = _heavy_modules()


def _ids(source: object) -> str:
    return source.name if isinstance(source, Source) else str(source)


core = pytest.mark.parametrize("source", CORE_SOURCES, ids=_ids)
rooms = pytest.mark.parametrize("source", ROOM_SOURCES, ids=_ids)
everything = pytest.mark.parametrize("source", SOURCES, ids=_ids)


def test_every_part_of_the_core_has_a_layer() -> None:
    """A new module of the core says where it stands."""
    parts = {source.part for source in CORE_SOURCES} - {"__init__", "__main__"}

    assert parts - set(LAYERS) == set()


def test_layers_name_what_exists() -> None:
    """The list of layers names no part that is gone."""
    parts = {source.part for source in CORE_SOURCES}

    assert set(LAYERS) - parts == set()


@core
def test_core_imports_point_up_the_list(source: Source) -> None:
    """A part of the core imports only parts named before it."""
    if source.part not in LAYERS:
        return
    below = set(LAYERS[LAYERS.index(source.part) + 1 :])

    parts = {
        name.split(".")[1]
        for name in _imports(source, ast.walk(source.tree))
        if name.startswith("gaia_core.")
    }

    assert {
        part for part in parts & below if (source.part, part) not in EXCEPTIONS
    } == set()
    if source.part not in AFTER_THE_LIST:
        assert parts <= set(LAYERS), "import the module that defines the name"


@core
def test_core_knows_no_plugin_and_no_sdk(source: Source) -> None:
    """The core imports no plugin, no provider's SDK and no tensor library."""
    imported = {name.split(".")[0] for name in _imports(source, ast.walk(source.tree))}

    assert imported & (NOT_IN_THE_CORE | {_package(room) for room in ROOMS}) == set()


@core
def test_core_imports_heavy_packages_where_it_uses_them(source: Source) -> None:
    """No module loads a slow package when it is imported, nor another that does."""
    may_be_heavy = source.part in MAY_BE_HEAVY and source.module not in MUST_BE_LIGHT

    assert may_be_heavy or source.module not in HEAVY_MODULES


def test_light_modules_exist() -> None:
    """The list of modules that must be light names none that is gone."""
    assert {source.module for source in CORE_SOURCES} >= MUST_BE_LIGHT


@rooms
def test_rooms_know_the_core_only(source: Source) -> None:
    """No plugin imports another plugin."""
    own = source.module.split(".")[0]

    imported = {name.split(".")[0] for name in _imports(source, ast.walk(source.tree))}

    assert {name for name in imported if name.startswith("gaia_")} <= {own, "gaia_core"}


@rooms
def test_rooms_use_public_names(source: Source) -> None:
    """A plugin takes no name from the core that begins with an underscore."""
    private = [
        name
        for name in _imports(source, ast.walk(source.tree))
        if name.startswith("gaia_core.") and "._" in name
    ]

    assert private == []


@everything
def test_nothing_is_unpickled_or_evaluated(source: Source) -> None:
    """No code runs that came from a file or from outside."""
    imported = {name.split(".")[0] for name in _imports(source, ast.walk(source.tree))}
    called = {
        ast.unparse(node.func)
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call)
    }

    assert imported & DANGEROUS_MODULES == set()
    assert called & DANGEROUS_CALLS == set()


@everything
def test_modules_are_short(source: Source) -> None:
    """No module is longer than a reader's patience."""
    length = len(source.path.read_text(encoding="utf-8").splitlines())

    assert length <= MAX_LINES


@everything
def test_exemptions_say_why(source: Source) -> None:
    """
    Every rule that is switched off for a line has its reason beside or above it.

    An import inside a function needs none: it is always that the package is slow.
    """
    lines = source.path.read_text(encoding="utf-8").splitlines()

    silent = [
        line.strip()
        for above, line in pairwise(["", *lines])
        if re.search(r"# noqa(: (?!PLC0415$)[A-Z0-9, ]+)?$", line)
        and not above.strip().startswith("#")
    ]

    assert silent == []


def test_switched_off_rules_say_why() -> None:
    """Every rule that ruff ignores has its reason on the same line."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    rules = re.findall(r'^  "[A-Z]+[0-9]*",.*$', text, re.MULTILINE)

    assert [rule for rule in rules if "  # " not in rule and ", # " not in rule] == []


@everything
def test_nothing_is_left_for_later(source: Source) -> None:
    """No file holds a note to do something one day."""
    text = source.path.read_text(encoding="utf-8")

    assert [word for word in ("TODO", "FIXME", "XXX") if word in text] == []


def test_core_declares_what_it_imports_and_no_more() -> None:
    """The core's dependencies are exactly what the core imports."""
    project = _project(ROOT)
    extras = _names(project["optional-dependencies"]["testing"])
    sources = [source for source in CORE_SOURCES if source.part != SERVER]

    imported = _distributions(sources)

    assert imported - extras - OPTIONAL == _names(project["dependencies"])
    assert extras <= imported


def test_the_server_declares_what_it_imports_and_no_more() -> None:
    """Its extra is exactly what the server imports beyond the core's dependencies."""
    project = _project(ROOT)
    extra = _names(project["optional-dependencies"][SERVER])
    sources = [source for source in CORE_SOURCES if source.part == SERVER]

    imported = _distributions(sources) - _names(project["dependencies"])

    assert imported - extra == set()
    assert extra - imported - NEEDED_WITHOUT_IMPORT - OPTIONAL == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_rooms_declare_what_they_import(room: Path) -> None:
    """A plugin's dependencies, or those of its extras, hold everything it imports."""
    sources = [source for source in ROOM_SOURCES if source.path.is_relative_to(room)]
    project = _project(room)
    extras = project.get("optional-dependencies", {}).values()
    declared = _names(
        [*project["dependencies"], *(one for some in extras for one in some)]
    )

    imported = _distributions(sources)

    assert imported - declared == set()
    assert "gaia-core" in declared


def test_public_names_are_listed_once() -> None:
    """`gaia_core.__all__` names each thing once; ruff keeps it in order."""
    assert len(gaia_core.__all__) == len(set(gaia_core.__all__))


def test_public_names_exist() -> None:
    """Every name in `gaia_core.__all__` can be had from `gaia_core`."""
    missing = [name for name in gaia_core.__all__ if not hasattr(gaia_core, name)]

    assert missing == []


def test_public_module_holds_nothing_else() -> None:
    """What `gaia_core` holds is listed, or a module of the core."""
    held = {name for name in vars(gaia_core) if name[0].isalpha()}
    modules = {name for name in held if f"gaia_core.{name}" in sys.modules}

    assert held - modules - set(gaia_core.__all__) == set()


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_rooms_are_furnished_alike(room: Path) -> None:
    """Every plugin has a page for its users, tests, and types it can vouch for."""
    package = room / "src" / _package(room)

    missing = [
        path.relative_to(room).as_posix()
        for path in (room / "README.md", room / "tests", package / "py.typed")
        if not path.exists()
    ]

    assert missing == []


@pytest.mark.parametrize(
    "folder", [ROOT, *ROOMS], ids=lambda folder: folder.name.replace(ROOT.name, "core")
)
def test_tests_are_no_packages(folder: Path) -> None:
    """No `__init__.py` in tests: two rooms could not be tested together."""
    assert list((folder / "tests").rglob("__init__.py")) == []


def _package(room: Path) -> str:
    return room.name.replace("-", "_")


def _project(folder: Path) -> dict[str, Any]:
    text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    return cast("dict[str, Any]", tomllib.loads(text)["project"])


def _names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", line.lower())[0] for line in requirements}


def _third_party(sources: list[Source]) -> set[str]:
    names = {
        name.split(".")[0]
        for source in sources
        for name in _imports(source, ast.walk(source.tree))
    }
    foreign = names - set(sys.stdlib_module_names)
    return {name for name in foreign if not name.startswith("gaia_")}


def _distributions(sources: list[Source]) -> set[str]:
    return {_distribution(name) for name in _third_party(sources)}


def _distribution(module: str) -> str:
    return DISTRIBUTIONS.get(module, module.lower().replace("_", "-"))
