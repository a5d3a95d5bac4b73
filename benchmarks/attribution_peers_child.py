"""Have another program attribute journeys once: a script, for an interpreter that has it.

It imports nothing else of ours. python attribution_peers_child.py PEER JOURNEYS
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from time import perf_counter
from typing import Any

SEPARATOR = " > "
RULES = ("last", "first", "linear")


def marketing_attribution_models(rows: Any) -> dict[str, Any]:
    """Ask marketing_attribution_models, whose chain is solved."""
    asked = import_module("mam").MAM(
        rows,
        "journey",
        channels_colname="path",
        journey_with_conv_colname="won",
        user_id_colname="id",
        time_till_conv_colname="hours",
    )

    def totals(result: Any) -> dict[str, float]:
        found = result.to_polars()
        return dict(zip(found["channels"].to_list(), found["attribution"].to_list(), strict=True))

    markov = asked.run_markov(transition_to_same_state=False)
    return {
        "last": totals(asked.run_last_click()),
        "first": totals(asked.run_first_click()),
        "linear": totals(asked.run_linear()),
        "position_based": totals(asked.run_position_based()),
        "time_decay": totals(asked.run_time_decay()),
        "markov": totals(markov),
        "effects": markov.metadata["removal_effect"]["removal_effect"].to_dict(),
    }


def channel_attribution(rows: Any) -> dict[str, Any]:
    """Ask ChannelAttribution, which has people walk along its chain."""
    peer = import_module("ChannelAttribution")
    rows = rows.assign(lost=(~rows["won"]).astype(int), won=rows["won"].astype(int))
    given = {"sep": SEPARATOR.strip(), "flg_pro": False}
    rules = peer.heuristic_models(rows, "path", "won", **given)
    found = {
        name: dict(zip(rules["channel_name"], rules[f"{name}_touch"], strict=True))
        for name in RULES
    }
    walked = peer.markov_model(rows, "path", "won", var_null="lost", verbose=False, **given)
    return {**found, "markov": dict(walked.itertuples(index=False))}


PEERS = {
    "marketing_attribution_models": marketing_attribution_models,
    "ChannelAttribution": channel_attribution,
}


def main(peer: str, journeys: str) -> None:
    """Attribute, and print how long it took."""
    rows = import_module("pandas").read_parquet(journeys)
    rows["id"] = rows["person"].astype(str)
    for name in ("mam", "ChannelAttribution"):
        import_module(name)
    begun = perf_counter()
    found = PEERS[peer](rows)
    took = perf_counter() - begun
    sys.stdout.write("\n" + json.dumps({"seconds": took, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
