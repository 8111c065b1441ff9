"""Files and folders that may not be read: one line, whoever runs it.

Root may read everything, so the child gives up the capabilities that let it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.trace.files import document, op, write
from tests.trace.folders import add_node, add_rank, add_trace

PLAIN_USER = (
    "setpriv",
    "--bounding-set=-dac_override,-dac_read_search",
    "--inh-caps=-dac_override,-dac_read_search",
)


@pytest.fixture(params=["file", "folder", "below", "run"])
def locked(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path to analyse of which a part may not be read."""
    if request.param == "run":
        given = tmp_path / "run"
        add_node(given)
        add_trace(add_rank(given, 0), 2, 4)
        shut = next(given.rglob("facts.json")).parent
    elif request.param == "file":
        shut = given = write(tmp_path / "t.json", document([op("aten::mm", 1.0, 2.0, 1)]))
    else:
        shut = tmp_path / "outer" / "inner"
        shut.mkdir(parents=True)
        given = shut if request.param == "folder" else shut.parent
    shut.chmod(0)
    request.addfinalizer(lambda: shut.chmod(0o700))
    return given


@pytest.mark.needs_root
def test_one_line_and_status_3(locked: Path, tmp_path: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv")
    command = [*PLAIN_USER, sys.executable, "-m", "perfkit", "analyze", str(locked)]
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 3, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Permission denied" in done.stderr
