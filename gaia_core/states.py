"""Ask a model's card how the model is now; whatever it does, an answer comes out."""

from gaia_core.calls import words_of
from gaia_core.catalog import ModelInfo, ModelState
from gaia_core.observability import get_logger

_told: set[tuple[str, str, str]] = set()
"""Which failures are in the log already: a plan is made many times a second."""
_MOST_TOLD = 1_000


def state_of(model: ModelInfo) -> ModelState | None:
    """
    Ask a card how its model is now.

    Never raises: a model whose state cannot be told counts as unavailable, and the
    reason says so.

    Returns:
        The state, or None where the card has nothing to tell.
    """
    if model.state is None:
        return None
    try:
        state = model.state()
    except (Exception, SystemExit) as error:  # noqa: BLE001  a plugin may raise anything
        return _unknown(model, words_of(error))
    if not isinstance(state, ModelState):
        return _unknown(model, f"it gave {type(state).__name__}, not ModelState")
    return state


def reason_against(model: ModelInfo) -> str | None:
    """Say why a model cannot be asked now, as its card tells it, or None."""
    state = state_of(model)
    return None if state is None else state.unavailable


def revision_of(model: ModelInfo) -> str | None:
    """
    Give a model's revision of this moment.

    Returns:
        None where it cannot be told: kept answers may then be of another revision.
    """
    if model.live_revision is None:
        return model.revision
    try:
        return str(model.live_revision())
    except (Exception, SystemExit) as error:  # noqa: BLE001  as above
        _tell(model, words_of(error))
        return None


def _unknown(model: ModelInfo, words: str) -> ModelState:
    _tell(model, words)
    return ModelState(word="unknown", unavailable=f"telling its state failed: {words}")


def _tell(model: ModelInfo, words: str) -> None:
    """Log a failure, once."""
    failure = (model.provider, model.id, words)
    if failure not in _told and len(_told) < _MOST_TOLD:
        _told.add(failure)
        get_logger(provider=model.provider).warning(
            "gaia.model_state_failed", model=model.id, reason=words
        )
