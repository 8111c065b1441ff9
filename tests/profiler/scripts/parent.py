"""What `perfkit profile` does around profile(): ends by the command's status or signal."""

import json
import sys
from pathlib import Path

from perfkit.cli.exits import end_by_signal
from perfkit.errors import PerfkitError
from perfkit.profiler.launch import ProfileOptions, profile


def main() -> None:
    options, command = json.loads(sys.argv[1]), sys.argv[2:]
    options["out"] = Path(options["out"])
    options["windows"] = tuple(tuple(window) for window in options.get("windows", [(10, 19)]))
    try:
        outcome = profile(command, ProfileOptions(**options))
    except PerfkitError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_status)
    if outcome.signal is not None:
        end_by_signal(outcome.signal)
    sys.exit(outcome.status)


if __name__ == "__main__":
    main()
