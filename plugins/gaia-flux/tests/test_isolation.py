"""A worker in a process of its own outlives whatever that process does."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gaia_core.testing.contexts import capture_events
from gaia_flux.isolation import ProcessWorker
from gaia_flux.jobs import Drawn, Preview, StoppedError
from gaia_flux.processes import environment
from gaia_flux.setups import Setup
from gaia_flux.weights import WeightsError
from gaia_flux.workers import ThreadWorker, WorkerDiedError

from .squares import PROGRAM, Squares, ignore, job

PATIENCE = 30.0


def _new_worker(patience: float = PATIENCE) -> ProcessWorker:
    return ProcessWorker(setup=Setup(device="cpu"), command=PROGRAM, patience=patience)


@pytest.fixture(name="worker")
async def _worker() -> AsyncIterator[ProcessWorker]:
    """Close a worker whatever becomes of the test."""
    worker = _new_worker()
    yield worker
    await worker.close()


async def _until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():  # noqa: ASYNC110  what is waited for sets no event
            await asyncio.sleep(0.01)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or ") Z " not in state.read_text()


async def _id(worker: ProcessWorker) -> int:
    figures = await worker.figures()
    return int(figures["process"])


async def _begun(worker: ProcessWorker, prompt: str) -> "asyncio.Task[object]":
    """Start a job and wait for its first report."""
    has_begun = threading.Event()

    def report(*_: object) -> None:
        has_begun.set()

    task = asyncio.create_task(worker.draw([job(prompt)], report))
    assert await asyncio.to_thread(has_begun.wait, PATIENCE)
    return task


async def test_same_bytes_as_in_a_thread(worker: ProcessWorker) -> None:
    """What another process draws is what a thread draws, and is reported alike."""
    thread = ThreadWorker(setup=Setup(device="cpu"), studio=Squares)
    jobs = [job("a square", seeds=(1, 2)), job("another", seeds=(3,))]
    seen: dict[str, list[tuple[float, Preview | None]]] = {"here": [], "there": []}

    here = await thread.draw(jobs, lambda *told: seen["here"].append(told))
    there = await worker.draw(jobs, lambda *told: seen["there"].append(told))
    await thread.close()

    is_same = here == there
    assert is_same, "the squares differ"
    assert seen["here"] == seen["there"]
    assert seen["here"][0] == (0.25, Preview(pixels=bytes(3), width=1, height=1))


async def test_another_process_does_the_work(worker: ProcessWorker) -> None:
    """One process serves all jobs, and is gone once the worker has closed."""
    assert worker.loaded() == frozenset()
    await worker.warm_up("circles")
    assert worker.loaded() == {"circles"}
    first = await _id(worker)
    await worker.draw([job()], ignore)
    second = await _id(worker)

    await worker.close()

    assert first == second != os.getpid()
    assert not _is_alive(first)
    assert worker.loaded() == frozenset()
    assert not [one for one in threading.enumerate() if "flux" in one.name]


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        pytest.param("kill", "was ended by SIGKILL .*memory", id="SIGKILL"),
        pytest.param("kill SIGSEGV", "SIGSEGV .a crash in the driver", id="SIGSEGV"),
        pytest.param("kill SIGABRT", "SIGABRT .a crash in the driver", id="SIGABRT"),
        pytest.param("exit 3", "ended by itself with status 3", id="exit"),
        pytest.param("junk", "what cannot be understood", id="junk"),
    ],
)
async def test_death_is_one_jobs_error(
    worker: ProcessWorker, prompt: str, reason: str
) -> None:
    """The job under way fails with a sentence; the next one is drawn by another."""
    before = await _id(worker)
    dying = asyncio.create_task(worker.draw([job(prompt)], ignore))
    waiting = asyncio.create_task(worker.draw([job()], ignore))

    with pytest.raises(WorkerDiedError, match=reason):
        await dying
    (drawn,) = await waiting

    assert drawn.pictures
    assert await _id(worker) != before
    assert not _is_alive(before)


async def test_kill_from_outside_fails_the_job_under_way(
    worker: ProcessWorker, tmp_path: Path
) -> None:
    """A `kill -9` in the middle of a picture is noticed at once."""
    process = await _id(worker)
    task = await _begun(worker, f"wait {tmp_path / 'never'}")

    os.kill(process, signal.SIGKILL)

    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        await task


async def test_death_in_the_warm_up_is_the_warm_ups_error(
    worker: ProcessWorker,
) -> None:
    """What cannot be loaded takes its process along, and no picture."""
    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        await worker.warm_up("kill")
    (drawn,) = await worker.draw([job()], ignore)

    assert drawn.pictures


async def test_death_at_the_start_is_told() -> None:
    """A process that dies before it has said a word dies of a reason, too."""
    program = (sys.executable, "-S", "-c", "import os; os.kill(os.getpid(), 9)")
    worker = ProcessWorker(setup=Setup(device="cpu"), command=program)

    for _ in range(2):
        with pytest.raises(WorkerDiedError, match="SIGKILL"):
            await worker.draw([job()], ignore)
    await worker.close()


async def test_process_that_never_starts_up_is_ended_by_force(tmp_path: Path) -> None:
    """It has longer to begin than to stop later, but not for ever."""
    note = tmp_path / "process"
    words = f"import os; open({str(note)!r}, 'w').write(str(os.getpid())); "
    program = (sys.executable, "-S", "-c", words + "import time; time.sleep(120)")
    worker = ProcessWorker(
        setup=Setup(device="cpu"), command=program, patience=PATIENCE / 300
    )

    with capture_events() as events:
        task = asyncio.create_task(worker.draw([job()], ignore))
        await _until(lambda: note.exists() and note.read_text())
        task.cancel()
        await asyncio.wait({task})
        await _until(lambda: not _is_alive(int(note.read_text())))
        await worker.close()

    (died,) = [one for one in events if one["event"] == "gaia.flux_worker_died"]
    assert "did not stop within 0.4 s" in died["reason"]


async def test_death_in_between_is_nobodys_error(worker: ProcessWorker) -> None:
    """What died while it had nothing to do is replaced without a word to anybody."""
    await worker.draw([job()], ignore)
    process = await _id(worker)

    os.kill(process, signal.SIGKILL)
    await _until(lambda: not worker.loaded())
    (drawn,) = await worker.draw([job()], ignore)

    assert drawn.pictures


async def test_cancelled_job_stops_between_two_steps(
    worker: ProcessWorker, tmp_path: Path
) -> None:
    """The process lives on, and draws the next job."""
    process = await _id(worker)
    task = await _begun(worker, f"wait {tmp_path / 'never'}")

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (drawn,) = await worker.draw([job()], ignore)

    assert drawn.pictures
    assert await _id(worker) == process


async def test_cancelled_job_that_hangs_is_ended_by_force() -> None:
    """A process that does not react to a stop is killed, and another begins."""
    worker = _new_worker(patience=0.3)
    process = await _id(worker)
    task = await _begun(worker, "hang")

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    (drawn,) = await worker.draw([job()], ignore)
    after = await _id(worker)
    await worker.close()

    assert drawn.pictures
    assert after != process
    assert not _is_alive(process)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda worker: worker.figures(), id="health"),
        pytest.param(lambda worker: worker.warm_up("circles"), id="warm-up"),
        pytest.param(lambda worker: worker.draw([job()], ignore), id="picture"),
    ],
)
async def test_process_that_went_dumb_while_idle_is_replaced(
    ask: Callable[[ProcessWorker], Awaitable[object]],
) -> None:
    """Whoever finds it so gives up at some time, and the next one is drawn for."""
    worker = _new_worker(patience=0.3)
    process = await _id(worker)
    os.kill(process, signal.SIGSTOP)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await ask(worker)
    async with asyncio.timeout(PATIENCE):
        (drawn,) = await worker.draw([job()], ignore)
    await worker.close()

    assert drawn.pictures
    assert not _is_alive(process)


async def test_process_that_stands_still_is_ended_by_force() -> None:
    """Closing does not wait for ever for a process that somebody has stopped."""
    worker = _new_worker(patience=0.3)
    process = await _id(worker)
    os.kill(process, signal.SIGSTOP)

    await worker.close()

    assert not _is_alive(process)


async def test_closing_stops_the_job_under_way(
    worker: ProcessWorker, tmp_path: Path
) -> None:
    """Who waits hears that it was stopped; the process ends in order."""
    process = await _id(worker)
    task = await _begun(worker, f"wait {tmp_path / 'never'}")

    await worker.close()

    with pytest.raises(StoppedError):
        await task
    assert not _is_alive(process)


async def test_two_callers_get_what_is_theirs(worker: ProcessWorker) -> None:
    """Jobs of several callers do not get mixed up."""
    jobs = [job(f"square {number}", seeds=(number,)) for number in range(8)]

    drawn = await asyncio.gather(*(worker.draw([one], ignore) for one in jobs))

    seeds = [picture.seed for (one,) in drawn for picture in one.pictures]
    assert seeds == list(range(8))
    assert len({one.pictures[0].pixels for (one,) in drawn}) == 8


def test_one_process_serves_one_event_loop_after_another() -> None:
    """The process does not belong to the event loop that started it."""
    worker = _new_worker()

    async def one() -> tuple[tuple[Drawn, ...], int]:
        return await worker.draw([job()], ignore), await _id(worker)

    first, second = asyncio.run(one()), asyncio.run(one())
    asyncio.run(worker.close())

    assert first == second


@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        pytest.param("refuse it", ValueError, "it", id="refused"),
        pytest.param("damaged a file", WeightsError, "a file", id="weights"),
        pytest.param("lost all", RuntimeError, "LostError: all", id="unknown"),
    ],
)
async def test_errors_cross_the_border(
    worker: ProcessWorker, prompt: str, kind: type[Exception], words: str
) -> None:
    """An error there is the same error here, and brings its lines for the log."""
    with pytest.raises(kind) as caught:
        await worker.draw([job(prompt)], ignore)

    assert str(caught.value) == words
    assert "_misbehave" in "".join(caught.value.__notes__)
    assert (await worker.draw([job()], ignore))[0].pictures


@pytest.mark.parametrize(
    ("words", "is_lost"),
    [
        pytest.param("CUDA error: an illegal memory access", True, id="access"),
        pytest.param("CUDA out of memory. Tried to allocate 2 GiB", False, id="memory"),
    ],
)
async def test_process_that_lost_its_device_is_replaced(
    worker: ProcessWorker, words: str, is_lost: bool
) -> None:
    """What the driver has given up would fail for ever: the next job has another."""
    before = await _id(worker)

    with pytest.raises(RuntimeError) as caught:
        await worker.draw([job(f"driver {words}")], ignore)
    (drawn,) = await worker.draw([job()], ignore)

    assert str(caught.value) == words
    assert drawn.pictures
    assert (await _id(worker) != before) is is_lost


async def test_error_of_a_report_is_the_callers(worker: ProcessWorker) -> None:
    """A report that raises stops the job there, and is raised here."""

    def report(fraction: float, _: Preview | None) -> None:
        message = f"at {fraction}"
        raise LookupError(message)

    with pytest.raises(LookupError, match=r"at 0\.25"):
        await worker.draw([job()], report)


async def test_more_than_a_pipe_holds_stops_nobody(worker: ProcessWorker) -> None:
    """A library that prints and prints is read, and does not stand still."""
    with capture_events() as events:
        (drawn,) = await worker.draw([job("chatter " + "x" * 2_000_000)], ignore)
        await worker.close()

    printed = sum(one["event"] == "gaia.flux_worker_printed" for one in events)
    assert drawn.pictures
    assert 1 <= printed <= 200


async def test_large_picture_arrives_whole(worker: ProcessWorker) -> None:
    """Fifty million bytes come over as they were drawn."""
    large = job(width=4096, height=4096, num_inference_steps=1)

    (drawn,) = await worker.draw([large], ignore)

    (picture,) = drawn.pictures
    (expected,) = Squares(Setup(device="cpu")).draw([large], ignore)[0].pictures
    is_whole = picture == expected
    assert is_whole, "the pixels differ"


async def test_terminal_does_not_reach_it(worker: ProcessWorker) -> None:
    """Ctrl+C goes to the host's group, which the process is not in."""
    process = await _id(worker)

    assert os.getsid(process) == process != os.getsid(0)


async def test_what_it_prints_goes_to_the_log(worker: ProcessWorker) -> None:
    """What libraries print there is logged here, up to a bound."""
    with capture_events() as events:
        await worker.draw([job("chatter step 3 of 4\n" + "x" * 2000)], ignore)
        await worker.close()

    lines = [
        one["line"] for one in events if one["event"] == "gaia.flux_worker_printed"
    ]
    assert lines == ["step 3 of 4", "x" * 500]


async def test_last_words_of_a_crash_are_logged(worker: ProcessWorker) -> None:
    """Who is on call finds what the crash printed."""
    with capture_events() as events:
        with pytest.raises(WorkerDiedError):
            await worker.draw([job("kill SIGSEGV")], ignore)
        await worker.close()

    (died,) = [one for one in events if one["event"] == "gaia.flux_worker_died"]
    assert died["status"] == -signal.SIGSEGV
    assert any("Segmentation fault" in line for line in died["last_lines"])


async def test_keys_stay_here(
    worker: ProcessWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reads other people's models sees no key of the host."""
    monkeypatch.setenv("RUNWARE_API_KEY", "rw-secret")

    with pytest.raises(LookupError) as caught:
        await worker.draw([job("key RUNWARE_API_KEY")], ignore)

    assert str(caught.value) == "nothing"


def test_environment_is_chosen() -> None:
    """Paths and settings of torch go along; keys and what is unknown stay here."""
    carried = {"PATH": "/bin", "CUDA_VISIBLE_DEVICES": "1", "OMP_NUM_THREADS": "1"}
    left = {
        "HF_TOKEN": "hf",
        "HUGGING_FACE_KEY": "hf",
        "GEMINI_API_KEY": "g",
        "TORCH_TOKEN": "t",
        "GAIA_DATABASE": "postgresql://…",
        "PATHS": "x",
    }

    assert environment({**carried, **left}) == {**carried, "HF_HUB_OFFLINE": "1"}


async def test_program_that_is_not_there_is_a_sentence() -> None:
    """A process that cannot be started is an error with the reason."""
    worker = ProcessWorker(setup=Setup(device="cpu"), command=("/nowhere/python",))

    with pytest.raises(WorkerDiedError, match=r"cannot be started.*No such file"):
        await worker.draw([job()], ignore)
    await worker.close()


async def test_deaths_in_a_row_are_answered_with_patience(
    worker: ProcessWorker,
) -> None:
    """After the second death in a row the next start waits; a picture ends that."""
    loop = asyncio.get_running_loop()
    for _ in range(2):
        with pytest.raises(WorkerDiedError):
            await worker.draw([job("kill")], ignore)

    before = loop.time()
    await worker.draw([job()], ignore)

    assert loop.time() - before >= 0.5


async def test_helpers_end_with_the_process(
    worker: ProcessWorker, tmp_path: Path
) -> None:
    """What the process has started, such as compilers, is not left behind."""
    await worker.draw([job(f"spawn {tmp_path / 'helper'}")], ignore)
    helper = int((tmp_path / "helper").read_text())
    assert _is_alive(helper)

    with pytest.raises(WorkerDiedError):
        await worker.draw([job("kill")], ignore)

    await _until(lambda: not _is_alive(helper))


_HOST = """
import asyncio, os, sys, time
from gaia_flux.isolation import ProcessWorker
from gaia_flux.setups import Setup
from plugins_squares import job

async def main():
    worker = ProcessWorker(setup=Setup(device="cpu"), command=tuple(sys.argv[2:]))
    print((await worker.figures())["process"], flush=True)
    heir = os.fork() if sys.argv[1] == "heir" else os.getpid()
    if not heir:
        time.sleep(120)
        os._exit(0)
    print(heir, flush=True)
    await worker.draw([job("hang")], lambda *_: print("begun", flush=True))

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["alone", "heir"])
async def test_process_ends_with_its_parent(tmp_path: Path, kind: str) -> None:
    """A killed host leaves nobody behind, even if another has inherited its socket."""
    squares = Path(__file__).with_name("squares.py")
    (tmp_path / "plugins_squares.py").symlink_to(squares)
    host = subprocess.Popen(  # noqa: ASYNC220  asyncio's would not outlive a kill
        [sys.executable, "-c", _HOST, kind, *PROGRAM],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    with host:
        assert host.stdout is not None
        lines = [await asyncio.to_thread(host.stdout.readline) for _ in range(3)]
        process, heir = map(int, lines[:2])
        assert lines[2] == "begun\n"
        assert _is_alive(process)
        host.kill()
        await _until(lambda: not _is_alive(process))
        if kind == "heir":
            os.kill(heir, signal.SIGKILL)


_FORKING_HOST = """
import asyncio, os, sys
from gaia_flux.isolation import ProcessWorker
from gaia_flux.setups import Setup
from gaia_flux.workers import ThreadWorker
from plugins_squares import Squares, ignore, job

setup = Setup(device="cpu")
worker = {
    "thread": ThreadWorker(setup=setup, studio=Squares),
    "process": ProcessWorker(setup=setup, command=tuple(sys.argv[2:])),
}[sys.argv[1]]

async def drawn():
    assert (await worker.draw([job()], ignore))[0].pictures
    return (await worker.figures())["process"]

before = asyncio.run(drawn())
heir = os.fork()
if heir:
    assert os.waitpid(heir, 0)[1] == 0
    assert asyncio.run(drawn()) == before
else:
    assert worker.loaded() == frozenset()
    assert asyncio.run(drawn()) != before
asyncio.run(worker.close())
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["thread", "process"])
async def test_heir_of_a_host_begins_anew(tmp_path: Path, kind: str) -> None:
    """A host that forks has two workers then: threads are not inherited."""
    squares = Path(__file__).with_name("squares.py")
    (tmp_path / "plugins_squares.py").symlink_to(squares)

    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", _FORKING_HOST, kind, *PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
