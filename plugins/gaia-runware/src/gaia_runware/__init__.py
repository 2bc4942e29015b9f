"""Runware's models for Gaia, on the vendor's own SDK."""

from gaia_runware.provider import RunwareProvider

__all__ = ["RunwareProvider"]
