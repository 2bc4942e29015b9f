"""
What is run before a change is accepted: ``nox``.

``nox -l`` lists the sessions, ``nox -s tests -- -k selection`` narrows one down,
``nox -R`` uses the environments of the last run again. Everything runs on the
Python that runs nox; ``nox -s matrix`` asks the other supported ones too.
"""

import pathlib
from typing import Any

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_external_run = True
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["lint", "typing", "docs", "plugin", "server", "tests"]

PYPROJECT = nox.project.load_toml("pyproject.toml")
ROOMS = sorted(
    path.parent.name for path in pathlib.Path("plugins").glob("*/pyproject.toml")
)
CODE = ["gaia_core", "tests", "benchmarks", "conftest.py", "noxfile.py"]

BENCHED = ["gaia-offline", "gaia-flux"]
REMOTE = ["./plugins/gaia-gemini", "./plugins/gaia-parasail", "./plugins/gaia-runware"]

# Their dependencies are gigabytes, and the type checker does not look into them.
WITHOUT_DEPENDENCIES = {"gaia-flux"}

# What goes in first, on its own: this version is a build for CPUs on the registry we
# use, and any other, which a resolver may prefer, brings gigabytes for GPUs along.
FIRST = {"gaia-flux": ["torch==2.13.0"]}

# They need what only the extra `server` installs: a session of their own has it.
OF_SERVER = ("tests/server", "tests/cli/test_serve.py", "gaia_core/server")

# Most tests wait for sockets, disks and other processes.
PARALLEL = ("-n", "4", "--dist", "loadfile")

ENVIRONMENT = {
    # One thread per inference: two sessions side by side then share two cores.
    "OMP_NUM_THREADS": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    # Most of what is installed is never imported, so it need not be compiled.
    "PIP_NO_COMPILE": "1",
    # Whatever a developer has set must not decide a test.
    "GAIA_CONFIG": None,
    "IMAGE_STORAGE_PATH": None,
}


def _room(name: str) -> dict[str, Any]:
    """Read the ``pyproject.toml`` of a plugin."""
    return nox.project.load_toml(f"plugins/{name}/pyproject.toml")


def _install_first(session: nox.Session, *rooms: str) -> None:
    """Install what would come in another build beside everything else."""
    for package in (one for room in rooms for one in FIRST.get(room, ())):
        session.install(package, env=ENVIRONMENT)


def _groups(name: str) -> list[str]:
    """Name the dependency groups a plugin's tests need."""
    groups = ["--group", "tests"]
    if "tests" in _room(name).get("dependency-groups", {}):
        groups += ["--group", f"plugins/{name}/pyproject.toml:tests"]
    return groups


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and layout of all code."""
    session.install("--group", "lint", env=ENVIRONMENT)
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Check the types of the core, the plugins and this file."""
    rooms = [f"./plugins/{name}" for name in ROOMS if name not in WITHOUT_DEPENDENCIES]
    session.install(".[server]", *rooms, "--group", "typing", env=ENVIRONMENT)
    for name in sorted(WITHOUT_DEPENDENCIES):
        session.install("--no-deps", f"./plugins/{name}", env=ENVIRONMENT)
    # Two files may be called conftest.py: their folders tell them apart.
    session.run("mypy", "--explicit-package-bases", *CODE)
    for name in ROOMS:
        session.run("mypy", f"plugins/{name}/src")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the core's own tests and doctests, and report coverage."""
    try:
        _test_core(session)
    finally:
        session.run("coverage", "combine")
        session.run("coverage", "report", "--omit=*/gaia_core/server/*")


@nox.session
def server(session: nox.Session) -> None:
    """Run the tests of the server, its front doors and its page in a browser."""
    session.install(
        *(".[server]", "./plugins/gaia-offline", "./plugins/gaia-runware"),
        *("--group", "tests", "--group", "server"),
        env=ENVIRONMENT,
    )
    session.run(
        *("pytest", *OF_SERVER),
        *PARALLEL,
        *session.posargs,
        env=ENVIRONMENT,
    )


@nox.session(
    default=False, python=nox.project.python_versions(PYPROJECT), tags=["matrix"]
)
def matrix(session: nox.Session) -> None:
    """Run the core's tests on every supported Python that is installed."""
    _test_core(session)


def _test_core(session: nox.Session) -> None:
    session.install(".", "./plugins/gaia-example", "--group", "tests", env=ENVIRONMENT)
    # pytest loads gaia_core.testing before a coverage plugin could start, so
    # coverage starts pytest, not the other way round.
    session.run(
        *("coverage", "run", "-m", "pytest", "tests", "gaia_core"),
        *(f"--ignore={path}" for path in OF_SERVER),
        *PARALLEL,
        *session.posargs,
        env=ENVIRONMENT,
    )


@nox.session(tags=["rooms"])
@nox.parametrize("room", ROOMS, ids=ROOMS)
def plugin(session: nox.Session, room: str) -> None:
    """Run one plugin's tests with only the core beside it."""
    _install_first(session, room)
    session.install(".", f"./plugins/{room}", *_groups(room), env=ENVIRONMENT)
    # `--pyargs` finds the doctests in the installed files: a file left out of
    # the wheel fails here.
    package = room.replace("-", "_")
    session.run(
        *("pytest", f"plugins/{room}/tests", f"plugins/{room}/README.md"),
        *("--pyargs", package),
        *PARALLEL,
        *session.posargs,
        env=ENVIRONMENT,
    )


@nox.session
def docs(session: nox.Session) -> None:
    """Run every example of the documentation."""
    session.install(
        *(".[server]", "./plugins/gaia-example", *REMOTE, "--group", "docs"),
        env=ENVIRONMENT,
    )
    session.run(
        *("pytest", "docs", "README.md", ".ci/closing_line.py"),
        *session.posargs,
        env=ENVIRONMENT,
    )


@nox.session(default=False)
def chaos(session: nox.Session) -> None:
    """Spoil a thousand requests, kill a batch of as many: nothing is paid twice."""
    session.install(".", "--group", "tests", env=ENVIRONMENT)
    session.run(
        *("pytest", "tests/chaos", "tests/scenarios", "-m", "chaos"),
        *session.posargs,
        env=ENVIRONMENT,
    )


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure start-up, calls, providers, server, ledger, batches, local models."""
    rooms = [room for room in BENCHED if room in ROOMS]
    _install_first(session, *rooms)
    session.install(
        *(".[server]", *(f"./plugins/{room}" for room in rooms), *REMOTE),
        *("--group", "bench"),
        env=ENVIRONMENT,
    )
    environment = {**ENVIRONMENT, "GAIA_BENCH_LITELLM": _litellm(session)}
    for path in sorted(pathlib.Path("benchmarks").glob("*.py")):
        session.run("python", path, env=environment)


def _litellm(session: nox.Session) -> str:
    """Install LiteLLM on its own: it wants another release of the openai SDK."""
    python = pathlib.Path(session.create_tmp()).resolve() / "litellm" / "bin" / "python"
    if not python.exists():
        session.run("python", "-m", "venv", str(python.parent.parent))
        session.run(
            *(str(python), "-m", "pip", "install", "-q", "litellm[proxy]"),
            external=True,
            env=ENVIRONMENT,
        )
    return str(python)
