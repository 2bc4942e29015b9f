"""
Measure how long the command line takes to answer.

Runs the programs in turns, so that whatever else the machine does hits all of
them alike, and prints medians and their ratios::

    python benchmarks/startup.py [rounds]
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PYTHON = sys.executable
PROGRAMS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import gaia_core": [PYTHON, "-c", "import gaia_core"],
    "gaia --help": [PYTHON, "-m", "gaia_core.cli", "--help"],
    "gaia models": [PYTHON, "-m", "gaia_core.cli", "models"],
    "gaia providers": [PYTHON, "-m", "gaia_core.cli", "providers"],
}
OTHERS = {"llm --help": "llm", "sd --help": "sd"}
"""Other command lines, measured where they are installed."""

UNWANTED = (
    "PIL",
    "aiohttp",
    "google.genai",
    "numpy",
    "onnxruntime",
    "openai",
    "pydantic",
    "rich",
    "runware",
    "sqlalchemy",
    "structlog",
    "torch",
)
"""What ``gaia models`` should not load."""

LIST_LOADED = f"""
import sys
from gaia_core.cli import main
try:
    main(["models", "--json"], standalone_mode=False)
finally:
    loaded = [name for name in {UNWANTED!r} if name in sys.modules]
    print("loaded:", *loaded, file=sys.stderr)
"""


def main(rounds: int = 15) -> None:
    """Print medians, ratios, and what was loaded."""
    programs = PROGRAMS | {
        label: [path, "--help"]
        for label, name in OTHERS.items()
        if (path := shutil.which(name, path=str(Path(PYTHON).parent)))
    }
    with tempfile.TemporaryDirectory() as home:
        environment = _environment(home)
        times = _measure(programs, environment, rounds)
        loaded = _loaded(environment)
    base = statistics.median(times["python -c pass"])
    print(f"{'program':<20}{'median ms':>12}{'fastest ms':>12}{'ratio':>8}")
    for label, seconds in times.items():
        median = statistics.median(seconds)
        print(
            f"{label:<20}{median * 1_000:>12.1f}{min(seconds) * 1_000:>12.1f}"
            f"{median / base:>8.2f}"
        )
    print(f"\n`gaia models` loads of {', '.join(UNWANTED)}: {loaded or 'nothing'}")


def _measure(
    programs: dict[str, list[str]], environment: dict[str, str], rounds: int
) -> dict[str, list[float]]:
    """Run all programs in turns; the first round only warms the disk cache."""
    times: dict[str, list[float]] = {label: [] for label in programs}
    for number in range(rounds + 1):
        for label, command in programs.items():
            start = time.perf_counter()
            subprocess.run(command, env=environment, check=True, capture_output=True)
            if number:
                times[label].append(time.perf_counter() - start)
    return times


def _loaded(environment: dict[str, str]) -> str:
    """Name the unwanted packages that ``gaia models`` loads."""
    done = subprocess.run(
        [PYTHON, "-c", LIST_LOADED],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    last = done.stderr.strip().splitlines()[-1]
    return last.removeprefix("loaded:").strip()


def _environment(home: str) -> dict[str, str]:
    """Keep the settings and pictures of whoever measures out of it."""
    folders = ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "LLM_USER_PATH")
    return {**os.environ, **dict.fromkeys(folders, home)}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
