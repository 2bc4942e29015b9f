"""What clients of other programs call models: by one word, provider and all."""

from collections import Counter
from collections.abc import Iterable, Iterator

import attrs

from gaia_core.capabilities import Capability
from gaia_core.catalog import ModelInfo
from gaia_core.engine import Gaia
from gaia_core.server.problems import RefusedError
from gaia_core.states import reason_against

AUTO = "auto"
"""The name that leaves the choice to the policy."""
DRAWING = frozenset(
    {
        Capability.TEXT_TO_IMAGE,
        Capability.IMAGE_TO_IMAGE,
        Capability.INPAINTING,
        Capability.OUTPAINTING,
    }
)
"""What a model for pictures from words can do, at least one of it."""


@attrs.frozen(kw_only=True)
class Addressed:
    """
    Who a name stands for; None is whoever the policy takes.

    Attributes:
        provider: The provider.
        model: The model.
    """

    provider: str | None = None
    model: str | None = None


@attrs.frozen(kw_only=True)
class ModelNames:
    """
    The models of one server, by the names its clients may use.

    A name is a model's identifier or an alias of it, a provider and a model with a
    slash between them, or ``auto``.

    Attributes:
        models: Every model there is.
        unavailable: The providers that cannot work now.
    """

    models: tuple[ModelInfo, ...]
    unavailable: frozenset[str] = frozenset()

    def listed(self, capabilities: Iterable[Capability]) -> dict[str, ModelInfo]:
        """
        Name the models that can do one of some things here and now.

        Those of the same identifier at two providers are named by both as well.
        """
        wanted = frozenset(capabilities)
        usable = [model for model in self._usable() if model.capabilities & wanted]
        count = Counter(model.id for model in usable)
        names: dict[str, ModelInfo] = {}
        for model in usable:
            names.setdefault(model.id, model)
            if count[model.id] > 1:
                names[f"{model.provider}/{model.id}"] = model
        return names

    def addressed(self, name: str | None) -> Addressed:
        """
        Say who a name stands for.

        Raises:
            RefusedError: If it is nobody's.
        """
        if not name or name == AUTO:
            return Addressed()
        if any(model.answers_to(name) for model in self.models):
            return Addressed(model=name)
        provider, _, rest = name.partition("/")
        own = [model for model in self.models if model.provider == provider]
        if own and rest == AUTO:
            return Addressed(provider=provider)
        if any(model.answers_to(rest) for model in own):
            return Addressed(provider=provider, model=rest)
        raise RefusedError(404, "model", details=[("model", "is unknown here")])

    def card(self, provider: str, model: str) -> ModelInfo | None:
        """Find the card of a model at a provider."""
        own = (one for one in self.models if one.provider == provider)
        return next((one for one in own if one.answers_to(model)), None)

    def _usable(self) -> Iterator[ModelInfo]:
        for model in self.models:
            is_listed = model.kind == "image" and not model.is_batch_only
            is_there = model.provider not in self.unavailable
            if is_listed and is_there and reason_against(model) is None:
                yield model


async def names_of(gaia: Gaia) -> ModelNames:
    """Gather the names of all models; nobody outside is asked."""
    unavailable = {info.name for info in gaia.providers() if info.unavailable}
    return ModelNames(
        models=tuple(await gaia.models()), unavailable=frozenset(unavailable)
    )
