"""A prompt chooses between a map and a picture with a map in it."""

import pytest

from gaia_offline.prompts import wants_map


@pytest.mark.parametrize(
    "prompt",
    [
        "a map of the frozen isles of Thule",
        "Fantasy world map",
        "draw a map of a kingdom",
        "battlemap of a ruined temple",
        "battle-map",
        "Floor plan of a castle",
        "dungeon map, five rooms",
        "hand-drawn maps of the coast",
        "an atlas of the northern realms",
        "treasure map",
    ],
)
def test_prompts_that_want_a_map(prompt: str) -> None:
    """A prompt whose subject is a map wants one."""
    assert wants_map(prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "a red dragon",
        "mapmaker holding a quill",
        "a cartographer holding a map",
        "a wizard with a map",
        "adventurers studying a map of the dungeon",
        "a dragon sleeping on a treasure map",
        "a table covered with maps",
        "the map room of a castle",
        "mapping the stars",
        "a roadmap",
    ],
)
def test_prompts_with_a_map_in_the_picture(prompt: str) -> None:
    """A map that somebody holds, reads or sells is a thing in a picture."""
    assert not wants_map(prompt)


def test_long_prompts_are_read_quickly() -> None:
    """A prompt made to keep the pattern busy is answered all the same."""
    assert not wants_map("a wizard holding a map " * 300)
