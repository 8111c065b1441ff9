"""Child processes that measure what this machine can do; each prints one JSON object."""
