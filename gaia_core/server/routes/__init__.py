"""
The routes, one module for each front door or thing.

Every module has one router, ``routes``. A public one is open to whoever reaches the
server; a protected one names a scope for each of its routes.
"""

from fastapi import APIRouter

PUBLIC: tuple[APIRouter, ...] = ()
PROTECTED: tuple[APIRouter, ...] = ()
