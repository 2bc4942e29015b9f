"""
Measure how long the command line takes to answer.

Runs the programs in turns, so that whatever else the machine does hits all of
them alike, and prints medians and their ratios. On a busy machine look at the
processor time, which counts what the program itself did::

    python benchmarks/startup.py [rounds]

``gaia models`` is measured with every plugin that is installed, and with one at a
time: what each adds is the price of its import.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

PYTHON = sys.executable
TARGET_MS = 150
"""What ``gaia models`` may take on a quiet machine, with every room installed."""
MODELS = [PYTHON, "-m", "gaia_core.cli", "models"]
PROGRAMS = {
    "python -c pass": [PYTHON, "-c", "pass"],
    "import gaia_core": [PYTHON, "-c", "import gaia_core"],
    "import Gaia": [PYTHON, "-c", "from gaia_core import Gaia"],
    "gaia --help": [PYTHON, "-m", "gaia_core.cli", "--help"],
    "gaia models": MODELS,
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


class Program(NamedTuple):
    """What is run, and what it finds in its environment."""

    command: list[str]
    extra: Mapping[str, str] = {}


class Run(NamedTuple):
    """How long one run took, in seconds: on the wall, and of the processor."""

    wall: float
    cpu: float


def main(rounds: int = 15) -> None:
    """Print medians, ratios, and what was loaded."""
    rooms = sorted({point.name for point in metadata.entry_points(group="gaia")})
    with tempfile.TemporaryDirectory() as home:
        environment = _environment(home)
        runs = _measure(_programs(rooms), environment, rounds)
        loaded = _loaded(environment)
    base = statistics.median(run.cpu for run in runs["python -c pass"])
    print(f"{'program':<26}{'wall ms':>10}{'fastest':>10}{'cpu ms':>10}{'ratio':>8}")
    for label, done in runs.items():
        cpu = statistics.median(run.cpu for run in done)
        wall = statistics.median(run.wall for run in done)
        fastest = min(run.wall for run in done)
        print(
            f"{label:<26}{wall * 1_000:>10.1f}{fastest * 1_000:>10.1f}"
            f"{cpu * 1_000:>10.1f}{cpu / base:>8.2f}"
        )
    print(f"\nplugins: {', '.join(rooms) or 'none'}; the target is {TARGET_MS} ms")
    print(f"`gaia models` loads of {', '.join(UNWANTED)}: {loaded or 'nothing'}")


def _programs(rooms: list[str]) -> dict[str, Program]:
    """Put together what is run: the fixed ones, each plugin, other command lines."""
    programs = {label: Program(command) for label, command in PROGRAMS.items()}
    for room in ("nothing", *rooms):
        extra = {"GAIA_PLUGINS__ALLOW": room}
        programs[f"gaia models, {room}"] = Program(MODELS, extra)
    for label, name in OTHERS.items():
        path = shutil.which(name, path=str(Path(PYTHON).parent))
        if path is not None:
            programs[label] = Program([path, "--help"])
    return programs


def _measure(
    programs: dict[str, Program], environment: dict[str, str], rounds: int
) -> dict[str, list[Run]]:
    """Run all programs in turns; the first round only warms the disk cache."""
    runs: dict[str, list[Run]] = {label: [] for label in programs}
    for number in range(rounds + 1):
        for label, program in programs.items():
            run = _timed(program.command, {**environment, **program.extra})
            if number:
                runs[label].append(run)
    return runs


def _timed(command: list[str], environment: dict[str, str]) -> Run:
    start, before = time.perf_counter(), _cpu_of_children()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return Run(time.perf_counter() - start, _cpu_of_children() - before)


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


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
    kept = {
        name: value
        for name, value in os.environ.items()
        # Without its compiled modules Python compiles them on every run.
        if not name.startswith("GAIA_") and name != "PYTHONDONTWRITEBYTECODE"
    }
    return {**kept, **dict.fromkeys(folders, home)}


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
