"""Measure what the suite costs, and compare it with the figures that it promises.

    python -m benchmarks [name …] [--database URL] [--rounds N] [--quick] [--json | --markdown]

Each name is a module with a generator `measure(quick)`, which yields `runner.Race`s and
`runner.Fact`s; a new benchmark is such a module and its line here.
"""

NAMES = (
    "untouched",
    "referred",
    "partner_cache",
    "trigger",
    "conversion",
    "delivery",
    "first_byte",
    "backlog",
    "clicks",
    "links_at_scale",
    "rewards_posting",
    "rewards_balance",
    "rewards_payout_run",
    "referrals_statement",
    "tracking_merge",
    "tracking_customer",
    "tracking_collect",
    "tracking_stream",
    "attribution_models",
    "attribution_peers",
    "attribution_database",
    "attribution_export",
    "experiments",
    "experiments_results",
)
