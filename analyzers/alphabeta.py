"""What latency and bandwidth a network gave, fitted from the collectives that were observed.

Model of a call on a ring (models.md 3.2): T = steps * alpha + k * S / B with nccl-tests' S and k.
T must be the pure transfer, the least duration over the ranks, or waiting is taken for a slow
network. Fit one placement at a time (same node, same switch, ...), and without calls that overlap
compute. Relative errors count (weights 1/T), by non-negative least squares made robust with
Huber weights, c = 1.345 * 1.4826 * MAD. Valid for S within [smallest/4, 4 * largest] observed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from perfkit.analyzers.refusal import Refusal
from perfkit.roofline.collective_cost import Link, bus_factor, ring_s, ring_steps

F64 = NDArray[np.float64]

LEAST_BYTES = 4096
"""Smaller calls measure software, not the network."""
LEAST_SIZES = 6
LEAST_SPAN = 100.0
"""Largest over smallest size below which latency and bandwidth cannot be told apart."""
LOW_QUANTILE = 0.2
"""Of the repetitions of one size: models.md asks for the 10th to 25th percentile."""
CLEARLY_BETTER = 1.3
"""Factor by which cross-validated error must fall before more regimes are believed."""
_LEAST_PIECE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One call: operation, group size, S of nccl-tests, and its transfer time.

    Calls that share the link in time are one observation of several `calls`: S is their sum, and
    the time that in which any of them was under way.
    """

    op: str
    ranks: int
    size_bytes: int
    transfer_s: float
    calls: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Regime:
    """A range of sizes that one line fits (protocols and algorithms switch with size)."""

    smallest_bytes: int
    largest_bytes: int
    alpha_s: float
    bandwidth_byte_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaBetaFit:
    """One network, as observed. Intervals are 95 % percentile bootstrap over sizes and calls.

    alpha_s is None where the sizes are too few or too close to tell latency from bandwidth
    (under 6 sizes or under two decades); the bandwidth then assumes the latency that fitted best.
    """

    alpha_s: float | None
    alpha_interval_s: tuple[float, float] | None
    bandwidth_byte_per_s: float
    bandwidth_interval_byte_per_s: tuple[float, float] | None
    median_relative_residual: float
    worst_relative_residual: float
    smallest_bytes: int
    largest_bytes: int
    sizes: int
    observations: int
    regimes: tuple[Regime, ...]

    def link(self) -> Link:
        """Return the whole fit as a link; unknown latency counts as none."""
        return Link(alpha_s=self.alpha_s or 0.0, bandwidth_byte_per_s=self.bandwidth_byte_per_s)


def fit_alpha_beta(
    observations: Sequence[Observation],
    *,
    seed: int,
    draws: int = 500,
    least_bytes: int = LEAST_BYTES,
) -> AlphaBetaFit | Refusal:
    """Fit alpha and B, or say why not. Calls of one rank and below `least_bytes` are left out."""
    used = [
        o for o in observations if o.ranks > 1 and o.size_bytes >= least_bytes and o.transfer_s > 0
    ]
    cells = _cells(used)
    if len(cells) < 2:
        return Refusal(
            reason=f"{len(cells)} usable message size(s) of {len(observations)} calls, two needed",
            remedy="profile more steps, or measure the network: perfkit ceilings",
        )
    design, seconds = _design(cells)
    if np.ptp(design[:, 0] / design[:, 1]) == 0:
        return Refusal(
            reason="all messages have the same latency-to-size ratio",
            remedy="use messages of several sizes",
        )
    alpha, slope = _huber(design, seconds)
    if slope <= 0:
        return Refusal(
            reason="time does not grow with size: latency hides the bandwidth",
            remedy="use larger messages",
        )
    separable = _separable(cells)
    boot = _bootstrap(cells, seed=seed, draws=draws)
    return _as_fit(cells, (alpha, slope), boot if len(boot) else None, separable=separable)


def predict_s(fit: AlphaBetaFit, op: str, ranks: int, size_bytes: int) -> float | Refusal:
    """Return the transfer time of one call by the regime of its size, or refuse to extrapolate."""
    if not fit.smallest_bytes / 4 <= size_bytes <= 4 * fit.largest_bytes:
        return Refusal(
            reason=f"{size_bytes} B lies outside what {fit.smallest_bytes} to "
            f"{fit.largest_bytes} B can tell (a quarter of the least to four times the largest)",
            remedy="measure such messages",
        )
    regime = next((r for r in fit.regimes if size_bytes <= r.largest_bytes), fit.regimes[-1])
    link = Link(alpha_s=regime.alpha_s, bandwidth_byte_per_s=regime.bandwidth_byte_per_s)
    return ring_s(op, size_bytes, ranks, link)


@dataclass(frozen=True, slots=True)
class _Cell:
    """All repetitions of one (operation, ranks, size)."""

    steps: float
    wire_bytes: float
    size_bytes: int
    seconds: F64


def _cells(observations: Sequence[Observation]) -> list[_Cell]:
    groups: dict[tuple[int, str, int, int], list[float]] = {}
    for o in observations:
        groups.setdefault((o.size_bytes, o.op, o.ranks, o.calls), []).append(o.transfer_s)
    return [
        _Cell(
            calls * ring_steps(op, n),
            bus_factor(op, n) * size,
            size,
            np.sort(np.asarray(times, np.float64)),
        )
        for (size, op, n, calls), times in sorted(groups.items())
    ]


def _design(cells: Sequence[_Cell]) -> tuple[F64, F64]:
    """Return rows (steps, wire bytes) and the low quantile of each cell's times."""
    design = np.array([(c.steps, c.wire_bytes) for c in cells], dtype=np.float64)
    return design, np.array([np.quantile(c.seconds, LOW_QUANTILE) for c in cells])


def _separable(cells: Sequence[_Cell]) -> bool:
    sizes = sorted({c.size_bytes for c in cells})
    return len(sizes) >= LEAST_SIZES and sizes[-1] >= LEAST_SPAN * sizes[0]


def _solve(design: F64, seconds: F64, weights: F64) -> tuple[float, float]:
    """Return the non-negative (alpha, 1/B) with the least weighted relative error."""
    rows = design / seconds[:, None]
    scale = np.linalg.norm(rows, axis=0)
    rows = rows / np.where(scale > 0, scale, 1.0)
    gram = (rows * weights[:, None]).T @ rows
    target = rows.T @ weights
    determinant = gram[0, 0] * gram[1, 1] - gram[0, 1] ** 2
    if determinant > 1e-12 * gram[0, 0] * gram[1, 1]:
        a = (target[0] * gram[1, 1] - target[1] * gram[0, 1]) / determinant
        b = (target[1] * gram[0, 0] - target[0] * gram[0, 1]) / determinant
    else:
        a = -1.0
        b = 0.0
    if a < 0 or b < 0:  # the optimum lies on an edge: keep the better of the two
        alone = target / np.diag(gram)
        a, b = (0.0, alone[1]) if target[1] * alone[1] >= target[0] * alone[0] else (alone[0], 0.0)
    return float(a / scale[0]), float(b / scale[1])


def _huber(design: F64, seconds: F64) -> tuple[float, float]:
    weights = np.ones(len(seconds))
    solution = _solve(design, seconds, weights)
    for _ in range(50):
        residual = design @ np.array(solution) / seconds - 1
        spread = 1.345 * 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        if spread < 1e-12:
            break
        weights = np.minimum(1.0, spread / np.maximum(np.abs(residual), 1e-300))
        previous, solution = solution, _solve(design, seconds, weights)
        if np.allclose(previous, solution, rtol=1e-9, atol=0):
            break
    return solution


def _bootstrap(cells: Sequence[_Cell], *, seed: int, draws: int) -> F64:
    """Return (draws, 2) refits over resampled sizes and, within a size, resampled calls."""
    generator = np.random.default_rng(seed)
    fits: list[tuple[float, float]] = []
    for _ in range(draws):
        picked = [cells[i] for i in generator.integers(0, len(cells), len(cells))]
        if len({c.size_bytes for c in picked}) < 2:
            continue
        design, _ = _design(picked)
        seconds = np.array([
            np.quantile(c.seconds[generator.integers(0, len(c.seconds), len(c.seconds))],
                        LOW_QUANTILE)
            for c in picked
        ])  # fmt: skip
        alpha, slope = _huber(design, seconds)
        if slope > 0:
            fits.append((alpha, slope))
    return np.array(fits, dtype=np.float64).reshape(-1, 2)


def _as_fit(
    cells: Sequence[_Cell], solution: tuple[float, float], boot: F64 | None, *, separable: bool
) -> AlphaBetaFit:
    design, seconds = _design(cells)
    alpha, slope = solution
    residual = np.abs(design @ np.array(solution) / seconds - 1)
    alphas = bandwidths = None
    if boot is not None:
        low, high = np.quantile(boot, (0.025, 0.975), axis=0)
        alphas = (float(low[0]), float(high[0])) if separable else None
        bandwidths = (1 / float(high[1]), 1 / float(low[1]))
    return AlphaBetaFit(
        alpha_s=alpha if separable else None,
        alpha_interval_s=alphas,
        bandwidth_byte_per_s=1 / slope,
        bandwidth_interval_byte_per_s=bandwidths,
        median_relative_residual=float(np.median(residual)),
        worst_relative_residual=float(residual.max()),
        smallest_bytes=cells[0].size_bytes,
        largest_bytes=cells[-1].size_bytes,
        sizes=len({c.size_bytes for c in cells}),
        observations=sum(len(c.seconds) for c in cells),
        regimes=_regimes(cells, solution, separable=separable),
    )


def _regimes(
    cells: Sequence[_Cell], whole: tuple[float, float], *, separable: bool
) -> tuple[Regime, ...]:
    """Return one to three ranges of size: more only if cross-validation is clearly better."""
    one = [(0, len(cells))]
    if not separable:
        return _describe(cells, one, [whole])
    errors = _piece_errors(cells)
    n, least = len(cells), _LEAST_PIECE
    best = one
    two = [[(0, i), (i, n)] for i in range(least, n - least + 1)]
    three = [
        [(0, i), (i, j), (j, n)]
        for i in range(least, n - 2 * least + 1)
        for j in range(i + least, n - least + 1)
    ]
    for candidates in (two, three):
        found = min(candidates, key=lambda c: sum(errors[p] for p in c), default=None)
        if found is None:
            continue
        gained = sum(errors[p] for p in found) * CLEARLY_BETTER
        if gained < sum(errors[p] for p in best):
            best = found
    if len(best) == 1:
        return _describe(cells, one, [whole])
    fits = [_huber(*_design(cells[i:j])) for i, j in best]
    if any(slope <= 0 for _, slope in fits):  # a flat piece has no bandwidth of its own
        return _describe(cells, one, [whole])
    return _describe(cells, best, fits)


def _piece_errors(cells: Sequence[_Cell]) -> dict[tuple[int, int], float]:
    """Return each contiguous piece's summed leave-one-out SMAPE term."""
    design, seconds = _design(cells)
    errors: dict[tuple[int, int], float] = {}
    for i in range(len(cells)):
        for j in range(i + _LEAST_PIECE, len(cells) + 1):
            total = 0.0
            for k in range(i, j):
                keep = np.r_[i:k, k + 1 : j]
                ones = np.ones(len(keep))
                guess = float(design[k] @ _solve(design[keep], seconds[keep], ones))
                total += 2 * abs(guess - seconds[k]) / (abs(guess) + seconds[k])
            errors[i, j] = total
    return errors


def _describe(
    cells: Sequence[_Cell],
    pieces: Sequence[tuple[int, int]],
    fits: Sequence[tuple[float, float]],
) -> tuple[Regime, ...]:
    return tuple(
        Regime(
            smallest_bytes=cells[i].size_bytes,
            largest_bytes=cells[j - 1].size_bytes,
            alpha_s=alpha,
            bandwidth_byte_per_s=1 / slope,
        )
        for (i, j), (alpha, slope) in zip(pieces, fits, strict=True)
    )
