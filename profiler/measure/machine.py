"""Child process: measure this machine's device, memory, host links and storage; print JSON.

Run as `python -m perfkit.profiler.measure.machine [--quick] [--folder DIR] [--threads N]
[--processor-only]`. Progress goes to stderr, one line a quantity; stdout carries ceilings.json
without `network` as one JSON object, with --processor-only without storage.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from perfkit.profiler.measure import compute, memory, storage
from perfkit.profiler.measure.timing import CudaDevice, Device, Effort, HostDevice

MOVED = 0.05
SUSTAINED = 0.5
IDLE_LOAD = 0.2  # of one core, over the second before measuring


def measure(*, quick: bool, folder: Path | None) -> dict[str, Any]:
    """Everything that one process can measure, as the content of ceilings.json.

    folder: where a scratch file for storage goes; None leaves storage out.
    """
    effort, busy = Effort.of(quick=quick), busy_cores()
    device: Device = CudaDevice() if torch.cuda.is_available() else HostDevice()
    busy += device.busy()
    facts = _machine(device.torch_device)
    cache = facts["last_level_cache_bytes"] or 64 << 20
    failed: list[str] = []
    groups: dict[str, Iterator[dict[str, Any]]] = {
        "matrix products": compute.gemm(device, effort, failed),
        "vector arithmetic": compute.vector(device, effort),
        "launches": compute.launch(device, effort),
        "memory": memory.streams(device, effort, quick=quick),
        "host links": memory.host_links(device, effort),
    }
    if folder is not None:
        groups["storage"] = storage.reads(folder, quick=quick)
    entries: list[dict[str, Any]] = []
    for name, group in groups.items():
        entries += _taken(name, group, failed, _progress)
    less = Effort(repeats=effort.repeats, budget_s=effort.budget_s / 4, sustained_s=0)
    cached = memory.copy_by_working_set(device, less, 4 * cache)
    return {
        "machine": facts,
        "measured_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "ceilings": entries,
        "copy_by_working_set": _taken("copies by working set", cached, failed),
        "warnings": busy + failed + moved_clocks(entries) + fallen(entries),
    }


def _taken(
    name: str,
    group: Iterator[dict[str, Any]],
    failed: list[str],
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> list[dict[str, Any]]:
    """Return what a group measured until its end or torch's refusal, which becomes a warning."""
    found = []
    try:
        for entry in group:
            found.append(entry)
            tell(entry)
    except RuntimeError as error:  # torch's: the other measurements are worth having
        failed.append(f"{name} could not be measured: {compute.first_line(error)}")
    return found


def _machine(device: torch.device) -> dict[str, Any]:
    host = _cpu_model()
    common = {"host": host, "torch": torch.__version__, "threads": torch.get_num_threads()}
    if device.type == "cpu":
        size = _page_count("SC_PHYS_PAGES")
        cache = _host_cache_bytes()
        kind, name = "cpu", host
    else:
        properties = torch.cuda.get_device_properties(device)
        size, name = properties.total_memory, properties.name
        cache = getattr(properties, "L2_cache_size", 0) or None
        kind = "rocm" if torch.version.hip else "cuda"
    return {
        **common,
        "device_kind": kind,
        "device_name": name,
        "memory_bytes": size,
        "last_level_cache_bytes": cache,
    }


def _page_count(name: str) -> int:
    return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE")


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    names = (line.split(":", 1)[1].strip() for line in text.splitlines() if "model name" in line)
    return next(names, platform.machine())


def _host_cache_bytes() -> int | None:
    """Size of the highest-level cache of the first core, from sysfs."""
    sizes: dict[int, int] = {}
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        level = int((index / "level").read_text(encoding="utf-8"))
        size = (index / "size").read_text(encoding="utf-8").strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
        sizes[level] = int(size.rstrip("KM")) * unit
    return sizes[max(sizes)] if sizes else None


def busy_cores(seconds: float = 1.0) -> list[str]:
    """A warning if other programs run while this process sleeps: ceilings come out too low."""
    before = _processor_ticks()
    time.sleep(seconds)
    working, total = (now - then for now, then in zip(_processor_ticks(), before, strict=True))
    cores = working / max(total, 1) * (os.cpu_count() or 1)
    if cores < IDLE_LOAD:
        return []
    return [f"the machine was not idle: other programs kept {cores:.1f} cores busy just before"]


def _processor_ticks() -> tuple[int, int]:
    """Ticks of all cores so far, working (stolen ones too) and in all (proc(5), /proc/stat)."""
    stat = Path("/proc/stat")
    if not stat.exists():  # not Linux: nothing is known of other programs
        return 0, 0
    line = stat.read_text(encoding="ascii").splitlines()[0]
    ticks = [int(word) for word in line.split()[1:9]]  # user nice system idle iowait irq soft steal
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def moved_clocks(entries: list[dict[str, Any]]) -> list[str]:
    """Return a warning for each clock that moved by more than 5 % while it was measured."""
    warnings = []
    for entry in entries:
        clocks = entry.get("clocks") or {}
        name = " ".join(filter(None, (entry["quantity"], entry.get("precision", ""))))
        before = clocks.get("before_mhz")
        for key, when in (("after_mhz", ""), ("sustained_mhz", " under sustained load")):
            after = clocks.get(key)
            if before and after is not None and abs(after / before - 1) > MOVED:
                warnings.append(
                    f"the clock moved from {before:.0f} to {after:.0f} MHz while measuring "
                    f"{name}{when}"
                )
    return warnings


def fallen(entries: list[dict[str, Any]]) -> list[str]:
    """Return a warning for each rate that did not last: less than half of the best median."""
    return [
        f"{entry['quantity']} {entry.get('precision', '')}: "
        f"{entry['sustained'] / entry['value']:.0%} of the best median under sustained load: "
        "other programs ran, or the machine slowed down"
        for entry in entries
        if entry.get("sustained") and entry["sustained"] < SUSTAINED * entry["value"]
    ]


def _progress(entry: dict[str, Any]) -> None:
    name = " ".join(filter(None, (entry["quantity"], entry.get("precision", ""))))
    print(json.dumps({"quantity": name, "value": entry["value"]}), file=sys.stderr, flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--threads", type=int)
    parser.add_argument("--processor-only", action="store_true")
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    if options.threads is not None:
        if torch.cuda.is_available():
            parser.error("--threads is for a CPU, and this machine computes on a GPU")
        torch.set_num_threads(options.threads)
    folder = None if options.processor_only else options.folder
    json.dump(measure(quick=options.quick, folder=folder), sys.stdout)


if __name__ == "__main__":
    main()
