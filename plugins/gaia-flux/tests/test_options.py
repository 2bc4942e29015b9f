"""The words of settings and requests are those that the worker knows."""

import pytest

from gaia_flux import options


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("STEP_CACHES", "STEP_CACHES"),
        ("QUANTISATIONS", "QUANTISATIONS"),
        ("ATTENTIONS", "ATTENTIONS"),
        ("INEXACT_ATTENTIONS", "INEXACT_ATTENTIONS"),
    ],
    ids=lambda name: name.lower(),
)
def test_words_are_those_of_the_worker(name: str, table: str) -> None:
    """What can be asked for can be had: both tables name the same."""
    pytest.importorskip("diffusers")
    from gaia_flux import tuning

    assert sorted(getattr(options, name)) == sorted(getattr(tuning, table))
