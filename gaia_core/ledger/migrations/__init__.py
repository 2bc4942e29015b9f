"""
The steps from one version of the ledger's tables to the next.

Each step says the tables as they were then, so that it never changes again;
`gaia_core.ledger.tables` says them as they are now.
"""
