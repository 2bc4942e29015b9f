"""The page about HTTP says what the server does, completely."""

import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fastapi.routing import APIRoute
from pydantic import BaseModel

from gaia_core.server.access import Scope
from gaia_core.server.problems import TEXTS
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
