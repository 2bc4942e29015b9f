"""The documentation says what the code does, completely, and its links lead on."""

import ast
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import click
import pytest

import gaia_core
from gaia_core import (
    Gaia,
    Image,
    Plan,
    catalog,
    context,
    errors,
    hookspecs,
    requests,
    responses,
    results,
    testing,
)
from gaia_core.cli import main
from gaia_core.cli.root import COMMANDS as OWN
from gaia_core.ledger import OperationState
from gaia_core.metrics import METRICS, Statistics
from gaia_core.settings import Settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = sorted(
    [
        *DOCS.rglob("*.md"),
        *ROOT.glob("*.md"),
        *ROOT.glob("plugins/*/*.md"),
    ]
)
TESTS = sorted([*ROOT.glob("tests/**/*.py"), *ROOT.glob("plugins/*/tests/**/*.py")])

GLOSSARY = (
    "attempt",
    "batch",
    "budget",
    "capability",
    "distribution",
    "hookimpl",
    "hookspec",
    "idempotency key",
    "ledger",
    "middleware",
    "model",
    "operation",
    "outcome class",
    "payload",
    "plan",
    "plugin",
    "principal",
    "priority",
    "provider",
    "reply",
    "request",
    "response",
    "result",
    "room",
    "selection",
    "task id",
    "unavailable",
    "unknown outcome",
)
VALUES = (requests, results, responses, catalog, context)

_FENCE = re.compile(
    r"^(?P<marks>```+|~~~+)(?P<info>.*?)\n(?P<body>.*?)^(?P=marks)",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)(?:\s+\"[^\"]*\")?\)")
_HEADING = re.compile(r"^#{1,6} +(?P<title>.+?) *$", re.MULTILINE)
_CODE = re.compile(r"`([^`]+)`")


# -- reading Markdown -------------------------------------------------------------


@cache
def _prose(page: Path) -> str:
    """Read a page without its code blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


@cache
def _anchors(page: Path) -> frozenset[str]:
    """Name the anchors of a page's headings, as GitHub makes them."""
    titles = (match["title"] for match in _HEADING.finditer(_prose(page)))
    return frozenset(_slug(title) for title in titles)


def _slug(title: str) -> str:
    words = re.sub(r"[^\w\- ]", "", title.replace("`", "").lower())
    return words.replace(" ", "-")


def _sections(page: Path) -> dict[str, str]:
    """Split a page at its headings; each title's code words lead to its text."""
    text = page.read_text(encoding="utf-8")
    parts = re.split(r"^#{1,6} +(.+?) *$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@cache
def _entries(page: Path) -> frozenset[str]:
    """Name what a page has an entry for: in a heading, or first in a table row."""
    prose = _prose(page)
    titles = [match["title"] for match in _HEADING.finditer(prose)]
    cells = [line.split("|")[1] for line in prose.splitlines() if line.startswith("|")]
    words = (word for text in (*titles, *cells) for word in _CODE.findall(text))
    return frozenset(re.split(r"[(=:\s]", word)[0] for word in words)


def _rows(page: Path) -> dict[str, list[str]]:
    """Read the tables of a page: first cell to all cells, without backticks."""
    lines = [line for line in _prose(page).splitlines() if line.startswith("|")]
    cells = [
        [cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines
    ]
    return {row[0]: row for row in cells}


def _page_id(page: object) -> str:
    return page.relative_to(ROOT).as_posix() if isinstance(page, Path) else str(page)


# -- links ------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link inside the repository leads to a file, and to a heading of it."""
    targets = [match["target"] for match in _LINK.finditer(_prose(page))]

    broken = [target for target in targets if not _leads_somewhere(page, target)]

    assert broken == []


def _leads_somewhere(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True
    name, _, anchor = target.partition("#")
    goal = (page.parent / name).resolve() if name else page
    if not goal.exists() or not goal.is_relative_to(ROOT):
        return False
    return not anchor or anchor in _anchors(goal)


def test_every_page_can_be_reached() -> None:
    """Following links from the front page leads to every page of the docs."""
    reached = {DOCS / "index.md"}
    waiting = list(reached)
    while waiting:
        page = waiting.pop()
        found = {
            (page.parent / match["target"].partition("#")[0]).resolve()
            for match in _LINK.finditer(_prose(page))
            if not re.match(r"[a-z]+:|#", match["target"])
        }
        new = {
            goal for goal in found if goal.suffix == ".md" and goal.exists()
        } - reached
        reached |= new
        waiting += new

    assert [_page_id(page) for page in DOCS.rglob("*.md") if page not in reached] == []


# -- hooks ------------------------------------------------------------------------

HOOKS = [
    value
    for name, value in vars(hookspecs).items()
    if name.startswith("gaia_") and inspect.isfunction(value)
]
hooks = pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: hook.__name__)


@hooks
def test_hooks_are_documented(hook: Any) -> None:
    """Every hook has a section in the reference that names its parameters."""
    section = _sections(REFERENCE / "hooks.md").get(f"`{hook.__name__}`", "")

    assert section, f"docs/reference/hooks.md lacks the heading `{hook.__name__}`"
    assert [
        name
        for name in inspect.signature(hook).parameters
        if f"`{name}`" not in section
    ] == []


@hooks
def test_hooks_show_an_example(hook: Any) -> None:
    """Every hook's docstring holds examples of implementations that compile."""
    blocks = re.findall(r"::\n\n((?: {4,}.*\n|\n)+)", f"{inspect.getdoc(hook)}\n")
    examples = [textwrap.dedent(block) for block in blocks if "@hookimpl" in block]

    assert examples
    for example in examples:
        assert hook.__name__ in example
        ast.parse(example)


# -- errors -----------------------------------------------------------------------

ERRORS = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.GaiaError)
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_errors_are_documented(error: type[errors.GaiaError]) -> None:
    """The table of errors says of each class what the class itself says."""
    outcome = getattr(error, "outcome", None)
    expected = [
        error.error_type,
        str(error.http_status),
        error.suggested_action,
        outcome.value if outcome else "none",
    ]

    row = _rows(REFERENCE / "errors.md").get(error.__name__)

    assert row, f"docs/reference/errors.md has no row for {error.__name__}"
    assert row[2:] == expected


@pytest.mark.parametrize("outcome", errors.OutcomeClass, ids=str)
def test_outcome_classes_are_documented(outcome: errors.OutcomeClass) -> None:
    """Every outcome class has an entry on the page of errors."""
    assert outcome.value in _entries(REFERENCE / "errors.md")


# -- the ledger and what is counted -----------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_metrics_are_documented(name: str) -> None:
    """The page of metrics says of each what the catalogue says."""
    metric = METRICS[name]
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "none"

    text = (REFERENCE / "metrics.md").read_text(encoding="utf-8")

    assert f"| `{name}` | {metric.kind} | {labels} | {metric.help} |" in text


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(Statistics)])
def test_statistics_are_documented(field: str) -> None:
    """The page of metrics explains every figure of the statistics."""
    assert field in _entries(REFERENCE / "metrics.md")


@pytest.mark.parametrize("state", OperationState, ids=str)
def test_states_are_documented(state: OperationState) -> None:
    """The page of the ledger explains every state of an operation."""
    assert state.value in _entries(REFERENCE / "ledger.md")


def test_tables_are_documented() -> None:
    """The page of the ledger names every table."""
    from gaia_core.ledger.tables import metadata

    assert set(metadata.tables) - _entries(REFERENCE / "ledger.md") == set()


# -- names and values -------------------------------------------------------------


@pytest.mark.parametrize("name", gaia_core.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Every public name has an entry on a page of the reference."""
    assert [page for page in REFERENCE.glob("*.md") if name in _entries(page)]


@pytest.mark.parametrize("name", testing.__all__)
def test_the_test_kit_is_documented(name: str) -> None:
    """Every public name of the test kit has an entry in the reference."""
    assert name in _entries(REFERENCE / "testing.md")


def _members() -> Iterator[str]:
    for kind in (Gaia, Image, Plan):
        fields = {field.name for field in attrs.fields(kind)}
        names = {*fields, *vars(kind)}
        yield from (f"{kind.__name__}.{name}" for name in names if name[0] != "_")


@pytest.mark.parametrize("member", sorted(_members()))
def test_what_a_host_can_call_is_documented(member: str) -> None:
    """Every public member of what a host holds has an entry on the Python page."""
    assert member in _entries(REFERENCE / "python.md")


CLASSES = [
    value
    for module in VALUES
    for value in vars(module).values()
    if inspect.isclass(value)
    and attrs.has(value)
    and value.__module__ == module.__name__
    and not value.__name__.startswith("_")
]


@pytest.mark.parametrize("value", CLASSES, ids=lambda value: value.__name__)
def test_fields_are_documented(value: type[attrs.AttrsInstance]) -> None:
    """Every field of every value is in the table of its class, with its default."""
    section = _sections(REFERENCE / "values.md").get(f"`{value.__name__}`", "")
    own = [field for field in attrs.fields(value) if not field.inherited]

    assert section, f"docs/reference/values.md lacks the heading `{value.__name__}`"
    assert [
        row
        for field in own
        if (row := f"| `{field.alias}` | {_default_of(field)} |") not in section
    ] == []


def _default_of(field: "attrs.Attribute[Any]") -> str:
    """Write a default as the tables show it."""
    if not field.init:
        return "computed"
    default = field.default
    if default is attrs.NOTHING:
        return "required"
    factory = getattr(default, "factory", None)
    return f"`{_shown(factory() if factory else default)}`"


def _shown(value: Any) -> str:
    if isinstance(value, frozenset):
        return "{" + ", ".join(map(str, sorted(value))) + "}"
    if inspect.isfunction(value):
        return value.__name__
    if isinstance(value, Decimal):
        return str(value)
    plain = value.value if isinstance(value, Enum) else value
    return repr(plain).replace("'", '"')


# -- settings ---------------------------------------------------------------------


NO_KEYS = {"name", "options", "sources"}
"""Fields of the settings that nobody writes: where a section's name goes, and so on."""


def _settings_keys(settings: Any = Settings) -> Iterator[str]:
    """Name every key of the settings, sections included."""
    for field in attrs.fields(attrs.resolve_types(settings)):
        if field.name in NO_KEYS:
            continue
        yield field.name
        for kind in (field.type, *getattr(field.type, "__args__", ())):
            if inspect.isclass(kind) and attrs.has(kind):
                yield from _settings_keys(kind)


@pytest.mark.parametrize("key", sorted(set(_settings_keys())))
def test_settings_are_documented(key: str) -> None:
    """Every key of the settings is named on the page of settings."""
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")

    assert re.search(rf"\b{key}\b", text)


# -- the command line -------------------------------------------------------------


def _commands(
    command: click.Command = main, words: tuple[str, ...] = ("gaia",)
) -> Iterator[tuple[str, click.Command]]:
    """Walk all commands of Gaia's own, each with the words a person types."""
    yield " ".join(words), command
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            # What installed plugins add stands on their own pages.
            for name in OWN if command is main else command.list_commands(ctx):
                child = command.get_command(ctx, name)
                if child is not None and not child.hidden:
                    yield from _commands(child, (*words, name))


COMMANDS = dict(_commands())


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_are_documented(words: str) -> None:
    """Every command has a section in the reference that names its options."""
    section = _sections(REFERENCE / "cli.md").get(f"`{words}`", "")
    options = [
        name
        for param in COMMANDS[words].params
        if isinstance(param, click.Option) and not param.hidden
        for name in (*param.opts, *param.secondary_opts)
    ]

    assert section, f"docs/reference/cli.md lacks the heading `{words}`"
    assert [name for name in options if not _is_named(name, section)] == []


@pytest.mark.parametrize("words", COMMANDS)
def test_commands_explain_themselves(words: str) -> None:
    """Every command and every option has a line of help."""
    command = COMMANDS[words]

    silent = [
        param.name
        for param in command.params
        if isinstance(param, click.Option) and not param.hidden and not param.help
    ]

    assert command.help
    assert silent == []


def _is_named(option: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text) is not None


def _shell_lines(page: Path) -> Iterator[str]:
    """Give the `gaia` commands of a page's shell blocks."""
    for fence in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if fence["info"].split(" ")[0] not in {"bash", "console", "sh", "shell"}:
            continue
        text = fence["body"].replace("\\\n", " ")
        for line in re.split(r"\n|&&|;|\|", text):
            if line.strip(" $").startswith("gaia "):
                yield line.strip(" $").partition("  #")[0]


SHELL_LINES = [(page, line) for page in PAGES for line in _shell_lines(page)]


@pytest.mark.parametrize(("page", "line"), SHELL_LINES, ids=_page_id)
def test_commands_shown_exist(page: Path, line: str) -> None:
    """Every command shown on a page exists, and takes the options shown."""
    command: click.Command = main
    unknown = []
    for word in shlex.split(line)[1:]:
        if isinstance(command, click.Group) and not word.startswith("-"):
            child = command.get_command(click.Context(command), word)
            assert child is not None, f"{page.name}: {line}: there is no {word}"
            command = child
        elif re.match(r"--?[a-z]", word):
            opts = {opt for param in command.params for opt in param.opts}
            unknown += [word] if word.partition("=")[0] not in opts else []

    assert set(unknown) <= {"--help", "--version"}


# -- words ------------------------------------------------------------------------


@pytest.mark.parametrize("word", GLOSSARY)
def test_words_are_settled(word: str) -> None:
    """Every word that decides the design has its entry in the glossary."""
    assert _slug(word) in _anchors(DOCS / "glossary.md")


@pytest.mark.parametrize("page", PAGES, ids=_page_id)
def test_pages_hold_one_sentence_per_line(page: Path) -> None:
    """A line of prose ends where its sentence ends, so that changes read well."""
    lines = [line for line in _prose(page).splitlines() if not line.startswith("|")]

    run_on = [line for line in lines if re.search(r"[a-z`)]\. [A-Z`][a-z]", line)]

    assert run_on == []


@pytest.mark.parametrize("path", TESTS, ids=_page_id)
def test_tests_say_what_they_test(path: Path) -> None:
    """Every test's docstring is one sentence that states the behaviour."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    ]

    silent = [node.name for node in tests if not ast.get_docstring(node)]

    assert silent == []


@pytest.mark.parametrize("path", TESTS, ids=_page_id)
def test_tests_use_no_mocks(path: Path) -> None:
    """Tests use real values and public fakes."""
    text = path.read_text(encoding="utf-8")
    mock = r"^\s*(from|import) (unittest(\.mock)? import .*\b|unittest\.)?[Mm]ock\b"

    assert re.search(mock, text, re.MULTILINE) is None


# -- the two lines of the README --------------------------------------------------


def test_the_readme_sets_up_in_two_lines() -> None:
    """The first shell block of the README is two lines: a picture, and the tests."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = next(
        match["body"] for match in _FENCE.finditer(text) if "sh" in match["info"]
    )

    picture, tests = block.strip().splitlines()

    assert picture.startswith("pip install . ./plugins/gaia-offline && gaia generate ")
    assert tests == "pip install nox && nox"


def test_continuous_integration_runs_the_line_of_the_readme() -> None:
    """`.ci/run` runs the test command a reader of the README runs."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert "  pip install nox && nox\n" in script
