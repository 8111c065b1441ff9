"""What is worth trying, and its mirror: work on what is not on the critical path gains nothing.

The search of `perfkit whatif`, for the report. It is left out where it would cost more than a
moment; the command itself has no such limit.
"""

from perfkit.analyzers.graph import StepGraph
from perfkit.analyzers.refusal import Refusal
from perfkit.analyzers.result_whatif import Prospect, WhatIf
from perfkit.analyzers.whatif import Answer, baseline, fit_network, search
from perfkit.analyzers.whatif_changes import everything

NO_GAIN = 1.01
"""Speed-ups below this are not worth trying."""
MOST_PAIRS = 2
MOST_TASKS = 100_000
"""Tasks of a graph that the search takes about two seconds for."""


def prospects(graph: StepGraph | Refusal, *, seed: int) -> WhatIf:
    """Rank single changes and pairs of the most promising ones."""
    if isinstance(graph, Refusal):
        return WhatIf(refused=str(graph))
    tasks = len(graph.plan.graph)
    if tasks > MOST_TASKS:
        return WhatIf(
            refused=f"the graph holds {tasks} tasks, so that the search is left to "
            "`perfkit whatif RUN --search`"
        )
    answers = search(baseline(graph, fit_network(graph, seed=seed)), everything())
    worth = [a for a in answers if a.speed_up >= NO_GAIN]
    pairs = [a for a in worth if len(a.changes) > 1]
    idle = [a for a in answers if a.speed_up < NO_GAIN and len(a.changes) == 1]
    return WhatIf(
        steps=graph.steps,
        step_ms=graph.step_ns / 1e6,
        replay_error=graph.replay_error,
        worth_trying=tuple(_prospect(a) for a in worth if a not in pairs[MOST_PAIRS:]),
        no_gain=tuple(_prospect(a) for a in idle),
    )


def _prospect(answer: Answer) -> Prospect:
    return Prospect(
        changes=answer.changes,
        options=answer.options,
        predicted_ms=answer.predicted_ms,
        low_ms=answer.low_ms,
        high_ms=answer.high_ms,
        speed_up=answer.speed_up,
        next_bottleneck=answer.next_bottleneck,
        recipes=answer.recipes,
    )
