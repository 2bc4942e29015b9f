"""What a prompt is about, as far as choosing a model goes; light to import."""

import itertools
import re

_MOST_MENTIONS, _REACH = 8, 120
"""How many maps in a prompt are looked at, and how many characters before each."""

_MAP = re.compile(
    r"\b(?:battle[- ]?maps?|maps?|atlas|floor[- ]?plans?)\b"
    r"(?![- ]?(?:maker|room|table|seller|case|shop|merchant|reader|tattoo|holder))",
    re.IGNORECASE,
)

_PROP = re.compile(
    r"\b(?:hold|read|stud(?:y|i)|carr(?:y|i)|unroll|unfold|clutch|draw|paint|sell|bear|"
    r"point|look|bend|lean|examin|inspect|consult|trac|stand|sit|gather|huddl)"
    r"(?:s|es|e|ed|ing|ning|ying)\b[^,.;]*$"
    r"|\b(?:with|over|upon|beside|behind|near|around|under|on|in front of)\s+"
    r"(?:(?:a|an|the|his|her|their|its|some|old|large|torn|treasure|\w+ed)\s+)*$",
    re.IGNORECASE,
)


def wants_map(prompt: str) -> bool:
    """
    Say whether a prompt asks for a map, and not for a picture with a map in it.

    >>> wants_map("a map of the frozen isles of Thule")
    True
    >>> wants_map("a cartographer holding a map")
    False
    """
    mentions = itertools.islice(_MAP.finditer(prompt), _MOST_MENTIONS)
    return any(not _is_prop(prompt, match) for match in mentions)


def _is_prop(prompt: str, match: re.Match[str]) -> bool:
    """Say whether a map is held, read or lain upon: a thing in the picture."""
    before = prompt[max(0, match.start() - _REACH) : match.start()]
    return bool(_PROP.search(before))
