"""`perfkit faults`: kill a rank, and see whether and how fast the training comes back."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perfkit.cli import console, exits, sweep
from perfkit.cli.workdir import AllowWrites, CarefulRunner, Place, Where, Workdir, offline
from perfkit.errors import GateError, InputError, UsageError

if TYPE_CHECKING:
    from perfkit.analyzers.faults_result import Faults
    from perfkit.trace.attempts import Attempt
    from perfkit.trace.runner import Ended, Trial

SETTINGS: dict[str, Any] = {"allow_interspersed_args": False}
RUN = "{run}"
EXAMPLE = (
    "perfkit faults -- torchrun --nproc-per-node 2 train.py --checkpoint {run} --resume-if-any"
)
UNTOUCHED, KILLED = "untouched", "killed"
STALE_ADDRESSES = "Gloo connectFullMesh failed"


def command(
    cmd: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="-- CMD",
            help="The training's command line, with {run} where it names its checkpoint folder.",
            show_default=False,
        ),
    ] = None,
    kill_rank: Annotated[
        int | None,
        typer.Option(metavar="R", min=0, help="The rank to kill.", show_default="the last one"),
    ] = None,
    at_step: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Kill it after this step.",
            show_default="between two checkpoints, mid-run",
        ),
    ] = None,
    mtbf: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Mean time between failures of one rank: 5000h.",
            show_default="50,700 h, as Llama 3 reported",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where the runs and results go; an interrupted experiment goes on there.",
            show_default="a new one in ./perfkit-runs",
        ),
    ] = None,
    time_limit: Annotated[
        str, typer.Option(metavar="TIME", help="Longest time for one run: 90s, 10m, 1h.")
    ] = "1h",
    workdir: Where = Workdir.SAME,
    allow_writes: AllowWrites = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print faults.json instead.")] = False,
) -> None:
    """Kill a rank of a training, and say whether it resumes rightly and what that costs.

    The command runs twice: left alone, and with a rank killed under torchrun's elastic restart
    (--max-restarts 1 unless the command says otherwise). Status 1 if it does not resume with the
    losses of the run left alone. Example: perfkit faults --
    torchrun --nproc-per-node 2 train.py --checkpoint {run} --resume-if-any
    """
    from perfkit.profiler.experiment import Beginning, Experiment, Limits

    words = cmd or []
    if not words:
        raise UsageError("faults needs a command after --", hint=EXAMPLE)
    if not any(RUN in word for word in words):
        raise UsageError(
            f"the command has no {RUN}: both runs would share one checkpoint folder, and the "
            "second would continue the first",
            hint=f"write {RUN} where the command names its checkpoint folder: {EXAMPLE}",
        )
    mtbf_s = None if mtbf is None else sweep.seconds(mtbf, "--mtbf")
    limits = Limits(seconds=sweep.seconds(time_limit, "--time-limit"), trace=False)
    home = out or sweep.default_folder("faults")
    place = Place(home=home, copy=workdir is Workdir.COPY, allow_writes=allow_writes)
    console.say(offline(os.environ))
    with console.progress("running") as show, exits.resumable(lambda: console.goes_on(home)):

        def begins(beginning: Beginning) -> None:
            show(f"the run {beginning.trial.name}")
            place.begin(beginning.trial.name)

        runner = CarefulRunner(Experiment(home, limits, on_begin=begins), place)
        found = measure(runner, words, kill_rank, at_step, mtbf_s)
    report(found, home, as_json=as_json)


def trial(runner: CarefulRunner, name: str, words: Sequence[str], **request: int | None) -> "Trial":
    """Return one run of the command, with {run} a folder of its own.

    torchrun takes options that its command line lacks from the environment.
    """
    from perfkit.trace.runner import Trial

    own = str(runner.folder / name / "files")
    return Trial(
        name=name,
        command=tuple(word.replace(RUN, own) for word in words),
        environment={"PERFKIT_FAULT": json.dumps(request), "PET_MAX_RESTARTS": "1"},
    )


def measure(
    runner: CarefulRunner,
    words: Sequence[str],
    kill_rank: int | None,
    at_step: int | None,
    mtbf_s: float | None,
) -> "Faults":
    """Run both, and judge. Raises InputError where that is not possible."""
    from perfkit.analyzers.faults import Asked, judge, step_to_kill
    from perfkit.analyzers.refusal import Refusal
    from perfkit.trace import attempts

    (alone,) = runner.run([trial(runner, UNTOUCHED, words)])
    if not alone.ok:
        raise InputError(
            f"the run without a kill failed: {alone.reason}",
            hint=f"see {console.shown(alone.log) if alone.log else 'its log'}",
        )
    untouched = _last(attempts.read_attempts(alone.run))
    rank = len(untouched.ranks) - 1 if kill_rank is None else kill_rank
    step = step_to_kill(untouched) if at_step is None else at_step
    if isinstance(step, Refusal):
        raise InputError(step.reason, hint=step.remedy)
    if rank >= len(untouched.ranks) or step >= untouched.steps:
        raise UsageError(
            f"there is no rank {rank} with a step {step}: the run has {len(untouched.ranks)} ranks "
            f"and {untouched.steps} steps, both counted from 0"
        )
    (killed,) = runner.run([trial(runner, f"{KILLED}-{rank}-{step}", words, rank=rank, step=step)])
    again = attempts.read_attempts(killed.run)
    if not again:
        raise InputError(
            f"the run with a kill recorded nothing: {killed.reason or 'no rank was captured'}",
            hint=f"see {console.shown(killed.run / 'boot-errors.log')}",
        )
    asked = Asked(
        command=" ".join(words),
        mtbf_of_one_rank_s=mtbf_s,
        notice_ns=_notice(killed, again),
        failure="" if killed.ok else _failure(killed),
    )
    found = judge(untouched, again, asked)
    if isinstance(found, Refusal):
        raise InputError(found.reason, hint=found.remedy)
    return found


def _last(found: "Sequence[Attempt]") -> "Attempt":
    if not found or not found[-1].steps:
        raise InputError(
            "the run without a kill recorded no training step",
            hint="the command must train: perfkit profile -- CMD shows what is seen of it",
        )
    return found[-1]


def _notice(ended: "Ended", again: "Sequence[Attempt]") -> int | None:
    from perfkit.trace.launcher_log import notice_ns

    deaths = [rank.death for attempt in again for rank in attempt.ranks if rank.death is not None]
    if not deaths or ended.log is None or not ended.log.is_file():
        return None
    return notice_ns(ended.log.read_text(errors="replace"), deaths[0].at_ns)


def _failure(ended: "Ended") -> str:
    """Return how the killed job ended, with the remedy for what torch itself gets wrong."""
    log = ended.log.read_text(errors="replace") if ended.log and ended.log.is_file() else ""
    if STALE_ADDRESSES in log:
        return (
            "Gloo met the addresses of the dead ranks, which torchrun's shared store keeps; "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in the environment gives it a new store"
        )
    return ended.reason


def report(found: "Faults", home: Path, *, as_json: bool) -> None:
    """Write faults.json and faults.html, print, and raise GateError if the job did not resume."""
    import msgspec

    from perfkit.cli import results
    from perfkit.report import faults_page, faults_text

    document = msgspec.json.encode(found)
    results.write(home / "faults.json", msgspec.json.format(document, indent=1) + b"\n")
    results.write(home / "faults.html", faults_page.render(found).encode())
    if as_json:
        console.tell_json(found)
    else:
        console.tell(faults_text.render(found, report_path=console.shown(home / "faults.html")))
    if not found.passed:
        raise GateError(
            "the training did not resume rightly", hint=f"see {console.shown(home)}/*.log"
        )
    console.suggest(f"perfkit analyze {console.shown(home / UNTOUCHED)}")
