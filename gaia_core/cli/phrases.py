"""Words that several commands say."""

from decimal import Decimal

INSTALL_EMBEDDED = "pip install ./plugins/gaia-offline, in a copy of Gaia's repository"
"""How to get the provider that needs no key, no GPU and no network."""
ADVICE_WITHOUT_PROVIDERS = f"no provider is installed: {INSTALL_EMBEDDED}"
"""What to do when there is nobody to ask."""


def show_amount(value: Decimal | None) -> str:
    """
    Show an amount of US dollars.

    >>> show_amount(Decimal("0.040000")), show_amount(Decimal(0)), show_amount(None)
    ('$0.04', 'free', 'unknown')
    """
    if value is None:
        return "unknown"
    return f"${value.normalize():f}" if value else "free"
