"""What every test may use: the shared captures, skips with a reason, a count of skips."""

import collections
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from fastjsonschema import compile as jsonschema_of

from perfkit.analyzers import analysis
from perfkit.analyzers.result import Analysis
from perfkit.analyzers.result_schema import json_schema

ROOT = Path(__file__).parent.parent
SHARED_TRACES = ROOT.parent / "shared" / "traces"
os.environ.pop("COLUMNS", None)  # workers of pytest-xdist have 80: output would be folded
hypothesis.settings.register_profile("load", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("load")
for _number in (signal.SIGINT, signal.SIGHUP):  # ignored in the background, and so in all children
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def shared_traces() -> Path:
    """The folder of real captures beside the repository; skips where it is absent."""
    if not SHARED_TRACES.is_dir():
        pytest.skip("needs the shared captures in ../shared/traces")
    return SHARED_TRACES


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium or Chrome binary; skips where there is none."""
    binary = _chromium()
    if binary is None:
        pytest.skip("needs Chromium")
    return binary


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


def draft_7(schema: Any) -> Any:
    """Write fixed-length arrays as the older drafts do, which fastjsonschema reads."""
    if isinstance(schema, list):
        return [draft_7(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: draft_7(part) for key, part in schema.items() if key != "$schema"}
    if "prefixItems" in found:
        found |= {"items": found.pop("prefixItems"), "additionalItems": False}
    return found


@pytest.fixture(scope="session", autouse=True)
def _every_analysis_fits_the_schema() -> Iterator[None]:
    """Hold every analysis that any test makes against what `perfkit schema` prints."""
    fits = jsonschema_of(draft_7(json_schema()))
    reduced = analysis._reduced

    def checked(*arguments: Any) -> Analysis:
        found = reduced(*arguments)
        fits(json.loads(analysis.encode(found)))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(analysis, "_reduced", checked)
        yield


SHAPE = "tc qdisc add dev lo root tbf rate 200mbit burst 256kb latency 50ms"


def _cannot_shape_traffic() -> str:
    """Return why network namespaces cannot be made here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root"
    if not (shutil.which("ip") and shutil.which("tc")):
        return "needs ip and tc (Debian: iproute2)"
    name = f"pk-probe-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False)
    if made.returncode != 0:
        return "needs the right to make network namespaces"
    try:
        shaped = subprocess.run(
            ["ip", "netns", "exec", name, *SHAPE.split()],
            capture_output=True,
            check=False,
        )
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return "" if shaped.returncode == 0 else "needs a kernel with tc's tbf"


def _lacks_gpu() -> str:
    if shutil.which("nvidia-smi") is None:
        return "needs a CUDA device"
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False, timeout=30)
    return "" if found.returncode == 0 and b"GPU" in found.stdout else "needs a CUDA device"


NEEDS = {
    "needs_root": lambda: "" if os.geteuid() == 0 else "needs root",
    "needs_tc": _cannot_shape_traffic,
    "needs_chromium": lambda: "" if _chromium() else "needs Chromium",
    "needs_gpu": _lacks_gpu,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run; put the real runs last, so that quick tests fail first."""
    reasons: dict[str, str] = {}
    for item in items:
        for marker, lacks in NEEDS.items():
            if item.get_closest_marker(marker) is None:
                continue
            if marker not in reasons:
                reasons[marker] = lacks()
            if reasons[marker]:
                item.add_marker(pytest.mark.skip(reason=reasons[marker]))
    items.sort(key=lambda item: item.get_closest_marker("real") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Iterator[None]:
    """Count the skipped tests by reason, before pytest's own last line."""
    yield
    counts = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if counts:
        terminalreporter.section("skipped tests by reason")
        for reason, count in counts.most_common():
            terminalreporter.write_line(f"{count:4d}  {reason}")
