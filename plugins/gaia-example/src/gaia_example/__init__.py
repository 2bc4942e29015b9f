"""Coats of arms for Gaia: the provider that the tutorial builds."""

from gaia_example.provider import ExampleProvider

__all__ = ["ExampleProvider"]
