"""Exports an Nsight report (.nsys-rep) with the nsys that is on PATH; only nsys can read one."""

import shutil
import subprocess
import tempfile
from pathlib import Path

from perfkit.errors import InputError
from perfkit.trace.cache import key_of

REPORT_SUFFIXES = (".nsys-rep", ".qdrep")
TIMEOUT_SECONDS = 1800


def exported(report: Path, cache: Path) -> Path:
    """Return the SQLite export of a report: the one beside it, else a new one in `cache`.

    Raises InputError if there is none and it cannot be made.
    """
    beside = report.with_suffix(".sqlite")
    if beside.is_file():
        return beside
    key = key_of(report)
    if not key:
        raise InputError(f"{report}: cannot be read", hint="check that you may read it")
    target = cache / "nsys" / f"{key}.sqlite"
    if target.is_file():
        return target
    nsys = shutil.which("nsys")
    if nsys is None:
        raise InputError(
            f"{report}: an Nsight report, which only nsys can read, and nsys is not on PATH",
            hint=f"where Nsight Systems is installed: nsys export --type sqlite {report.name}",
        )
    export(nsys, report, target)
    return target


def unexported(report: Path) -> list[InputError]:
    """Return why a report found in a folder is left out; [] if its export lies beside it."""
    if report.with_suffix(".sqlite").is_file():
        return []
    return [InputError(f"{report}: an Nsight report without its export", hint="give it by name")]


def export(nsys: str, report: Path, target: Path) -> None:
    """Have the nsys at path `nsys` write the SQLite export of a report. Raises InputError."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            draft = Path(folder) / "export.sqlite"
            # Payloads hold the sizes of NCCL's calls; releases before 2023 cannot export them.
            done = _run(nsys, report, draft, "--include-blobs=true")
            if done.returncode != 0:
                draft.unlink(missing_ok=True)
                done = _run(nsys, report, draft)
            if done.returncode != 0 or not draft.is_file():
                raise _failed(report, _last_line(done.stderr or done.stdout))
            draft.rename(target)
    except OSError as error:
        raise _failed(report, error.strerror or str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise _failed(report, f"it took more than {TIMEOUT_SECONDS} s") from error


def _run(nsys: str, report: Path, draft: Path, *options: str) -> subprocess.CompletedProcess[bytes]:
    command = [nsys, "export", "--type", "sqlite", *options, "--output", str(draft)]
    return subprocess.run(
        [*command, str(report.absolute())],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )


def _failed(report: Path, reason: str) -> InputError:
    return InputError(
        f"{report}: nsys export failed: {reason or 'it said nothing'}",
        hint="export it yourself and give the .sqlite file",
    )


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "".join(c for c in lines[-1][:200] if c.isprintable()) if lines else ""
