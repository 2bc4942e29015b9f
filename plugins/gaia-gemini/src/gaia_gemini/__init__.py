"""Google's Gemini image models for Gaia, on the vendor's own SDK."""

from gaia_gemini.provider import GeminiProvider

__all__ = ["GeminiProvider"]
