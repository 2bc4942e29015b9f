"""
What the models cost.

Rates and tokens as Google's own pages gave them: ai.google.dev/gemini-api/docs/pricing
(read 2026-10-07) and the models' pages at docs.cloud.google.com/vertex-ai (2026-11).
They are those of the paid tier; the free tier, discounts and Batch are not known here.
"""

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, Decimal

import attrs

from gaia_core import Price
from gaia_core.catalog import MICRO_DOLLAR, Work

_MILLION = Decimal(1_000_000)


@attrs.frozen(kw_only=True)
class Rates:
    """
    US dollars for a million tokens.

    Attributes:
        into: Of what goes in, words and pictures alike.
        words: Of words that come out, thoughts among them.
        pictures: Of pictures that come out.
    """

    into: Decimal = attrs.field(converter=Decimal)
    words: Decimal = attrs.field(converter=Decimal)
    pictures: Decimal = attrs.field(default=Decimal(0), converter=Decimal)

    def cost(self, *, into: int = 0, words: int = 0, pictures: int = 0) -> Decimal:
        """
        Price some tokens.

        >>> Rates(into="0.5", words=3, pictures=60).cost(pictures=1120)
        Decimal('0.0672')

        Returns:
            US dollars, not rounded.
        """
        total = into * self.into + words * self.words + pictures * self.pictures
        return total / _MILLION


class SizedPrice(Price):
    """
    The price of pictures that cost by the image size that a request comes to or names.

    What tables show of it, `per_image`, is the price at 1K.
    """

    _amount: Callable[[Work], Decimal]

    @classmethod
    def made(
        cls,
        amount: Callable[[Work], Decimal],
        *,
        per_image: Decimal,
        per_reference: Decimal,
    ) -> "SizedPrice":
        """
        Make one.

        Args:
            amount: Prices one picture of some work.
            per_image: What is shown.
            per_reference: What each picture that goes in adds to each that comes out.
        """
        price = cls(per_image=per_image, per_reference=per_reference)
        object.__setattr__(price, "_amount", amount)
        return price

    def of(self, work: Work) -> Decimal:
        """Price some work by the image size it comes to."""
        each = self._amount(work) + self.per_reference * work.num_references
        return (each * work.num_images).quantize(MICRO_DOLLAR, rounding=ROUND_CEILING)


TEXT_RATES: Mapping[str, Rates] = {
    "gemini-3.5-flash-lite": Rates(into="0.30", words="2.50"),
    "gemini-3.1-flash-lite": Rates(into="0.25", words="1.50"),
    "gemini-3.5-flash": Rates(into="1.50", words="9.00"),
}
"""Of models that answer in words; gemini-3.1-flash-lite by openrouter.ai, 2026-11."""

_ANSWER = {"into": 2_000, "words": 1_000}
"""About what a prompt or a picture takes, and an answer with some thought."""


def text_price(model: str) -> Price | None:
    """Estimate what an answer in words costs; None: the model's rates are unknown."""
    rates = TEXT_RATES.get(model)
    return None if rates is None else Price(base=rates.cost(**_ANSWER))
