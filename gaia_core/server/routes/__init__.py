"""
The routes, one module for each front door or thing.

Every module has one router, ``routes``. A public one is open to whoever reaches the
server; a protected one names a scope for each of its routes; what is open tells a
known caller more.
"""

from fastapi import APIRouter

from gaia_core.server.routes import (
    automatic1111,
    batches,
    figures,
    health,
    images,
    models,
    openai,
    operations,
    page,
    pictures,
)

PUBLIC: tuple[APIRouter, ...] = (page.routes,)
"""Open to whoever reaches the server."""
OPEN: tuple[APIRouter, ...] = (health.routes,)
"""Open to whoever reaches the server; a known caller is told more."""
PROTECTED: tuple[APIRouter, ...] = (
    images.routes,
    models.routes,
    batches.routes,
    operations.routes,
    pictures.routes,
    figures.routes,
    openai.routes,
    automatic1111.routes,
)
"""Each of their routes names a scope."""
