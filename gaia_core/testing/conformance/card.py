# ruff: noqa: S101 - these are tests, although no folder says so
"""Tests of what a provider says about itself."""

import re

import pytest

from gaia_core.capabilities import HOOK_OF
from gaia_core.catalog import CONTRACT
from gaia_core.requests import MIN_SIDE, UPSCALE_FACTORS
from gaia_core.testing.bench import Bench, imported_by, secrets_of
from gaia_core.testing.conformance.fixtures import Conformance
from gaia_core.testing.watching import watched

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")


class CardTests(Conformance):
    """Its card, its models, and the price of looking at them."""

    def test_it_can_be_registered(self, bench: Bench) -> None:
        """
        Gaia loads it: its hooks are spelt right and take the right arguments.

        Troubleshooting:
            The message says what Gaia refuses. A class made by `attrs.define`
            needs ``eq=False``; every hook needs ``@hookimpl``.
        """
        assert bench.plugins.failures == ()
        assert len(bench.plugins.providers) == 1

    def test_it_is_hashable(self, provider: object) -> None:
        """
        It can be put into a set, as the plugin manager does.

        Troubleshooting:
            Write ``@attrs.define(eq=False)``, or leave ``__eq__`` out.
        """
        registered = {provider}

        assert provider in registered

    def test_its_name_can_be_typed(self, bench: Bench) -> None:
        """
        Its name is lower-case letters, digits, hyphens and underscores.

        Troubleshooting:
            The name is a section of ``gaia.toml`` and the value of ``-p``; put
            anything prettier into ``display_name``.
        """
        assert _NAME.fullmatch(bench.info.name)

    def test_it_speaks_this_contract(self, bench: Bench) -> None:
        """
        It was written for the contract this version of Gaia speaks.

        Troubleshooting:
            Read what changed in the contract, then raise ``contract``.
        """
        assert bench.info.contract == CONTRACT

    def test_its_card_says_what_it_can_do(self, bench: Bench) -> None:
        """
        It can do something, and says why if it cannot do so now.

        Troubleshooting:
            ``unavailable`` is None or one sentence that names the next step, such
            as ``"HELLO_API_KEY is not set"``.
        """
        reason = bench.info.unavailable

        assert bench.info.capabilities
        assert reason is None or (reason.strip() == reason != "" and "\n" not in reason)

    def test_its_card_is_steady(self, bench: Bench) -> None:
        """
        Asked again, it says the same.

        Troubleshooting:
            The card follows from settings and machine, not from what was done.
        """
        assert bench.info == bench.info

    def test_its_card_is_cheap(self, bench: Bench) -> None:
        """
        Its card is read before every request, so nothing is looked up for it.

        Troubleshooting:
            No network, no file, no process and no import in `gaia_provider_info`:
            find out once and keep the answer.
        """
        assert bench.info

        with watched() as events:
            assert bench.info

        assert events == []

    def test_its_import_is_light(self, provider: object) -> None:
        """
        Importing it loads no SDK, so that ``gaia models`` answers at once.

        Troubleshooting:
            Move the import into the first function that uses it. ``python -X
            importtime -c 'import gaia_hello'`` shows who imports what.
        """
        modules = imported_by(type(provider).__module__)

        assert modules & self.heavy_modules == set()

    def test_its_secrets_stay_secret(self, provider: object) -> None:
        """
        Keys and passwords show neither in ``repr`` nor in ``str``.

        Troubleshooting:
            Declare the field with `setting` and the type `Secret`, or with
            ``attrs.field(repr=False)``.
        """
        shown = f"{provider!r} {provider}"

        assert [value for value in secrets_of(provider) if value in shown] == []

    def test_it_has_a_hook_for_every_capability(self, bench: Bench) -> None:
        """
        What it declares, it implements.

        Troubleshooting:
            Implement the hook, or leave the capability out of `ProviderInfo`.
        """
        wanted = {HOOK_OF[capability] for capability in bench.info.capabilities}

        assert [hook for hook in wanted if not bench.loaded.implements(hook)] == []

    @pytest.mark.asyncio
    async def test_its_models_are_sound(self, bench: Bench) -> None:
        """
        Its models can be told apart, priced and asked for.

        Troubleshooting:
            Identifiers and aliases are unique; a model can do nothing that its
            provider does not declare; sizes and counts are limits, not wishes.
        """
        models = await bench.models()
        names = [name for model in models for name in (model.id, *model.aliases)]

        assert models
        assert len(names) == len(set(names))
        for model in models:
            assert model.name
            assert model.capabilities <= bench.info.capabilities
            assert min(model.max_width, model.max_height) >= MIN_SIDE
            assert model.max_images >= 1
            assert model.default_steps >= 1
            assert model.upscale_factors <= set(UPSCALE_FACTORS)

    @pytest.mark.asyncio
    async def test_every_capability_has_a_model(self, bench: Bench) -> None:
        """
        For whatever it declares, it lists a model.

        Troubleshooting:
            Without such a model no request for the capability is ever planned.
        """
        able = {one for model in await bench.models() for one in model.capabilities}

        assert bench.info.capabilities - able == set()
