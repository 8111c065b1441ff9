"""`perfkit whatif` as a user types it, on real captures."""

import json
from pathlib import Path

import pytest

from perfkit.cli import app
from perfkit.cli.whatif import factor
from perfkit.errors import UsageError
from tests.trace.nsys_files import Export

pytestmark = pytest.mark.skipif(
    "whatif" not in dict(app.COMMANDS), reason="whatif is not in the table of commands"
)


def run(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        app.main(["whatif", *map(str, arguments)])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture
def torchrec(shared_traces: Path) -> Path:
    return shared_traces / "kineto/torchrec_v100_4ranks_opt4"


def test_one_change(torchrec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(torchrec, "--network", "x0.5", capsys=capsys)
    assert status == 0
    assert "Measured step 145 ms (steps 4 to 6, profiled, 4 ranks)" in out
    assert "With network x0.5" in out and "Assumed:" in out
    assert "then bound by" in out
    budget = out.split("before and after:\n")[1].split("\n\n")[0]
    scale = {"us": 1e-3, "ms": 1.0}
    before, after = (
        sum(float(value) * scale[unit] for value, unit in sides)
        for sides in zip(
            *([side.split()[-2:] for side in line.split("->")] for line in budget.splitlines()),
            strict=True,
        )
    )
    assert before == pytest.approx(145, abs=1)
    step = out.split("  step")[1].split("ms")[0]
    assert after == pytest.approx(float(step), abs=1)
    assert "Next: perfkit whatif" in err and "--search" in err


def test_a_search_in_json(torchrec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(torchrec, "--json", capsys=capsys)
    assert status == 0
    found = json.loads(out)
    assert found["schema_version"] == 1 and found["ranks"] == [0, 1, 2, 3]
    assert abs(found["replay_error"]) < 0.02
    answers = found["answers"]
    assert [a["predicted_ms"] for a in answers] == sorted(a["predicted_ms"] for a in answers)
    assert all(a["options"] and a["assumptions"] for a in answers)
    assert all(a["low_ms"] <= a["predicted_ms"] <= a["high_ms"] for a in answers)


def test_the_suggested_change_can_be_asked_for(
    torchrec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, err = run(torchrec, capsys=capsys)
    assert "Worth trying" in out
    suggested = err.split("Next: perfkit whatif ")[1].split()[1:]
    status, out, _ = run(torchrec, *suggested, capsys=capsys)
    assert status == 0 and "With " in out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--network", "fast"], 2, "not a factor"),
        (["--amp", "fp8"], 2, "only bf16"),
        (["--bucket-mb", "0"], 2, "positive size"),
        (["--search", "--no-stragglers"], 2, "tries all changes"),
        (["--async-checkpoint"], 3, "hold no checkpoint"),
    ],
)
def test_what_cannot_be_asked_gets_one_line(
    torchrec: Path,
    options: list[str],
    status: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen, out, err = run(torchrec, *options, capsys=capsys)
    assert seen == status and not out
    assert message in err and err.count("\n") == 1


def test_buckets_of_a_run_without_any_are_refused(
    shared_traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sharded = shared_traces / "kineto/nanogpt_h100_8ranks"
    status, out, err = run(sharded, "--bucket-mb", "1", capsys=capsys)
    assert status == 3 and not out and "no all-reduce" in err


def test_a_capture_that_does_not_replay_is_refused(
    shared_traces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = run(shared_traces / "kineto/hta_a100_rank3_of_8.json.gz", capsys=capsys)
    assert status == 3 and not out
    assert "-2.4 % off" in err and err.count("\n") == 1


def test_factors() -> None:
    assert factor("x2", "--network") == factor("2", "--network") == 2
    with pytest.raises(UsageError):
        factor("-1", "--network")


def test_an_nsight_export_is_replayed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three steps of 1 ms: kernels 10 to 60 us and 110 to 160 us behind a step's begin."""
    made = Export()
    for k in range(3):
        begin = 1_000_000 * k
        made.range(f"round {k}", begin, begin + 1_000_000)
        for part in range(2):
            at = begin + 100_000 * part
            correlation = 10 * k + part + 1
            made.call("cudaLaunchKernel", at + 1_000, at + 5_000, correlation)
            made.kernel("sgemm", at + 10_000, at + 60_000, correlation)
    path = made.write(tmp_path / "r.sqlite")
    status, out, err = run(path, "--compute", "x2", capsys=capsys)
    assert status == 3 and "second one" in err  # no range is known to be a step
    options = (path, "--compute", "x2", "--step-nvtx", r"round (\d+)")
    status, out, _ = run(*options, capsys=capsys)
    assert status == 0
    assert "Measured step 1.00 ms (steps 0 to 2, profiled, 1 rank); unchanged replay 0% off" in out
    assert "then bound by  host python" in out  # the host thinks; the kernels are hidden by it
