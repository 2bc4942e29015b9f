r"""
Add up the closing lines of several pytest runs, in pytest's own form.

>>> one, two = "== 3 passed, 1 skipped in 1.5s ==", "== 1 failed, 2 passed in 0.5s =="
>>> closing_line("\n".join([one, "other words", two]))
'===== 1 failed, 5 passed, 1 skipped in 2.00s (2 pytest runs) ====='
"""

import re
import sys
from collections import Counter
from pathlib import Path

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_CLOSING = re.compile(
    r"^=+ (?P<counts>.*\d+ \w+.*) in (?P<seconds>[\d.]+)s.* =+$", re.MULTILINE
)
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|deselected|x\w+|warnings?)")
_ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "error")


def closing_line(log: str) -> str:
    """Sum up every closing line of pytest in a log."""
    counts: Counter[str] = Counter()
    seconds = runs = 0.0
    for line in _CLOSING.finditer(_COLOUR.sub("", log)):
        runs += 1
        seconds += float(line["seconds"])
        for number, word in _COUNT.findall(line["counts"]):
            counts[word.removesuffix("s")] += int(number)
    words = [f"{counts[word]} {word}" for word in _ORDER if counts[word]]
    summary = ", ".join(words) or "no tests ran"
    return f"===== {summary} in {seconds:.2f}s ({runs:.0f} pytest runs) ====="


if __name__ == "__main__":
    print(closing_line(Path(sys.argv[1]).read_text(encoding="utf-8")))
