"""What `gaia serve` does to the process it runs in."""

import gc

from gaia_core.server.running import COLLECT_AFTER, _rare_collections


def test_garbage_is_looked_for_less_often_while_serving() -> None:
    """What was there before is left alone, and the process gets its own ways back."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()

    with _rare_collections():
        while_serving = gc.get_threshold(), gc.get_freeze_count()

    assert while_serving[0] == (COLLECT_AFTER, *before[1:])
    assert while_serving[1] > frozen
    assert (gc.get_threshold(), gc.get_freeze_count()) == (before, 0)
