"""What predictions are worth: pairs of predicted and measured steps, and the ranges they give."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from perfkit.analyzers import whatif_changes as changes
from perfkit.analyzers.calibration import Pair, decode, encode, expected
from perfkit.analyzers.graph import StepGraph, build_graph
from perfkit.analyzers.whatif import Answer, ask, baseline
from perfkit.cli import app
from tests.models.known_runs import cpu_run, cpu_step_ms


def pair(option: str, error: float) -> Pair:
    return Pair(options=(option,), before_ms=200, predicted_ms=100 * (1 + error), measured_ms=100)


NETWORK = tuple(pair("--network x2", e) for e in (0.01, -0.03, 0.02))
BUCKETS = tuple(pair("--bucket-mb 1", e) for e in (0.05, -0.04))


def test_a_kind_that_was_never_compared_is_ten_percent_off() -> None:
    found = expected(["--network x4"], ())
    assert found.error == 0.10 and found.unknown == ("--network",) and found.median is None
    assert expected(["--network x4"], NETWORK[:1]).error == 0.10
    assert expected([], NETWORK).error == 0.10


def test_the_worst_of_few_and_most_of_many() -> None:
    found = expected(["--network x4"], NETWORK)
    assert found.error == pytest.approx(0.03) and found.pairs == 3 and found.unknown == ()
    assert found.median == pytest.approx(0.02)
    many = [pair("--network x2", e / 1000) for e in range(11, 31)]
    assert expected(["--network x2"], many).error == pytest.approx(0.028)
    assert expected(["--network x2"], [pair("--network x2", 0.0)] * 3).error == 0.01


def test_a_combination_is_as_uncertain_as_its_parts_together() -> None:
    both = ["--network x2", "--bucket-mb 1"]
    assert expected(both, NETWORK + BUCKETS).error == pytest.approx(0.08)
    assert expected(both, NETWORK).error == pytest.approx(0.13)
    combined = Pair(options=tuple(both), before_ms=200, predicted_ms=150, measured_ms=100)
    assert expected(both[:1], (*NETWORK, combined)).error == pytest.approx(0.03)


def test_the_range_of_an_answer_follows() -> None:
    graph = build_graph(*cpu_run())
    assert isinstance(graph, StepGraph)
    truth = cpu_step_ms(transfer_ms=6)
    for pairs, error in (((), 0.10), (NETWORK, 0.03)):
        setting = replace(baseline(graph, None), calibration=pairs)
        answer = ask(setting, [changes.network(2)])
        assert isinstance(answer, Answer)
        assert answer.low_ms == pytest.approx(truth * (1 - error))


def test_a_file_is_read_back_and_nonsense_is_refused() -> None:
    assert decode(b"".join(map(encode, NETWORK))) == NETWORK
    for line in (b"{}", b"no json", encode(pair("--network x2", -1.0))):
        with pytest.raises((ValueError, msgspec.MsgspecError)):
            decode(line)


def test_the_command_remembers_what_was_measured(
    shared_traces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shared_traces / "kineto/torchrec_v100_4ranks_opt4"
    file = tmp_path / "new" / "pairs.jsonl"

    def whatif(*options: object) -> tuple[int, str, str]:
        words = ["whatif", str(run), "--calibration", str(file), *map(str, options)]
        with pytest.raises(SystemExit) as ended:
            app.main(words)
        return int(ended.value.code or 0), *capsys.readouterr()

    assert "expect +-10%" in whatif("--network", "x1")[1]
    for _ in range(2):  # nothing was changed: the prediction must be right
        status, out, _ = whatif("--network", "x1", "--after", run)
        assert status == 0 and "Measured afterwards: 145 ms" in out
    assert all(abs(p.error) < 1e-6 for p in decode(file.read_bytes()))
    assert "expect +-1.0% of the step; 2 predictions" in whatif("--network", "x1")[1]
    assert "2 predictions were compared" in whatif()[1]
    found = json.loads(whatif("--network", "x1", "--after", run, "--json")[1])
    assert found["measured_ms"] == pytest.approx(found["step_ms"])
    assert whatif("--after", run)[0] == 2
    file.write_text("{}")
    status, out, err = whatif("--network", "x1")
    assert status == 3 and not out and "not a calibration file" in err and err.count("\n") == 1
