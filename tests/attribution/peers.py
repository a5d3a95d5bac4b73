"""Have two other programs attribute journeys: a script, for an interpreter that has them.

Reads JSON, a list of journeys as (labels, hours before the last one, whether they converted), and
prints JSON. It imports nothing of ours but what a benchmark asks them with, since what they need is
not in our environment.
"""

import json
import sys
from pathlib import Path

import ChannelAttribution
import pandas

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import attribution_peers_child as benchmark

SEPARATOR = benchmark.SEPARATOR


def marketing_attribution_models(journeys):
    """Ask marketing_attribution_models, whose chain is solved."""
    rows = pandas.DataFrame(
        {
            "id": [str(number) for number in range(len(journeys))],
            "path": [SEPARATOR.join(labels) for labels, _, _ in journeys],
            "hours": [SEPARATOR.join(map(repr, hours)) for _, hours, _ in journeys],
            "won": [won for _, _, won in journeys],
        }
    )
    return benchmark.marketing_attribution_models(rows)


def channel_attribution(journeys):
    """Ask ChannelAttribution, which counts the steps of a chain and then has people walk it."""
    rows = pandas.DataFrame(
        {
            "path": [SEPARATOR.join(labels) for labels, _, _ in journeys],
            "won": [int(won) for _, _, won in journeys],
            "lost": [int(not won) for _, _, won in journeys],
        }
    )
    given = {"sep": SEPARATOR.strip(), "flg_pro": False}
    rules = ChannelAttribution.heuristic_models(rows, "path", "won", **given)
    answer = {
        name: dict(zip(rules["channel_name"], rules[f"{theirs}_touch"], strict=True))
        for name, theirs in (("last", "last"), ("first", "first"), ("linear", "linear"))
    }
    found = ChannelAttribution.transition_matrix(rows, "path", "won", "lost", **given)
    names = {
        str(number): name
        for number, name in zip(
            found["channels"]["id_channel"], found["channels"]["channel_name"], strict=True
        )
    }
    answer["steps"] = [
        (names.get(str(origin), origin), names.get(str(end), end), share)
        for origin, end, share in found["transition_matrix"].itertuples(index=False)
    ]
    for order in (1, 2):
        # By default nobody walks further than the longest path is, and so some do not arrive.
        walked = ChannelAttribution.markov_model(
            rows,
            "path",
            "won",
            var_null="lost",
            order=order,
            nsim_start=1e6,
            max_step=100_000,
            out_more=True,
            seed=1,
            verbose=False,
            **given,
        )["removal_effects"]
        answer[f"effects_{order}"] = dict(walked.itertuples(index=False))
    return answer


if __name__ == "__main__":
    told = json.load(sys.stdin)
    answers = {
        "marketing_attribution_models": marketing_attribution_models(told),
        "ChannelAttribution": channel_attribution(told),
    }
    # Alone on the last line: one of them greets whoever imports it.
    sys.stdout.write(f"\n{json.dumps(answers)}")
