"""What bounds the step, by how much, and how sure that is (models.md 1.7, design.md section 6).

Everything here is after blame: a wait counts for what the late rank was doing. The label is the
largest family if it leads by a margin and a bootstrap over blocks of steps agrees; otherwise it is
`mixed`. Ranks are the whole population and are not resampled; all ranks share the drawn steps.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from perfkit.analyzers.attribution import N_CLASSES
from perfkit.analyzers.blame import F64
from perfkit.analyzers.bootstrap import block_indices, block_length
from perfkit.analyzers.result_replay import SecondOpinion
from perfkit.trace.kinds import ROLLUP, TimeClass
from perfkit.trace.model import I64

LEAST_MARGIN = 0.10
LEAST_CONFIDENCE = 0.95
TENTATIVE_BELOW = 8
"""With fewer analysed steps than this every verdict is tentative."""
BOOTSTRAP_DRAWS = 2000
LEAST_BLOCKS = 3
SEVERITY_CUTS = {"communication": (0.03, 0.15), "io": (0.05, 0.20), "host": (0.03, 0.15)}
"""Moderate and high, after XProf's cut-offs; compute is never a problem by itself."""

FAMILIES = tuple(ROLLUP)
_MEMBERSHIP = np.array(
    [[float(TimeClass(c) in ROLLUP[f]) for f in FAMILIES] for c in range(N_CLASSES)]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict before it is put into words. Shares are of all ranks' windows together."""

    label: str
    mixed_of: tuple[str, ...] = ()
    tentative: bool = False
    dominant: str | None = None
    limiter: str | None = None
    margin: float | None = None
    confidence: float | None = None
    reason: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    path_share: float | None = None  # of the last of mixed_of on the critical path, if that decided

    @property
    def severity(self) -> dict[str, str]:
        """How much each recoverable family costs: none, moderate or high."""
        return {f: _severity(f, self.shares.get(f, 0.0)) for f in SEVERITY_CUTS}


def undetermined(reason: str, shares: dict[str, float] | None = None) -> Decision:
    """Return the verdict that there is none, and why."""
    return Decision(label="undetermined", reason=reason, shares=shares or {})


def decide(
    charged_ns: F64, window_ns: I64, *, seed: int, shift: Mapping[TimeClass, float] | None = None
) -> Decision:
    """Decide what bounds the analysed steps.

    charged_ns: (steps, classes), time after blame summed over ranks. window_ns: (steps,), the
    ranks' windows summed. seed: of the bootstrap, from the run's id. shift: by how much the whole
    run's share of a class exceeds the window's, where the window was not representative.
    """
    total = int(window_ns.sum())
    if total <= 0:
        return undetermined("no_steps")
    shift = shift or {}
    shares = shift_shares(charged_ns.sum(axis=0) / total, shift) @ _MEMBERSHIP
    named = dict(zip(FAMILIES, shares.tolist(), strict=True))
    unmatched = float(charged_ns[:, TimeClass.COMM_UNMATCHED].sum()) / total
    ranking = np.argsort(-shares, kind="stable")
    dominant, second = FAMILIES[ranking[0]], FAMILIES[ranking[1]]
    margin = float(shares[ranking[0]] - shares[ranking[1]])
    confidence = _confidence(charged_ns, window_ns, int(ranking[0]), seed, shift)
    label, reason = dominant, ""
    mixed_of: tuple[str, ...] = ()
    if _could_change(named, dominant, unmatched):
        label, reason = "undetermined", "wait_not_separable"
    elif margin < LEAST_MARGIN or (confidence is not None and confidence < LEAST_CONFIDENCE):
        label, mixed_of = "mixed", (dominant, second)
        reason = "small_margin" if margin < LEAST_MARGIN else "low_confidence"
    return Decision(
        label=label,
        mixed_of=mixed_of,
        tentative=len(window_ns) < TENTATIVE_BELOW,
        dominant=dominant,
        limiter=find_limiter(named),
        margin=margin,
        confidence=confidence,
        reason=reason,
        shares=named,
    )


def heed(decision: Decision, opinion: SecondOpinion) -> Decision:
    """Return `mixed` where the critical path names another family than the exposed time.

    What is mixed or undetermined already stays so.
    """
    settled = decision.label in FAMILIES and decision.dominant is not None
    if not settled or opinion.agrees is not False or opinion.dominant is None:
        return decision
    return replace(
        decision,
        label="mixed",
        mixed_of=(str(decision.dominant), opinion.dominant),
        reason="second_opinion",
        path_share=opinion.rollup[opinion.dominant],
    )


def decide_without_trace(input_share: float | None, checkpoint_share: float | None) -> Decision:
    """Decide from step lines alone: only io can be told, and only if nothing else could win."""
    if input_share is None or checkpoint_share is None:
        return undetermined("no_trace")
    io = input_share + checkpoint_share
    if io - (1.0 - io) < LEAST_MARGIN:
        return undetermined("no_trace", {"io": io})
    return Decision(
        label="io",
        dominant="io",
        limiter="io",
        tentative=True,
        reason="no_trace",
        shares={"io": io},
    )


def find_limiter(shares: dict[str, float]) -> str | None:
    """Return the largest recoverable family, None if none exceeds its threshold."""
    costly = [f for f in SEVERITY_CUTS if _severity(f, shares.get(f, 0.0)) != "none"]
    return max(costly, key=lambda f: shares[f], default=None)


def seed_of(run_id: str) -> int:
    """Derive the bootstrap's seed from the run, so that analysing twice gives the same bytes."""
    return int.from_bytes(hashlib.sha256(run_id.encode()).digest()[:4], "big")


def shift_shares(shares: F64, shift: Mapping[TimeClass, float]) -> F64:
    """Move classes to their whole-run shares and shrink the others in proportion.

    shares: (..., classes), summing to 1 along the last axis; so does the result.
    """
    if not shift:
        return shares
    moved = shares.copy()
    classes = list(shift)
    for time_class, amount in shift.items():
        moved[..., time_class] = np.clip(moved[..., time_class] + amount, 0.0, 1.0)
    others = np.ones(N_CLASSES, dtype=np.bool_)
    others[classes] = False
    rest = shares[..., others].sum(axis=-1, keepdims=True)
    room = np.maximum(1.0 - moved[..., classes].sum(axis=-1, keepdims=True), 0.0)
    scale = np.divide(room, rest, out=np.ones_like(rest), where=rest > 0)
    moved[..., others] = shares[..., others] * scale
    return np.asarray(moved)


def gain_ceiling(share: float) -> float | None:
    """Return the largest speed-up that removing this share can bring: 1 / (1 - f)."""
    return 1.0 / (1.0 - share) if 0.0 <= share < 1.0 else None


def _severity(family: str, share: float) -> str:
    moderate, high = SEVERITY_CUTS[family]
    if share >= high:
        return "high"
    return "moderate" if share >= moderate else "none"


def _could_change(shares: dict[str, float], dominant: str, unmatched: float) -> bool:
    """Tell whether time that cannot be told apart would suffice for another winner."""
    held = shares[dominant] - (unmatched if dominant == "communication" else 0.0)
    others = (f for f in FAMILIES if f != dominant)
    return unmatched > 0 and any(shares[f] + _gain(f, unmatched) > held for f in others)


def _gain(family: str, unmatched: float) -> float:
    return 0.0 if family == "communication" else unmatched


def _confidence(
    charged_ns: F64, window_ns: I64, winner: int, seed: int, shift: Mapping[TimeClass, float]
) -> float | None:
    """Return how often the winner stays when blocks of steps are drawn with replacement.

    None below three blocks: so few draws can hardly differ, and would look like certainty.
    """
    steps = len(window_ns)
    if steps < LEAST_BLOCKS * block_length(steps):
        return None
    generator = np.random.default_rng(seed)
    length = _rhythm(charged_ns[:, TimeClass.CHECKPOINT])
    rows = block_indices(generator, steps, BOOTSTRAP_DRAWS, length)
    shares = charged_ns[rows].sum(axis=1) / window_ns[rows].sum(axis=1)[:, None]
    families = shift_shares(shares, shift) @ _MEMBERSHIP
    return float((families.argmax(axis=1) == winner).mean())


def _rhythm(checkpoint_ns: F64) -> int | None:
    """Return the length of blocks in which steps with and without a checkpoint keep their part.

    Saving every few steps is no chance, and drawing more or fewer of those steps would make it one.
    None without such a rhythm, or where the window is too short for blocks of its length.
    """
    saved = np.flatnonzero(checkpoint_ns > checkpoint_ns.max(initial=0.0) / 2)
    distances = set(np.diff(saved).tolist())
    steps = len(checkpoint_ns)
    if len(distances) != 1:
        return None
    every = distances.pop()
    length = max(every, block_length(steps) // every * every)
    return length if LEAST_BLOCKS * length <= steps else None
