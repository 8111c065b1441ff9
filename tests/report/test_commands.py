"""Commands in advice: found where they end it, completed with the run's own command."""

import msgspec
import pytest

from perfkit.analyzers import result as r
from perfkit.analyzers.run_facts import WINDOWS
from perfkit.profiler.launch import DEFAULT_WINDOW
from perfkit.report.commands import USUAL_WINDOW, following, remedy, split
from tests.report.sample import hostile_gpu, io_bound, no_trace

RUN = "torchrun --nproc-per-node=2 train_cnn.py --workers 0"


@pytest.mark.parametrize(
    ("text", "prose", "command"),
    [
        ("perfkit profile -- CMD", "", f"perfkit profile -- {RUN}"),
        (
            "find the lines: perfkit profile --py-spy -- CMD",
            "find the lines",
            f"perfkit profile --py-spy -- {RUN}",
        ),
        ("OMP_NUM_THREADS=2 torchrun x.py", "", "OMP_NUM_THREADS=2 torchrun x.py"),
        ("torchrun x.py", "", "torchrun x.py"),
        ("torch.compile, CUDA graphs", "torch.compile, CUDA graphs", ""),
        ("set NCCL_DEBUG=INFO and look", "set NCCL_DEBUG=INFO and look", ""),
        ("capture with `perfkit profile`", "capture with `perfkit profile`", ""),
        ("lower bucket_cap_mb (25 MB is usual)", "lower bucket_cap_mb (25 MB is usual)", ""),
        ("", "", ""),
    ],
)
def test_advice_splits_into_prose_and_command(text: str, prose: str, command: str) -> None:
    assert split(text, io_bound()) == (prose, command)


def test_a_backslash_in_the_command_stays() -> None:
    run = msgspec.structs.replace(io_bound().run, command=r"python \1 t.py")
    changed = msgspec.structs.replace(io_bound(), run=run)
    assert split("perfkit profile -- CMD", changed)[1] == r"perfkit profile -- python \1 t.py"


def test_the_next_command_settles_the_verdict_or_repeats_the_run() -> None:
    assert following(io_bound()) == f"perfkit profile -- {RUN}"
    assert following(no_trace()) == "perfkit profile --window 2:5 -- torchrun train.py"
    unknown = msgspec.structs.replace(io_bound().run, command="")
    foreign = msgspec.structs.replace(io_bound(), run=unknown)
    assert following(foreign) == "perfkit profile -- CMD"


def test_the_run_is_repeated_with_its_own_windows() -> None:
    facts = {**io_bound().run.facts, WINDOWS: "2:5, 20:24"}
    asked = msgspec.structs.replace(io_bound().run, facts=facts)
    changed = msgspec.structs.replace(io_bound(), run=asked)
    assert following(changed) == f"perfkit profile --window 2:5 --window 20:24 -- {RUN}"
    usual = msgspec.structs.replace(asked, facts={WINDOWS: USUAL_WINDOW})
    assert following(msgspec.structs.replace(changed, run=usual)) == f"perfkit profile -- {RUN}"
    assert "{}:{}".format(*DEFAULT_WINDOW) == USUAL_WINDOW


def test_without_a_finding_to_act_on_the_next_command_lists_what_can_be_tried() -> None:
    info = tuple(f for f in io_bound().findings if f.severity == "info")
    calm = msgspec.structs.replace(io_bound(), findings=info)
    assert following(calm, "my runs/a") == "perfkit recipes 'my runs/a'"
    assert following(io_bound(), "my runs/a") == f"perfkit profile -- {RUN}"
    assert following(no_trace(), "my runs/a").startswith("perfkit profile --window 2:5")


def test_an_unsplit_wait_is_settled_by_what_concerns_collectives() -> None:
    limits = (
        r.CannotTell(claim="waiting for input", why="w", remedy="wrap the fetch"),
        r.CannotTell(claim="how much of communication is waiting", why="w", remedy="all ranks"),
    )
    analysis = hostile_gpu()
    changed = msgspec.structs.replace(
        analysis,
        quality=msgspec.structs.replace(analysis.quality, cannot_tell=limits),
        verdict=msgspec.structs.replace(analysis.verdict, reason="wait_not_separable"),
    )
    assert remedy(changed) == "all ranks"
    assert remedy(msgspec.structs.replace(changed, verdict=analysis.verdict)) == "wrap the fetch"
