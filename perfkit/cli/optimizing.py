"""One search of `perfkit optimize`: what it starts from, what it tells, what it leaves behind."""

import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from perfkit.analyzers.calibration import Pair, encode
from perfkit.analyzers.refusal import Refusal
from perfkit.cli import calibration_file, console, results, whatif_calibration
from perfkit.cli.trials import Trials
from perfkit.errors import InputError, UsageError
from perfkit.recipes.activation import Choice
from perfkit.recipes.candidates import Candidate
from perfkit.recipes.catalogue import BY_ID, RECIPES
from perfkit.recipes.ledger import SCHEMA_VERSION, Attempt, Change, Optimization
from perfkit.recipes.measured import STEPS
from perfkit.recipes.recipe import Recipe
from perfkit.recipes.search import Search, Settings
from perfkit.recipes.source_change import source_change
from perfkit.report import html, optimize_page, optimize_text
from perfkit.trace.recipe_log import read_log
from perfkit.trace.run import open_run
from perfkit.version import __version__

FILE, PAGE = "optimize.json", "optimize.html"
CALIBRATION = "calibration.jsonl"


def known(names: Sequence[str]) -> tuple[str, ...]:
    """Return the recipes that were named. Raises UsageError for one that there is not."""
    for name in names:
        if name not in BY_ID:
            raise UsageError(f"--recipe {name}: there is no such recipe", hint="perfkit recipes")
        if not BY_ID[name].can_apply:
            raise UsageError(
                f"--recipe {name}: this one is a change of the script that only you can make",
                hint=f"perfkit recipes {name} shows it",
            )
    return tuple(names)


def default_calibration() -> Path:
    """Return the user's file of predicted and measured gains of recipes; it need not exist."""
    return whatif_calibration.default_file().with_name("recipes.jsonl")


def past(home: Path) -> tuple[Pair, ...]:
    """Return how earlier predictions fared; a resumed search uses what it began with.

    Raises InputError where the file cannot be read.
    """
    kept = home / CALIBRATION
    file = kept if kept.exists() else default_calibration()
    try:
        pairs = whatif_calibration.read(file)
    except InputError as error:
        raise InputError(error.message, hint="move it away; it is made anew") from error
    if file == kept:
        return pairs
    results.write(kept, b"".join(encode(pair) for pair in pairs))
    return pairs


def search(
    trials: Trials, settings: Settings, recipes: Sequence[Recipe] | None = None
) -> Optimization:
    """Search among `recipes` (None: all that there are) to the end.

    Raises InputError where the training itself cannot be measured.
    """
    finished = _finished_before(trials.home)
    if (trials.home / FILE).exists():
        place = console.shown(trials.home)
        console.say(f"going on in {place}: trials that have ended well are not run again")
    told: set[str] = set()

    def changed(book: Optimization) -> None:
        keep(book, trials.home)
        for attempt in book.attempts:
            if attempt.decision in ("kept", "reverted") and attempt.label not in told:
                told.add(attempt.label)
                console.say(optimize_text.decided(attempt))

    offered = RECIPES if recipes is None else recipes
    searching = Search(trials, offered, settings, _empty(trials, settings), changed, _announce)
    found = searching.run()
    if isinstance(found, Refusal):
        raise InputError(found.reason, hint=found.remedy or "run the command by itself first")
    changes = source_changes(searching.stack, trials.home, found)
    found = msgspec.structs.replace(found, sentence=optimize_text.sentence(found), changes=changes)
    keep(found, trials.home)
    _report(found, trials)
    if not finished:
        _learn(found)
    return found


def _report(found: Optimization, trials: Trials) -> None:
    """Put the ledger into the reports of the runs that were diagnosed."""
    more = optimize_page.sections(found)
    for diagnosed in found.diagnosed:
        if (analysis := trials.analyses.get(diagnosed.trial)) is not None:
            run = trials.home / diagnosed.trial
            page = html.render(analysis, more=more, called=results.called(run))
            results.write(run / results.REPORT_FILE, page.encode())


def source_changes(stack: Sequence[Choice], home: Path, found: Optimization) -> tuple[Change, ...]:
    """Return what makes each kept recipe permanent, and write the diffs beside the ledger.

    Places come from the last diagnosed run; a diff is relative to the current folder.
    """
    if not stack:
        return ()
    log = read_log(open_run([home / found.diagnosed[-1].trial]))
    changes = []
    for choice in stack:
        change = source_change(choice, log, Path.cwd())
        if change.diff:
            results.write(home / f"{choice.recipe.id}.patch", change.diff.encode())
        where = f"{change.file}:{change.line}: " if change.file and not change.diff else ""
        text = change.diff or f"{where}{change.snippet}"
        changes.append(Change(label=choice.label, text=text, is_diff=bool(change.diff)))
    return tuple(changes)


def keep(book: Optimization, home: Path) -> None:
    """Write optimize.json and optimize.html."""
    document = msgspec.json.encode(book)
    results.write(home / FILE, msgspec.json.format(document, indent=1) + b"\n")
    results.write(home / PAGE, optimize_page.render(book).encode())


def _empty(trials: Trials, settings: Settings) -> Optimization:
    return Optimization(
        schema_version=SCHEMA_VERSION,
        perfkit_version=__version__,
        command=shlex.join(trials.command),
        allow=settings.allow.value,
        budget_s=settings.budget_s,
        spent_s=0.0,
        steps=STEPS,
        baseline_ms=None,
        noise_log_sd=None,
        resolves=None,
        pairs=None,
    )


def _announce(candidate: Candidate) -> None:
    console.say(optimize_text.announced(candidate.choice.label, candidate.forecast))


def interrupted(home: Path) -> None:
    """Say what an interrupted search has kept so far, and how it goes on."""
    with suppress(OSError, msgspec.MsgspecError):
        book = msgspec.json.decode((home / FILE).read_bytes(), type=Optimization)
        console.say(optimize_text.so_far(book))
    console.goes_on(home)


def _finished_before(home: Path) -> bool:
    try:
        return msgspec.json.decode((home / FILE).read_bytes(), type=Optimization).complete
    except (OSError, msgspec.MsgspecError):
        return False


def _learn(found: Optimization) -> None:
    """Add what was predicted and measured to the user's calibration file."""
    lines = b"".join(encode(pair) for a in found.attempts if (pair := pair_of(a)) is not None)
    try:
        calibration_file.append(default_calibration(), lines)
    except InputError as error:
        console.say(f"later predictions will not know of these: {error.message}")


def pair_of(attempt: Attempt) -> Pair | None:
    """Return predicted and measured step of an attempt; None where either is missing."""
    measured, expected = attempt.measured, attempt.forecast.expected
    if measured is None or not measured.ratio or not expected:
        return None
    before = mean(measured.base_ms)
    return Pair(
        options=(attempt.recipe,),
        before_ms=before,
        predicted_ms=before / expected,
        measured_ms=before / measured.ratio,
    )


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)
