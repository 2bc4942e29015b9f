"""What the stations on the way work with."""

from functools import partial

import attrs

from gaia_core.bundles import Bundles
from gaia_core.context import Fetch
from gaia_core.fetching import GuardedFetcher, Reach
from gaia_core.keeping import Keeper
from gaia_core.ledger import Failure, Ledger, Settlement
from gaia_core.lookups import Lookup
from gaia_core.metrics import Metrics
from gaia_core.plugins import Plugins, Provider
from gaia_core.references import References
from gaia_core.reliability import Reliability
from gaia_core.replays import Replays
from gaia_core.turns import turn_of


@attrs.frozen(kw_only=True)
class Services:
    """
    What a walk works with.

    Attributes:
        plugins: The providers to ask.
        keeper: What stores pictures.
        ledger: Where operations are kept.
        replays: What answers from the ledger.
        reliability: What decides about repetition.
        fetcher: What providers fetch results through.
        lookup: How providers are asked about lost answers.
        bundles: What puts calls of batches together.
        references: What writes down what attempts can be looked up by.
        metrics: What is told of everything.
        max_fallbacks: How many further providers may be asked.
        backlog: Operation to how it ended, where the ledger could not be written.
        left_open: Items of batches of which only their vendor knows what becomes.
    """

    plugins: Plugins
    keeper: Keeper
    ledger: Ledger
    replays: Replays
    reliability: Reliability
    fetcher: GuardedFetcher
    metrics: Metrics
    lookup: Lookup = attrs.field(factory=Lookup)
    bundles: Bundles = attrs.field()
    max_fallbacks: int = 1
    backlog: dict[str, Settlement | Failure] = attrs.field(factory=dict)
    left_open: set[str] = attrs.field(factory=set)
    references: References = attrs.field(init=False)
    _fetches: dict[tuple[str | None, frozenset[str]], Fetch] = attrs.field(
        factory=dict, init=False, repr=False
    )

    @bundles.default
    def _own_bundles(self) -> Bundles:
        return Bundles(turn=partial(turn_of, self.reliability))

    @references.default
    def _own_references(self) -> References:
        return References(self.ledger)

    def fetch_for(self, provider: Provider) -> Fetch:
        """Make what a provider fetches its own results with."""
        info = provider.info()
        wanted = (info.base_url, info.result_hosts)
        if wanted not in self._fetches:
            reach = Reach.of(*wanted)
            self._fetches[wanted] = partial(self.fetcher.fetch, reach=reach)
        return self._fetches[wanted]
