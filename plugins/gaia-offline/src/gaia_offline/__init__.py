"""The embedded default of Gaia: pictures without a key, a GPU or the network."""

from gaia_offline.provider import OfflineProvider

__all__ = ["OfflineProvider"]
