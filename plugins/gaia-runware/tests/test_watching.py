"""What is heard at the SDK's connections, and what the SDK gets to see of it."""

import json
from collections.abc import AsyncIterator

import attrs
import pytest
from websockets.protocol import State

from gaia_runware.traffic import Traffic
from gaia_runware.watching import WatchedSocket, errors_in, items_in

MINE = "6fa459ea-ee8a-4ca4-894e-db77e160355e"
OTHER = "7fa459ea-ee8a-4ca4-894e-db77e160355e"


@attrs.define
class Wire:
    """A connection that says what it was given, and keeps what it is told."""

    frames: list[object] = attrs.field(factory=list)
    sent: list[str] = attrs.field(factory=list)
    state: State = State.OPEN

    async def send(self, text: str) -> None:
        """Keep a frame."""
        self.sent.append(text)

    async def recv(self) -> str:
        """Give the next frame."""
        return json.dumps(self.frames.pop(0))

    async def __aiter__(self) -> AsyncIterator[str]:
        """Give every further frame."""
        for frame in self.frames:
            yield json.dumps(frame)


async def _seen(*frames: object) -> tuple[list[object], dict[str, Traffic]]:
    tasks = {name: Traffic(task_id=name) for name in (MINE, OTHER)}
    wire = Wire(frames=[*frames])
    socket = WatchedSocket(inner=wire, tasks=tasks)  # type: ignore[arg-type]
    return [json.loads(frame) async for frame in socket], tasks


async def test_results_pass_untouched() -> None:
    """Nothing is made of what has no errors."""
    frame = {"data": [{"taskUUID": MINE, "imageURL": "https://x/error.png"}]}

    seen, tasks = await _seen(frame)

    assert seen == [frame]
    assert tasks[MINE].results == []


async def test_an_error_is_noted_for_its_task() -> None:
    """With the vendor's code, which the SDK keeps to itself."""
    error = {"code": "invalidModel", "taskUUID": MINE}

    seen, tasks = await _seen({"errors": [error]})

    assert seen == [{"errors": [error]}]
    assert (tasks[MINE].codes, tasks[OTHER].codes) == (("invalidModel",), ())


async def test_an_error_about_nobody_is_noted_for_everybody() -> None:
    """It may mean any of them."""
    seen, tasks = await _seen({"errors": [{"code": "internalServerError"}]})

    assert len(seen) == 1
    assert all(one.is_unnamed and not one.errors for one in tasks.values())


async def test_an_error_about_a_stranger_is_kept_from_the_sdk() -> None:
    """It would give it to everybody."""
    seen, tasks = await _seen({"errors": [{"code": "x", "taskUUID": "left"}]})

    assert seen == []
    assert not any(one.is_unnamed for one in tasks.values())


async def test_results_beside_an_error_are_handed_on_first() -> None:
    """The SDK would overlook them, and their task would wait for ever."""
    result = {"taskUUID": OTHER, "imageUUID": "1", "imageURL": "https://x/1.png"}
    error = {"code": "inferenceError", "taskUUID": MINE}

    seen, tasks = await _seen({"data": [result], "errors": [error]})

    assert seen == [{"data": [result]}, {"errors": [error]}]
    assert tasks[OTHER].results == [result]


async def test_a_task_under_way_has_no_result_yet() -> None:
    """Neither is what was made of it lost when another part fails."""
    running = {"taskUUID": MINE, "status": "processing"}
    error = {"code": "inferenceError", "taskUUID": MINE}

    _, tasks = await _seen({"data": [running], "errors": [error]})

    assert (tasks[MINE].is_running, tasks[MINE].results) == (True, [])


async def test_what_the_vendor_says_is_kept_from_the_sdk() -> None:
    """It may quote the prompt; the code is enough for the SDK."""
    error = {"code": "promptBlocked", "message": "no dragons", "taskUUID": MINE}

    seen, tasks = await _seen({"errors": [error]})

    assert "dragons" not in str(seen)
    assert tasks[MINE].errors == [error]


@pytest.mark.parametrize("status", ["processing", "pending", "queued"])
def test_what_has_not_ended_is_under_way(status: str) -> None:
    """Whatever the vendor calls it: a result without a picture would be final."""
    traffic = Traffic(task_id=MINE)

    traffic.take({"taskUUID": MINE, "status": status})

    assert (traffic.is_running, traffic.results) == (True, [])


def test_the_same_words_count_once() -> None:
    """They carry no id of their own, and come again with every question."""
    traffic = Traffic(task_id=MINE)

    for _ in range(2):
        traffic.take({"taskUUID": MINE, "text": "a keep", "cost": 0.04})

    assert len(traffic.results) == 1


async def test_the_answer_to_the_key_is_noted() -> None:
    """It decides whether the key or the vendor is at fault."""
    error = {"code": "invalidApiKey"}
    wire = Wire(frames=[{"errors": [error]}])
    socket = WatchedSocket(inner=wire, tasks={})  # type: ignore[arg-type]

    await socket.recv()

    assert socket.login_error == error


@pytest.mark.parametrize(
    ("state", "expected"), [(State.OPEN, True), (State.CLOSED, False)], ids=str
)
@pytest.mark.parametrize("order", [1, -1], ids=["id last", "id first"])
async def test_a_task_is_sent_when_it_goes_into_an_open_socket(
    state: State, order: int, *, expected: bool
) -> None:
    """Wherever its id is in the frame; a closed socket takes nothing."""
    tasks = {name: Traffic(task_id=name) for name in (MINE, OTHER)}
    wire = Wire(state=state)
    socket = WatchedSocket(inner=wire, tasks=tasks)  # type: ignore[arg-type]

    await socket.send(" ".join(["x" * 2_000, MINE][::order]))

    assert (tasks[MINE].is_sent, tasks[OTHER].is_sent) == (expected, False)


@pytest.mark.parametrize(
    "body", ["", "no JSON", "[]", "1", '{"errors": ["words"]}', '{"errors": {}}']
)
def test_nonsense_holds_no_errors(body: str) -> None:
    """Whatever the vendor says, listening does not fail."""
    assert errors_in(body) == []
    assert items_in(body) == []


def test_one_error_may_come_by_itself() -> None:
    """Under ``error``, as some answers have it."""
    assert errors_in('{"error": {"code": "x"}}') == [{"code": "x"}]
