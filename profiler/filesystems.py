"""Which file systems lie on a network: there, a line a step from every rank is a burden."""

from __future__ import annotations

import re
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs"),
        *("9p", "afs", "orangefs", "pvfs2", "panfs", "wekafs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.s3fs", "fuse.gcsfuse"),
        *("fuse.goofys", "fuse.juicefs", "fuse.quobyte"),
    }
)
_OCTAL = re.compile(r"\\([0-7]{3})")


def kind_of(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the file system that a path lies on, as the kernel names it; "" if unknown."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = path.resolve()
    found, depth = "", -1
    for line in lines:
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = Path(_OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[1]))
        # Of two mounts on one place the later hides the earlier.
        if place.is_relative_to(mount) and len(mount.parts) >= depth:
            found, depth = fields[2], len(mount.parts)
    return found


def is_network(path: Path, mounts: Path = MOUNTS) -> bool:
    """Whether a path lies on a file system that other machines serve."""
    return kind_of(path, mounts) in NETWORK
