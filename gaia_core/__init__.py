"""Gaia images."""
