"""``gaia models`` and ``gaia providers``."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from gaia_core import Price
from gaia_core.cli.catalog import show_price

Gaia = Callable[..., Result]
Install = Callable[..., Path]

CATALOG = """
    import attrs
    from gaia_core import Capability, ModelInfo, Price
    from gaia_core.testing import FakeProvider

    def card(name, *capabilities, **fields):
        return ModelInfo(
            id=name, name=name, provider="studio", capabilities=capabilities, **fields
        )

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        models: tuple = (
            card("drawer", Capability.TEXT_TO_IMAGE, price=Price(per_image="0.04")),
            card("cutter", Capability.BACKGROUND_REMOVAL, price=Price()),
            card("film", Capability.TEXT_TO_IMAGE, kind="video"),
        )
"""
KEYLESS = """
    import attrs
    from gaia_core.testing import FakeProvider

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        priority: int = 50
        unavailable: str | None = "KEY is not set"
"""
VENDOR = """
    import attrs
    from gaia_core import Capability, ModelInfo, ProviderConnectionError, hookimpl
    from gaia_core.testing import FakeProvider

    def card(name):
        return ModelInfo(
            id=name,
            name=name,
            provider="studio",
            capabilities={Capability.TEXT_TO_IMAGE},
        )

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        is_lost: bool = False

        @hookimpl
        async def gaia_list_models(self, refresh, search):
            if not refresh and search is None:
                return [card("usual")]
            if self.is_lost:
                raise ProviderConnectionError("No route.")
            names = ["usual", "red-dragon", "keep"]
            return [card(name) for name in names if (search or "") in name]
"""


def _first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()[1:]]


def test_models_are_listed(gaia: Gaia, install: Install) -> None:
    """Each model that can be asked now has a line; the others are counted."""
    install(source=CATALOG)
    install("keyless", KEYLESS)

    result = gaia("models")

    assert result.exit_code == 0
    assert _first_words(result.stdout) == ["drawer", "cutter"]
    assert "2 more cannot be asked now" not in result.stdout
    assert "2 models more cannot be asked now" in result.stderr


def test_all_models_are_listed_with_their_state(gaia: Gaia, install: Install) -> None:
    """``--all`` adds those that cannot be asked, each with the reason."""
    install(source=CATALOG)
    install("keyless", KEYLESS)

    result = gaia("models", "--all")

    assert _first_words(result.stdout) == ["fake", "drawer", "cutter", "film"]
    assert "KEY is not set" in result.stdout
    assert "makes video, not pictures" in result.stdout
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--capability", "background-removal"), ["cutter"]),
        (("--provider", "studio"), ["drawer", "cutter"]),
        (("--provider", "keyless"), []),
    ],
    ids=["capability", "provider", "unavailable"],
)
def test_models_can_be_narrowed_down(
    gaia: Gaia, install: Install, options: tuple[str, ...], expected: list[str]
) -> None:
    """Only models of a capability or a provider are listed."""
    install(source=CATALOG)
    install("keyless", KEYLESS)

    result = gaia("models", *options)

    assert _first_words(result.stdout) == expected


def test_a_plugin_that_failed_is_not_passed_over_in_silence(
    gaia: Gaia, install: Install
) -> None:
    """A list that lacks a plugin says so on standard error."""
    install("broken", "raise RuntimeError")

    words = "1 plugin could not be loaded: `gaia plugins` says why.\n"

    everywhere, elsewhere = gaia("models"), gaia("models", "-p", "nobody")
    there = gaia("models", "-p", "broken")

    assert (everywhere.exit_code, everywhere.stderr) == (0, words)
    assert elsewhere.exit_code == there.exit_code == 2
    assert elsewhere.stderr.endswith(words)
    assert "broken could not be loaded: RuntimeError" in there.stderr


def test_an_unknown_provider_is_wrong_usage(gaia: Gaia, install: Install) -> None:
    """A provider that is not there is named, with those that are."""
    install()

    result = gaia("models", "-p", "nobody")

    assert result.exit_code == 2
    assert "There is no provider 'nobody'; there is studio." in result.stderr


def test_models_as_json(gaia: Gaia, install: Install) -> None:
    """The JSON card of a model holds limits, price and availability."""
    install(source=CATALOG)

    result = gaia("models", "--capability", "text-to-image", "--json")

    (card,) = json.loads(result.stdout)["models"]
    assert card["id"] == "drawer"
    assert card["capabilities"] == ["text-to-image"]
    assert card["price"] == {"per_image": 0.04}
    assert card["unavailable"] is None
    assert card["max_width"] == 1024


def test_tables_hold_no_tabs(gaia: Gaia, install: Install) -> None:
    """What goes into a pipe is aligned with spaces."""
    install(source=CATALOG.replace('"cutter"', '"cut\\tter"'))

    result = gaia("models")

    assert "\t" not in result.stdout
    assert "cut ter" in result.stdout


def test_providers_are_listed(gaia: Gaia, install: Install) -> None:
    """Each provider has a line with its rank and its state, best rank first."""
    install(source=CATALOG)
    install("keyless", KEYLESS)

    result = gaia("providers")

    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[1][:3] == ["keyless", "50", "1"]
    assert lines[1][-4:] == ["KEY", "is", "not", "set"]
    assert lines[2][:3] == ["studio", "0", "3"]
    assert lines[2][-1] == "ready"


def test_providers_as_json(gaia: Gaia, install: Install) -> None:
    """The JSON card of a provider says why it cannot work."""
    install("keyless", KEYLESS)

    result = gaia("providers", "--json")

    (card,) = json.loads(result.stdout)["providers"]
    assert card["name"] == "keyless"
    assert card["unavailable"] == "KEY is not set"


@pytest.mark.parametrize(
    ("price", "text"),
    [
        (None, "unknown"),
        (Price(), "free"),
        (Price(per_image="0.04"), "$0.04/image"),
        (Price(base=1, per_step="0.001"), "$1/request + $0.001/step"),
    ],
    ids=["unknown", "free", "image", "sum"],
)
def test_prices_are_shown_in_their_terms(price: Price | None, text: str) -> None:
    """A price shows what it is counted by."""
    assert show_price(price) == text


# -- what the vendors have --------------------------------------------------------


def test_vendors_are_asked_on_demand(gaia: Gaia, install: Install) -> None:
    """``--refresh`` lists what the vendors have today."""
    install(source=VENDOR)

    usual, today = gaia("models"), gaia("models", "--refresh")

    assert _first_words(usual.stdout) == ["usual"]
    assert _first_words(today.stdout) == ["usual", "red-dragon", "keep"]
    assert today.stderr == ""


def test_catalogues_are_searched(gaia: Gaia, install: Install) -> None:
    """``--search`` lists what was found and nothing else."""
    install(source=VENDOR)
    install("other")

    everywhere = gaia("models", "--search", "dragon")
    elsewhere = gaia("models", "--search", "dragon", "--provider", "other")

    assert (everywhere.exit_code, everywhere.stderr) == (0, "")
    assert _first_words(everywhere.stdout) == ["red-dragon"]
    assert _first_words(elsewhere.stdout) == []
    assert elsewhere.stderr == (
        "warning: other could not ask its vendor: "
        "it has no catalogue that can be searched\n"
        "Nothing was found for 'dragon'.\n"
    )


@pytest.mark.parametrize(
    ("words", "names", "code"),
    [
        pytest.param(("--refresh",), ["usual"], 0, id="refresh"),
        pytest.param(("--search", "dragon"), [], 1, id="search"),
    ],
)
def test_a_vendor_that_cannot_be_asked_is_named(
    gaia: Gaia, install: Install, words: tuple[str, ...], names: list[str], code: int
) -> None:
    """The reason stands on standard error, and in the document."""
    install(source=VENDOR)
    lost = ("--set", "providers.studio.is_lost=true", "models", *words)
    reason = "listing its models failed: No route."

    table, document = gaia(*lost), gaia(*lost, "--json")

    assert (table.exit_code, document.exit_code) == (code, code)
    assert _first_words(table.stdout) == names
    assert f"warning: studio could not ask its vendor: {reason}\n" in table.stderr
    assert json.loads(document.stdout)["errors"] == {"studio": reason}
    assert [one["id"] for one in json.loads(document.stdout)["models"]] == names


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 0), (("-p", "idle"), 1)],
    ids=["everybody", "the one"],
)
def test_who_is_not_set_up_makes_no_search_fail(
    gaia: Gaia, install: Install, words: tuple[str, ...], code: int
) -> None:
    """Unless it was the only one that was to be asked."""
    install(source=VENDOR)
    install("idle", source=VENDOR.replace('"studio"', '"idle"'))
    idle = ("--set", "providers.idle.unavailable=no key")

    result = gaia(*idle, "models", "--search", "nothing", *words)

    assert result.exit_code == code
    assert result.stderr == (
        "warning: idle could not ask its vendor: no key\n"
        "Nothing was found for 'nothing'.\n"
    )


@pytest.mark.parametrize("words", [("--search", " "), ("--refresh", "-p", "nobody")])
def test_asking_for_nothing_is_wrong_usage(
    gaia: Gaia, install: Install, words: tuple[str, ...]
) -> None:
    """No words to look for and no such provider end with the same code."""
    install(source=VENDOR)

    assert gaia("models", *words).exit_code == 2


@pytest.mark.parametrize("options", [(), ("--dry-run",)], ids=["work", "plan"])
def test_a_model_found_before_can_be_asked_for(
    gaia: Gaia, install: Install, options: tuple[str, ...]
) -> None:
    """Each run is a process of its own: a name in no list is looked for."""
    install(source=VENDOR)

    found = gaia("generate", "a keep", "--size", 16, "-m", "red-dragon", *options)
    unknown = gaia("generate", "a keep", "--size", 16, "-m", "green-slime", *options)

    assert found.exit_code == 0
    assert unknown.exit_code == 4


# -- how a model is now --------------------------------------------------------------

STATES = """
    import attrs
    from pathlib import Path
    from gaia_core import Capability, ModelInfo, ModelState
    from gaia_core.testing import FakeProvider

    def fail():
        raise OSError("/secret/place")

    def card(name, state):
        return ModelInfo(
            id=name,
            name=name,
            provider="studio",
            capabilities={Capability.TEXT_TO_IMAGE},
            state=state,
        )

    @attrs.define(eq=False, kw_only=True)
    class Plugin(FakeProvider):
        models: tuple = (
            card(
                "here",
                lambda: ModelState(
                    word="on disk", details={"bytes": 12, "path": Path("a")}
                ),
            ),
            card("gone", lambda: ModelState(word="absent", unavailable="run `x pull`")),
            card("odd", fail),
            card("silent", None),
        )
"""


def test_the_state_of_a_model_is_shown(gaia: Gaia, install: Install) -> None:
    """The word stands in the table; who cannot be asked is counted."""
    install(source=STATES)

    result = gaia("models")

    assert _first_words(result.stdout) == ["here", "silent"]
    assert "on disk" in result.stdout
    assert "2 models more cannot be asked now" in result.stderr


def test_a_model_that_cannot_be_asked_says_why(gaia: Gaia, install: Install) -> None:
    """``--all`` shows the word and the reason, without the words of an exception."""
    install(source=STATES)

    result = gaia("models", "--all")

    assert "absent: run `x pull`" in result.stdout
    assert "unknown: telling its state failed: OSError" in result.stdout
    assert "/secret" not in result.output


def test_states_as_json(gaia: Gaia, install: Install) -> None:
    """A program gets word, details and reason of each model."""
    install(source=STATES)

    models = json.loads(gaia("models", "--all", "--json").stdout)["models"]

    keys = ("state", "details", "unavailable")
    found = {one["id"]: tuple(one[key] for key in keys) for one in models}
    assert found == {
        "here": ("on disk", {"bytes": 12, "path": "a"}, None),
        "gone": ("absent", {}, "run `x pull`"),
        "odd": ("unknown", {}, "telling its state failed: OSError"),
        "silent": (None, {}, None),
    }


def test_a_dry_run_says_what_keeps_a_named_model(gaia: Gaia, install: Install) -> None:
    """The reason is the model's own sentence, and nobody is asked."""
    install(source=STATES)

    result = gaia("generate", "a dragon", "-p", "studio", "-m", "gone", "--dry-run")

    assert "run `x pull`" in result.output
