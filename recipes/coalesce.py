"""Many small all-reduces of gradients by hand: the same sums in few large ones."""

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes import overlap
from perfkit.recipes.formulas import calls, exposed_ms, no_steps, predicted, step_ms
from perfkit.recipes.recipe import Application, Numerics, Parameter, Prediction, Recipe, Situation


def predict(situation: Situation) -> Prediction | Refusal:
    """Merging K calls into K' saves (K - K') latencies; where bytes decide it saves nothing."""
    if refusal := no_steps(situation) or overlap.by_hand(situation):
        return refusal
    analysis = situation.analysis
    now, exposed = step_ms(analysis), exposed_ms(analysis, "all_reduce")
    fits = [n for n in analysis.networks if n.alpha_us is not None]
    if not fits:
        return Refusal(reason="no latency of the network could be fitted to this run")
    gradients = situation.number("model", "gradient_bytes")
    merged = max(gradients / (25 * 2**20), 1.0)
    steps = 2 * (fits[0].ranks - 1)
    saved = (calls(analysis, "all_reduce") - merged) * (fits[0].alpha_us or 0.0) * steps / 1e3
    why = (
        f"{calls(analysis, 'all_reduce'):.0f} calls become {merged:.0f}, {saved:.1f} ms of latency"
    )
    return predicted(now, now - min(saved, exposed), min(exposed / now, 0.99), why)


RECIPE = Recipe(
    id="coalesce",
    title="Merge hand-made gradient all-reduces into few large ones",
    addresses="communication",
    findings=("tiny_messages", "latency_bound_transfers"),
    application=Application.PATCH,
    numerics=Numerics.EXACT,
    applicable=predict,
    in_rank="manual_gradients",
    parameters=(
        Parameter(name="mb", default=25.0, help="MiB of gradients in a bucket", least=0.001),
    ),
    refuses=overlap.OVERLAP.refuses[:1] + overlap.OVERLAP.refuses[2:],
    for_good="""\
grads = [p.grad for p in model.parameters() if p.grad is not None]
flat = torch.cat([g.reshape(-1) for g in grads])
dist.all_reduce(flat)
for g, part in zip(grads, flat.split([g.numel() for g in grads])):
    g.copy_(part.view_as(g))""",
    caveat=overlap.OVERLAP.caveat,
)
