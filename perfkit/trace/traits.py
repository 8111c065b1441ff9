"""What the events of a file show of their rank: its kind of device, and what had a recorder."""

import numpy as np

from perfkit.trace import event_table
from perfkit.trace.kinds import FIRST_DEVICE_KIND, LAST_WORK_KIND, Kind
from perfkit.trace.model import NONE, DeviceFacts, Events


def device_kind(events: Events, devices: tuple[DeviceFacts, ...], *, amd: bool = False) -> str:
    """Return "cpu", "cuda", "rocm" or "other"; `amd`: the file says that its runtime is AMD's."""
    kinds = events.kind
    calls = np.isin(kinds, event_table.RUNTIME_KINDS)
    if not calls.any() and not (kinds >= FIRST_DEVICE_KIND).any():
        return "cpu"
    used = {events.names[i] for i in np.unique(events.name[calls]).tolist()}
    if amd or any(name.startswith("hip") for name in used):
        return "rocm"
    nvidia = any(device.compute_capability for device in devices)
    return "cuda" if nvidia or any(name.startswith("cu") for name in used) else "other"


def main_device(events: Events) -> int:
    """Return the device with most work, NONE on CPU."""
    work = (events.kind >= FIRST_DEVICE_KIND) & (events.kind <= LAST_WORK_KIND)
    if not work.any():
        return NONE
    devices, counts = np.unique(events.device[work], return_counts=True)
    return int(devices[np.argmax(counts)])


def recorders(events: Events) -> frozenset[str]:
    """Return which host classes this file could have shown (see RankTrace.recorders)."""
    kinds = frozenset(np.unique(events.kind).tolist())
    found = set()
    if Kind.INPUT_WAIT in kinds:
        found.add("input_wait")
    if Kind.CHECKPOINT in kinds:
        found.add("checkpoint")
    if kinds & frozenset(event_table.RUNTIME_KINDS):
        found |= {"sync", "alloc"}
    return frozenset(found)
