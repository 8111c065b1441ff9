"""What a run says of its machine, its user and its command does not survive --redact."""

import gzip
import json
import re
from pathlib import Path

import polars as pl
import pytest

from perfkit.trace.redaction import Redaction, originals
from tests.cli.conftest import Call
from tests.trace.files import BASE_NS, document, op, span, step, write
from tests.trace.folders import STEP_NS, UNIX_NS, add_node, add_rank, write_lines

HOSTS = ("gpu-host-17", "login3.cluster.example", "8c0e-boot")
COMMAND = [
    *("/opt/conda/bin/torchrun", "--nproc-per-node=2", "/home/alice/moonshot/train_unicorn.py"),
    *("--data=/mnt/secretset/v3", "--codename", "bluebird", "--epochs", "12", "alice@example.org"),
]
ORIGINALS = (
    *HOSTS,
    *("alice", "moonshot", "train_unicorn", "secretset", "--data", "--codename", "bluebird"),
    *("example.org", "10.1.2.3", "/opt/conda", "/mnt"),
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two ranks whose facts, events and last words are full of what nobody else should see."""
    run = tmp_path / "run"
    add_node(
        run, HOSTS[0], hostname=HOSTS[0], boot_id=HOSTS[2], command=COMMAND,
        command_line=" ".join(COMMAND), cwd="/home/alice/moonshot", pid=7, launcher="torchrun",
        environment={"MASTER_ADDR": HOSTS[1], "SLURM_JOB_USER": "alice", "OMP_NUM_THREADS": "1"},
        started_unix_ns=1_790_000_000_123_456_789,
    )  # fmt: skip
    for rank in range(2):
        folder = add_rank(
            run, rank, steps=12, hostname=HOSTS[0], clock_domain=HOSTS[2], argv=COMMAND[2:],
            parent_node=HOSTS[0], script=COMMAND[2], ended=None,
        )  # fmt: skip
        said = f"no {COMMAND[2]} on {HOSTS[0]} for bluebird at 10.1.2.3"
        lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
        write_lines(folder / "steps.jsonl", [*lines, {"k": "warning", "text": said}])
        events = []
        for number in range(2, 12):
            at = (UNIX_NS - BASE_NS + number * STEP_NS) / 1000
            events += [step(number, at, STEP_NS / 1000), op("aten::mm", at + 9, 900.0, number + 1)]
            events.append(span("user_annotation", f"load {COMMAND[2]}", at + 950, 50.0))
            events.append(span("user_annotation", f"on {HOSTS[0]} by alice", at + 1100, 50.0))
        write(folder / "trace-0003-0011.json.gz", document(events))
    return run


def shown(path: Path) -> str:
    """Everything that a file of ours says."""
    if path.suffix == ".parquet":
        return str(pl.read_parquet(path).to_dicts())
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode()


def survivors(text: str) -> list[str]:
    return [word for word in ORIGINALS if word in text]


def test_the_page_and_its_analysis_hold_no_original(perfkit: Call, run: Path) -> None:
    assert perfkit("report", run, "--light").status == 0
    assert len(survivors(shown(run / "report.html"))) > 8  # they were there
    ended = perfkit("report", run, "--redact", "--light")
    assert ended.status == 0
    for name in ("redacted.html", "redacted.json"):
        assert survivors(shown(run / name)) == []
    analysis = json.loads(shown(run / "redacted.json"))
    assert re.fullmatch(
        r"torchrun --nproc-per-node=2( arg-[0-9a-f]{8}){7}", analysis["run"]["command"]
    )
    assert analysis["run"]["sources"][0] == "attempt0/rank00000.0.100/trace-0003-0011.json.gz"
    (host,) = analysis["run"]["hosts"]
    assert re.fullmatch(r"host-[0-9a-f]{8}", host)
    assert host in shown(run / "redacted.html")


@pytest.mark.parametrize("format", ["perfetto", "csv", "parquet"])
def test_exports_hold_no_original_and_the_same_aliases(
    perfkit: Call, run: Path, tmp_path: Path, format: str
) -> None:
    out = tmp_path / ("all.json.gz" if format == "perfetto" else "tables")
    assert perfkit("export", run, "--format", format, "--redact", "--out", out).status == 0
    files = [out] if out.is_file() else [p for p in out.rglob("*") if p.is_file()]
    text = "".join(map(shown, files))
    assert survivors(text) == []
    assert "aten::mm" in text
    perfkit("report", run, "--redact", "--light")
    analysis = json.loads(shown(run / "redacted.json"))
    assert f"on {analysis['run']['hosts'][0]} by user-" in text


def test_aliases_are_those_of_the_run(run: Path, tmp_path: Path) -> None:
    facts = [{"pid": 7, "clock": {"mono_ns": 5}, "hostname": "gpu01"}]
    others = [{"pid": 8, "clock": {"mono_ns": 5}, "hostname": "gpu01"}]
    first, again, other = (
        Redaction(originals(one), hidden=True).host("gpu01") for one in (facts, facts, others)
    )
    assert first == again != other


def test_numbers_classes_and_operators_stay(run: Path) -> None:
    facts: list[dict[str, object]] = [{"argv": ["train.py", "--mode", "compute", "--lr", "3"]}]
    redaction = Redaction(originals(facts), hidden=True)
    for text in ("compute", "aten::mm", "3", "a / b", "12 samples/second", "ProfilerStep#3"):
        assert redaction.text(text) == text
    assert "compute" not in redaction.message("unknown mode compute")


def test_without_redaction_nothing_changes() -> None:
    redaction = Redaction(originals([{"hostname": "gpu01"}]), hidden=False)
    assert redaction.text("gpu01 /home/x") == redaction.message("gpu01 /home/x") == "gpu01 /home/x"
    assert redaction.command("python x.py") == "python x.py"
