"""
Many requests as one piece of work: accepted whole, done piece by piece.

`Batches` opens, runs and looks up; the ledger's
[book of batches][gaia_core.ledger.batches.BatchBook] is where everything is.
"""

from gaia_core.batches.service import Batches

__all__ = ["Batches"]
