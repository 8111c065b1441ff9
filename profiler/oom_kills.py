"""Whether the kernel killed processes for lack of memory: they die of SIGKILL and cannot say so."""

from __future__ import annotations

from pathlib import Path

VMSTAT = Path("/proc/vmstat")


def count(vmstat: Path = VMSTAT) -> int | None:
    """Processes that the kernel has killed for memory since this machine's start; None: unknown."""
    try:
        fields = dict(line.split(" ", 1) for line in vmstat.read_text().splitlines())
        return int(fields["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def since(before: int | None, vmstat: Path = VMSTAT) -> tuple[str, ...]:
    """Say what was killed since `before` was counted; () for nothing."""
    now = count(vmstat)
    if before is None or now is None or now <= before:
        return ()
    killed = "a process" if now - before == 1 else f"{now - before} processes"
    return (
        f"the kernel killed {killed} of this machine for lack of memory while the command ran:"
        " a rank without a last record may have been one (see dmesg)",
    )
