"""The page about HTTP says what the server does, completely."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from gaia_core import errors, server
from gaia_core.server.access import Scope
from gaia_core.server.problems import TEXTS, code_of
from gaia_core.server.routes import OPEN, PROTECTED, PUBLIC
from gaia_core.server.schemas import answers, images

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"
TEXT = PAGE.read_text(encoding="utf-8")
WORDS = frozenset(
    word
    for span in re.findall(r"`([^`\n]+)`", re.sub(r"(?s)```.*?```", "", TEXT))
    for word in (span, *re.findall(r'"(\w+)"', span), *re.split(r"[ ,]+", span))
)
ROWS = {
    cells[0]: cells[1:]
    for line in TEXT.splitlines()
    if line.startswith("| ")
    for cells in [[cell.strip(" `") for cell in line.strip("|").split("|")]]
}


def _routes() -> Iterator[str]:
    for router in (*PUBLIC, *OPEN, *PROTECTED):
        for route in router.routes:
            if isinstance(route, APIRoute) and route.path.startswith(
                ("/api/", "/metrics")
            ):
                yield from (
                    f"{method} {route.path}"
                    for method in (route.methods or set()) - {"HEAD", "OPTIONS"}
                )


def _models(module: ModuleType) -> list[type[BaseModel]]:
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
    ]


def test_every_route_is_there() -> None:
    """A route nobody can read about is a route nobody asked for."""
    told = {name for name in ROWS if name.startswith(("GET", "POST", "DELETE"))}

    assert told == set(_routes())


@pytest.mark.parametrize(
    "model", [*_models(images), *_models(answers)], ids=lambda model: model.__name__
)
def test_every_field_is_there(model: type[BaseModel]) -> None:
    """What is taken and what is given can be looked up by its name."""
    assert set(model.model_fields) <= WORDS


def test_every_problem_is_there_with_its_words() -> None:
    """The table has every code and the text that goes with it."""
    told: dict[str, Any] = {code: ROWS[code][1] for code in TEXTS if code in ROWS}

    assert told == dict(TEXTS)


def test_every_scope_is_there() -> None:
    """What a key opens is said for every scope."""
    assert set(map(str, Scope)) <= ROWS.keys()


def _value(node: ast.expr, module: ModuleType) -> Any:
    """Look a constant up; None: only a function knows it."""
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, module), node.attr, None)
    if isinstance(node, ast.Name):
        return getattr(module, node.id, None)
    return node.value if isinstance(node, ast.Constant) else None


def _refusals(module: ModuleType) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RefusedError":
            status, code = (_value(one, module) for one in node.args[:2])
            if status is not None and code is not None:
                yield code, status


def _statuses() -> Iterator[tuple[str, int]]:
    """Find the statuses of every code: those of the core's errors, and our own."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, errors.GaiaError) and kind is not errors.GaiaError:
            yield code_of(kind), kind.http_status
    for found in pkgutil.walk_packages(server.__path__, f"{server.__name__}."):
        yield from _refusals(importlib.import_module(found.name))


def test_every_problem_is_there_with_its_statuses() -> None:
    """The table says which statuses a code comes with."""
    sent: dict[str, set[int]] = {}
    for code, status in _statuses():
        sent.setdefault(code, set()).add(status)

    told = {code: set(map(int, ROWS[code][0].split(", "))) for code in sent}

    assert told == sent
