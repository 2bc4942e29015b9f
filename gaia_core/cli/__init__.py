"""
The ``gaia`` command.

`main` is the whole of it. The module of a command is imported when the command
is asked for, so that each one starts with what it needs and no more.
"""

from gaia_core.cli.root import main

__all__ = ["main"]
