"""Child process: measure this machine's device, memory, host links and storage; print JSON.

Run as `python -m perfkit.profiler.measure.machine [--quick] [--folder DIR]`. Progress goes to
stderr, one line a quantity; stdout carries ceilings.json without `network` as one JSON object.
"""

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from perfkit.profiler.measure import compute, memory, storage
from perfkit.profiler.measure.timing import CudaDevice, Device, Effort, HostDevice

MOVED = 0.05
SUSTAINED = 0.5
IDLE_LOAD = 0.2  # of one core, over the second before measuring


def measure(*, quick: bool, folder: Path) -> dict[str, Any]:
    """Everything that one process can measure, as the content of ceilings.json."""
    effort, busy = Effort.of(quick=quick), busy_cores()
    device: Device = CudaDevice() if torch.cuda.is_available() else HostDevice()
    facts = _machine(device.torch_device)
    cache = facts["last_level_cache_bytes"] or 64 << 20
    entries: list[dict[str, Any]] = []
    failed: list[str] = []
    groups: dict[str, Iterator[dict[str, Any]]] = {
        "matrix products": compute.gemm(device, effort),
        "vector arithmetic": compute.vector(device, effort),
        "launches": compute.launch(device, effort),
        "memory": memory.streams(device, effort, quick=quick),
        "host links": memory.host_links(device, effort),
        "storage": storage.reads(folder, quick=quick),
    }
    for name, group in groups.items():
        try:
            for entry in group:
                entries.append(entry)
                _progress(entry)
        except RuntimeError as error:  # torch's: the other measurements are worth having
            failed.append(f"{name} could not be measured: {_first_line(error)}")
    sweep_effort = Effort(repeats=effort.repeats, budget_s=effort.budget_s / 4, sustained_s=0)
    return {
        "machine": facts,
        "measured_utc": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "ceilings": entries,
        "copy_by_working_set": memory.copy_by_working_set(device, sweep_effort, 4 * cache),
        "warnings": busy + failed + _moved_clocks(entries) + fallen(entries),
    }


def _first_line(error: RuntimeError) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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


def _moved_clocks(entries: list[dict[str, Any]]) -> list[str]:
    warnings = []
    for entry in entries:
        clocks = entry.get("clocks") or {}
        before, after = clocks.get("before_mhz"), clocks.get("after_mhz")
        if before and after is not None and abs(after / before - 1) > MOVED:
            name = " ".join(filter(None, (entry["quantity"], entry.get("precision", ""))))
            warnings.append(
                f"the clock moved from {before:.0f} to {after:.0f} MHz while measuring {name}"
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
    options = parser.parse_args()
    if not options.folder.is_dir():
        parser.error(f"{options.folder} is no folder")
    json.dump(measure(quick=options.quick, folder=options.folder), sys.stdout)


if __name__ == "__main__":
    main()
