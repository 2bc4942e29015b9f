"""Makes ``python -m gaia_core.cli`` equal ``gaia``."""

from gaia_core.cli import main

main(prog_name="gaia")
