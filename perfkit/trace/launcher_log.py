"""When torchrun noticed that a rank had died, from what it printed."""

import re
import time
from datetime import datetime

_NOTICE = re.compile(
    r"^[EWI](?P<month>\d\d)(?P<day>\d\d) (?P<time>\d\d:\d\d:\d\d)\.(?P<micro>\d{1,6})"
    r".*failed \(exitcode: -9\)",
    re.MULTILINE,
)


def notice_ns(log: str, after_ns: int) -> int | None:
    """Return the Unix time of the first line about a killed rank; None where there is none.

    The lines hold local time without a year: that of `after_ns` is taken, the time of the kill.
    """
    found = _NOTICE.search(log)
    if found is None:
        return None
    year = time.localtime(after_ns / 1e9).tm_year
    text = f"{year}-{found['month']}-{found['day']} {found['time']}.{found['micro']:0<6}"
    try:
        moment = datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").astimezone()
    except ValueError:
        return None
    return int(moment.timestamp() * 1e9)
