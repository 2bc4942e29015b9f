"""Parasail, and other services that speak OpenAI's form, for Gaia."""

from gaia_parasail.models import Endpoint, ModelSettings
from gaia_parasail.provider import ParasailProvider

__all__ = ["Endpoint", "ModelSettings", "ParasailProvider"]
