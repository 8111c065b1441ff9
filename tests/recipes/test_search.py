"""The search's decisions, with a laboratory whose truth is known."""

import pytest

from perfkit.analyzers.refusal import Refusal
from perfkit.recipes import ledger
from perfkit.recipes.candidates import candidates
from perfkit.recipes.measured import Measured, Wanted
from perfkit.recipes.recipe import Numerics, Situation
from perfkit.recipes.search import Search, Settings
from tests.recipes.laboratory import (
    NOT_LOOKED_AT,
    FakeLaboratory,
    empty_book,
    recipe,
    search,
)

SITUATION = Situation(analysis=NOT_LOOKED_AT, facts={})


def decisions(book: ledger.Optimization) -> dict[str, str]:
    return {attempt.recipe: attempt.decision for attempt in book.attempts}


def reason(book: ledger.Optimization, name: str) -> str:
    return next(a.reason for a in book.attempts if a.recipe == name)


def test_keeps_what_helps_and_reverts_what_does_not() -> None:
    def law(on: frozenset[str]) -> float:
        return 100 * (0.6 if "good" in on else 1) * (1.2 if "bad" in on else 1)

    laboratory = FakeLaboratory(law, noise=0.005)
    book = search(laboratory, [recipe("bad", 1.9), recipe("good", 1.5), recipe("idle", 1.2)])
    assert decisions(book) == {"bad": "reverted", "good": "kept", "idle": "reverted"}
    assert reason(book, "bad") == "slower"
    assert reason(book, "idle") == "no gain that would be worth it"
    assert book.stack == ("good",)
    assert book.confirmed and book.complete
    kept = next(a for a in book.attempts if a.recipe == "good")
    assert kept.measured is not None and kept.measured.ratio == pytest.approx(1 / 0.6, rel=0.02)
    assert kept.numbers is not None and kept.numbers.ok
    assert book.ablations == ()  # one recipe: the confirmation says it all


def test_the_largest_prediction_is_tried_first_and_diagnosed_again_after_it() -> None:
    laboratory = FakeLaboratory(lambda on: 100 * 0.7 ** len(on), noise=0.002)
    book = search(laboratory, [recipe("small", 1.1), recipe("large", 1.4)])
    assert book.stack == ("large", "small")
    assert [d.stack for d in book.diagnosed] == [(), ("large",), ("large", "small")]
    small = next(a for a in book.attempts if a.recipe == "small")
    assert small.stack == ("large",)
    assert {a.label for a in book.ablations} == {"large", "small"}
    for ablation in book.ablations:
        assert ablation.measured is not None
        assert ablation.measured.ratio == pytest.approx(1 / 0.7, rel=0.02)


def test_the_whole_stack_is_confirmed_on_fresh_runs() -> None:
    laboratory = FakeLaboratory(lambda on: 100 * 0.8 ** len(on), noise=0.002)
    book = search(laboratory, [recipe("one", 1.25), recipe("two", 1.25)])
    assert book.confirmation is not None
    assert book.confirmation.ratio == pytest.approx(1 / 0.64, rel=0.02)
    decided = {t for a in book.attempts if a.measured for pair in a.measured.trials for t in pair}
    assert not decided & {t for pair in book.confirmation.trials for t in pair}


def test_five_equal_trials_keep_nothing() -> None:
    kept = 0
    for seed in range(20):
        laboratory = FakeLaboratory(lambda on: 100.0, noise=0.03, seed=seed)
        book = search(laboratory, [recipe(f"aa{k}", 1.3) for k in range(5)])
        assert len([a for a in book.attempts if a.measured]) == 5
        kept += len(book.stack)
    assert kept == 0


@pytest.mark.parametrize(
    "trouble",
    [
        "it ended with status 1: RuntimeError: boom",
        "it took longer than 60 s and was ended",
        "it was killed by signal 9",
    ],
)
def test_a_recipe_that_fails_is_reverted_and_the_search_goes_on(trouble: str) -> None:
    laboratory = FakeLaboratory(
        lambda on: 100 * (0.7 if "good" in on else 1), noise=0.002, trouble={"broken": trouble}
    )
    book = search(laboratory, [recipe("broken", 3.0), recipe("good", 1.4)])
    assert decisions(book) == {"broken": "reverted", "good": "kept"}
    assert reason(book, "broken") == trouble


def test_a_recipe_that_makes_ranks_diverge_is_reverted_and_the_search_goes_on() -> None:
    laboratory = FakeLaboratory(
        lambda on: 100 * 0.5 ** len(on), noise=0.002, parts=frozenset({frozenset({"wild"})})
    )
    book = search(laboratory, [recipe("wild", 3.0), recipe("good", 1.4)])
    assert decisions(book) == {"wild": "reverted", "good": "kept"}
    assert reason(book, "wild") == "the ranks' parameters are no longer equal"


def test_recipes_that_do_not_get_on_are_not_confirmed() -> None:
    class Moody(FakeLaboratory):
        """Two recipes that part the ranks together, but only in runs of another seed."""

        def run(self, wanted: Wanted) -> Measured:
            both = frozenset({frozenset({"one", "two"})})
            self.parts = both if wanted.seed else frozenset()
            return super().run(wanted)

    laboratory = Moody(lambda on: 100 * 0.8 ** len(on), noise=0.002)
    book = search(laboratory, [recipe("one", 1.3), recipe("two", 1.2)])
    assert book.stack == ("one", "two")
    assert not book.confirmed
    assert book.not_confirmed == "the ranks' parameters are no longer equal"
    fresh = {name for name, seed in laboratory.seeds.items() if seed}
    assert fresh and all(name.startswith("confirm-") for name in fresh)


def test_a_recipe_that_moves_the_numbers_is_reverted_whatever_it_gains() -> None:
    laboratory = FakeLaboratory(
        lambda on: 100 * 0.5 ** len(on), noise=0.002, shifts={"wrong": 1e-3, "right": 1e-9}
    )
    book = search(laboratory, [recipe("wrong", 3.0), recipe("right", 1.5)])
    assert decisions(book) == {"wrong": "reverted", "right": "kept"}
    assert "moved by 0.001" in reason(book, "wrong")


def test_a_framework_gets_its_own_setting_instead_of_a_patch() -> None:
    trained = Situation(analysis=NOT_LOOKED_AT, facts={}, seen={"framework": "lightning"})
    offered = [recipe("amp-bf16", 2.0, numerics=Numerics.NUMERICS), recipe("other", 1.5)]
    found = candidates(offered, trained, Numerics.NUMERICS, done=(), past=())
    assert [c.choice.recipe.id for c in found.candidates] == ["other"]
    (left,) = found.left_out
    assert (left.recipe, left.decision) == ("amp-bf16", "refused")
    assert 'Trainer(precision="bf16-mixed")' in left.reason


def test_refusals_are_told_from_failures() -> None:
    laboratory = FakeLaboratory(lambda on: 100.0, refused={"late": "the script has its own hook"})
    book = search(laboratory, [recipe("late", 2.0), recipe("early", 2.0, refuses="no DDP")])
    assert decisions(book) == {"late": "refused", "early": "refused"}
    assert reason(book, "late") == "the script has its own hook"
    assert reason(book, "early") == "no DDP"


def test_levels_of_numerics_are_opt_in_and_add_up() -> None:
    recipes = [
        recipe("rounds", 1.5, numerics=Numerics.NUMERICS),
        recipe("alters", 1.5, numerics=Numerics.ALGORITHM),
    ]
    laboratory = FakeLaboratory(lambda on: 100 * 0.7 ** len(on), noise=0.002)
    exact = search(laboratory, recipes)
    assert exact.stack == ()
    assert reason(exact, "rounds") == (
        "1.50 times as fast is predicted, but it may change the numbers: --allow numerics"
    )
    allowed = Settings(allow=Numerics.NUMERICS, budget_s=1e6)
    assert search(laboratory, recipes, allowed).stack == ("rounds",)
    allowed = Settings(allow=Numerics.ALGORITHM, budget_s=1e6)
    book = search(laboratory, recipes, allowed)
    assert set(book.stack) == {"rounds", "alters"}


@pytest.mark.parametrize(
    ("seen", "exact"),
    [
        ({"loader_draws_global_rng": False}, True),
        ({"loader_draws_global_rng": True}, False),
        ({}, False),  # nobody looked, as with an IterableDataset
    ],
)
def test_workers_are_exact_only_where_no_sample_drew_from_a_global_generator(
    seen: dict[str, object], exact: bool
) -> None:
    trained = Situation(analysis=NOT_LOOKED_AT, facts={}, seen=seen)
    found = candidates([recipe("loader", 2.0)], trained, Numerics.EXACT, done=(), past=())
    assert bool(found.candidates) is exact
    if not exact:
        (left,) = found.left_out
        assert left.reason.endswith(
            "but it may change the numbers (its samples may draw from a global generator): "
            "--allow numerics"
        )


def test_what_is_only_for_experiments_is_tried_last_and_never_kept() -> None:
    laboratory = FakeLaboratory(lambda on: 100 * 0.7 ** len(on), noise=0.002)
    book = search(laboratory, [recipe("debugs", 3.0, keeps=False), recipe("good", 1.2)])
    assert decisions(book) == {"good": "kept", "debugs": "reverted"}
    debugs = next(a for a in book.attempts if a.recipe == "debugs")
    assert debugs.measured is not None and debugs.measured.outcome == "faster"
    assert (debugs.reason, debugs.stack) == ("it is never kept", ("good",))


def test_a_smaller_gain_that_takes_fewer_runs_comes_first() -> None:
    sizes = {1: 1.30, 2: 1.29, 4: 1.28, 8: 1.27}  # 8 runs to choose, 10 to compare
    offered = [recipe("searched", None, sizes=sizes), recipe("plain", 1.2)]
    found = candidates(offered, SITUATION, Numerics.EXACT, done=(), past=())
    assert [c.choice.recipe.id for c in found.candidates] == ["plain", "searched"]


SIZED = recipe("sized", None, sizes={4: 1.3, 2: 1.25, 1: 1.2})


def test_parameters_are_searched_and_the_fastest_is_compared_on_other_runs() -> None:
    def law(on: frozenset[str]) -> float:
        return {"sized:mb=4": 80.0, "sized:mb=2": 70.0, "sized:mb=1": 90.0}.get(
            next((name for name in on if ":" in name), ""), 100.0
        )

    laboratory = FakeLaboratory(law, noise=0.002)
    book = search(laboratory, [SIZED])
    (kept,) = book.attempts
    assert (kept.decision, kept.label, kept.forecast.expected) == ("kept", "sized:mb=2", 1.25)
    assert book.stack == ("sized:mb=2",)
    assert [s.label for s in kept.searched] == ["sized:mb=4", "sized:mb=2", "sized:mb=1"]
    assert all(len(s.step_ms) == 2 for s in kept.searched)
    chose = [name for name in laboratory.ran if name.startswith("search-")]
    assert [name[-6] for name in chose] == ["4", "2", "1", "1", "2", "4"]  # there and back
    assert kept.measured is not None
    assert not {name for pair in kept.measured.trials for name in pair} & set(chose)


def test_a_parameter_that_fails_is_not_chosen() -> None:
    def law(on: frozenset[str]) -> float:
        return 70.0 if "sized" in on else 100.0

    laboratory = FakeLaboratory(law, trouble={"sized:mb=4": "it hung"})
    (kept,) = search(laboratory, [SIZED]).attempts
    assert kept.label in ("sized:mb=2", "sized:mb=1")
    failed = kept.searched[0]
    assert (failed.label, failed.step_ms, failed.reason) == ("sized:mb=4", (), "it hung")
    everywhere = FakeLaboratory(law, trouble={"sized": "it hung"})
    (out,) = search(everywhere, [SIZED]).attempts
    assert (out.decision, out.reason) == ("reverted", "it hung")


def test_small_predictions_are_not_tried() -> None:
    laboratory = FakeLaboratory(lambda on: 100.0)
    book = search(laboratory, [recipe("tiny", 1.01), recipe("silent", None)])
    assert decisions(book) == {"tiny": "not_tried", "silent": "not_tried"}
    assert reason(book, "tiny") == "at most 1.01 times as fast is predicted"
    assert len(laboratory.ran) == 7  # the diagnosis and the pilot


def test_a_spent_budget_ends_the_search_before_the_next_comparison() -> None:
    laboratory = FakeLaboratory(lambda on: 100 * 0.7 ** len(on), noise=0.001, seconds=10.0)
    settings = Settings(budget_s=250)  # diagnosis and pilot 70 s, a comparison 100 s
    book = search(laboratory, [recipe("one", 1.5), recipe("two", 1.4)], settings)
    assert book.stack == ("one",)
    assert decisions(book)["two"] == "not_tried"
    assert book.stopped == "the budget is spent"
    assert book.confirmation is not None


def test_a_budget_for_fewer_pairs_than_the_noise_asks_for_still_finds_a_large_gain() -> None:
    def law(on: frozenset[str]) -> float:
        return 100 * (0.3 if "large" in on else 1)

    laboratory = FakeLaboratory(law, noise=0.1, seconds=10.0, seed=1)
    book = search(laboratory, [recipe("large", 3.0)], Settings(budget_s=190))  # six pairs
    assert book.pairs == 12
    (kept,) = book.attempts
    assert kept.decision == "kept"
    assert kept.measured is not None and len(kept.measured.trials) <= 6
    poor = FakeLaboratory(law, noise=0.1, seconds=10.0, seed=1)
    book = search(poor, [recipe("large", 3.0)], Settings(budget_s=160))  # four pairs
    assert book.attempts[0].reason == "the budget is spent"


def test_a_noisy_machine_is_said_to_be_noisy() -> None:
    laboratory = FakeLaboratory(lambda on: 100 * 0.95 ** len(on), noise=0.4, seed=3)
    book = search(laboratory, [recipe("one", 1.1)])
    assert book.stack == ()
    assert reason(book, "one").startswith("inconclusive")
    assert book.resolves is not None and book.resolves > 1.10


def test_a_baseline_that_fails_is_a_refusal() -> None:
    class Broken(FakeLaboratory):
        def run(self, wanted: Wanted) -> Measured:
            return Measured(wanted=wanted, ok=False, reason="it ended with status 1")

    laboratory = Broken(lambda on: 100.0)
    found = Search(laboratory, [], Settings(), empty_book()).run()
    assert isinstance(found, Refusal)
    assert "it ended with status 1" in found.reason


def test_the_same_answers_lead_to_the_same_trials() -> None:
    recipes = [recipe("one", 1.5), recipe("two", 1.4)]
    first = FakeLaboratory(lambda on: 100 * 0.8 ** len(on), noise=0.01)
    second = FakeLaboratory(lambda on: 100 * 0.8 ** len(on), noise=0.01)
    assert search(first, recipes) == search(second, recipes)
    assert first.ran == second.ran
    assert len(set(first.ran)) == len(first.ran)
