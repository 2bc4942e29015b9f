"""Batches: the service's own, from a file of requests to pictures."""

import asyncio
import base64
import gzip
import json
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gaia_core import (
    CallContext,
    GenerateRequest,
    Image,
    ImageResult,
    OutcomeClass,
    ProviderError,
    Secret,
    TaskRunningError,
)
from gaia_core.testing import context, png
from gaia_core.testing.vendors import Fault, Faults
from gaia_core.testing.vendors.openai import OpenAIVendor
from gaia_core.testing.vendors.openai_batches import BatchDesk, VendorBatch
from gaia_parasail import ParasailProvider

Make = Callable[..., ParasailProvider]


class Book:
    """Keeps what attempts ask to remember, as the ledger does."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.references: dict[str, str] = {}

    def contexts(self, count: int) -> list[CallContext]:
        """Make the contexts of some attempts."""
        made = []
        for _ in range(count):
            one = context()
            made.append(context(task_id=one.task_id, remember=self._keep(one.task_id)))
        return made

    def again(self, task_id: str) -> CallContext:
        """Make the context that a lost attempt is looked up with."""
        return context(task_id=task_id, reference=self.references.get(task_id, ""))

    def _keep(self, task_id: str) -> Any:
        async def keep(reference: str) -> None:
            self.references[task_id] = reference

        return keep


def scenes(count: int, model: str = "batched", **changes: Any) -> list[GenerateRequest]:
    """Make requests that differ."""
    return [
        GenerateRequest(
            prompt=f"scene {number}", model=model, width=32, height=32, **changes
        )
        for number in range(count)
    ]


async def gathered(
    provider: ParasailProvider,
    requests: Sequence[GenerateRequest],
    contexts: Sequence[CallContext],
) -> dict[str, ImageResult | Exception]:
    """Take all answers there are."""
    answers = provider.gaia_generate_many(requests, contexts)
    return {task_id: answer async for task_id, answer in answers}


async def test_every_request_gets_its_own_picture(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Answers are matched by task id, and each line is charged once."""
    book, requests = Book(), scenes(50)
    contexts = book.contexts(50)

    answers = await gathered(provider, requests, contexts)

    prompts = {charge.task_id: charge.prompt for charge in vendor.charges}
    assert prompts == {
        one.task_id: request.prompt
        for one, request in zip(contexts, requests, strict=True)
    }
    assert vendor.double_charges() == {}
    for one in contexts:
        answer = answers[one.task_id]
        made = vendor.find(one.task_id)
        assert isinstance(answer, ImageResult)
        assert made is not None
        assert [image.data for image in answer.images] == list(made.images)


async def test_a_picture_starts_from_the_one_that_was_given(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """OmniGen's form carries pictures along, and names them in the prompt."""
    given = Image.from_bytes(png(32, 32, "red"))
    requests = scenes(1, model="omni", image=given, reference_images=(given,))
    contexts = Book().contexts(1)

    answers = await gathered(provider, requests, contexts)

    (charge,) = vendor.charges
    assert charge.prompt == "<img><|image_1|></img> <img><|image_2|></img> scene 0"
    assert isinstance(answers[contexts[0].task_id], ImageResult)


async def test_the_file_is_remembered_before_anything_is_ordered(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Whatever is paid can be found again, because its file was on record before."""
    seen: list[tuple[int, str]] = []

    async def remember(reference: str) -> None:
        seen.append((len(vendor.desk.batches), reference))

    answers = await gathered(provider, scenes(1), [context(remember=remember)])

    (before, first), (after, second) = seen
    assert (before, after) == (0, 1)
    assert '"file":"file-input-1"' in first
    assert '"batch":"batch-2"' in second
    assert len(answers) == 1


async def test_nothing_is_ordered_where_the_ledger_cannot_be_written(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Without a reference for each request, none is sent; and none is owed."""

    async def refuse(_: str) -> None:
        raise OSError

    contexts = [*Book().contexts(2), context(remember=refuse)]

    answers = await gathered(provider, scenes(3), contexts)

    assert {_outcome(answer) for answer in answers.values()} == {
        OutcomeClass.REJECTED_BUSY
    }
    assert len(answers) == 3
    assert vendor.desk.batches == {}


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        pytest.param(Fault.BUSY, OutcomeClass.REJECTED_BUSY, id="busy"),
        pytest.param(Fault.UNAVAILABLE, OutcomeClass.REJECTED_BUSY, id="unavailable"),
        pytest.param(Fault.ERROR_BEFORE, OutcomeClass.AMBIGUOUS, id="error"),
        pytest.param(Fault.BAD_REQUEST, OutcomeClass.REJECTED_FINAL, id="bad request"),
        pytest.param(Fault.FILTERED, OutcomeClass.REJECTED_FINAL, id="filtered"),
        pytest.param(Fault.NO_CREDIT, OutcomeClass.REJECTED_AUTH, id="no credit"),
        pytest.param(Fault.BAD_IMAGE_AFTER, OutcomeClass.UNUSABLE, id="no picture"),
        pytest.param(Fault.EMPTY_AFTER, OutcomeClass.UNUSABLE, id="empty"),
        pytest.param(Fault.ERROR_AFTER, OutcomeClass.AMBIGUOUS, id="charged error"),
    ],
)
async def test_a_line_that_fails_leaves_the_others(
    provider: ParasailProvider,
    vendor: OpenAIVendor,
    fault: Fault,
    outcome: OutcomeClass,
) -> None:
    """Of three requests one fails in its own way, and two get their pictures."""
    vendor.desk.faults = Faults(script=[None, fault])
    contexts = Book().contexts(3)

    answers = await gathered(provider, scenes(3), contexts)

    kinds = [_outcome(answers[one.task_id]) for one in contexts]
    assert kinds == [OutcomeClass.OK, outcome, OutcomeClass.OK]


@pytest.mark.parametrize(
    "fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.TRUNCATED_AFTER], ids=str
)
async def test_what_the_results_do_not_name_stays_unanswered(
    provider: ParasailProvider, vendor: OpenAIVendor, fault: Fault
) -> None:
    """A line that is missing or broken off is nobody's guess: it is looked up."""
    vendor.desk.faults = Faults(script=[None, fault])
    book = Book()
    contexts = book.contexts(3)

    answers = await gathered(provider, scenes(3), contexts)

    lost = contexts[1].task_id
    assert set(answers) == {contexts[0].task_id, contexts[2].task_id}
    with pytest.raises(ProviderError) as caught:
        await provider.gaia_recover(lost, book.again(lost))
    assert _outcome(caught.value) is OutcomeClass.AMBIGUOUS


async def test_an_expired_batch_keeps_what_it_made(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """What was made in time counts; what was not costs nothing, and is made anew."""
    vendor.desk.expires_after = 2
    book = Book()
    contexts = book.contexts(5)

    answers = await gathered(provider, scenes(5), contexts)

    kinds = [_outcome(answers[one.task_id]) for one in contexts]
    assert kinds == [OutcomeClass.OK] * 2 + [OutcomeClass.REJECTED_BUSY] * 3
    assert len(vendor.charges) == 2
    late = contexts[4].task_id
    assert await provider.gaia_recover(late, book.again(late)) is None


@pytest.mark.parametrize(
    "counts",
    [{}, {"total": 2}, {"total": 2, "completed": 1, "failed": 0}],
    ids=["no counts", "half of them", "one was made"],
)
async def test_a_cancelled_batch_leaves_open_what_it_does_not_tell(
    provider: ParasailProvider, vendor: OpenAIVendor, counts: dict[str, int]
) -> None:
    """Requests without a word are lost where some of them may have been made."""
    vendor.desk.is_holding = True
    book = Book()
    contexts = book.contexts(2)
    work = asyncio.ensure_future(gathered(provider, scenes(2), contexts))
    await _until(lambda: vendor.desk.batches)
    (batch,) = vendor.desk.batches.values()
    batch.counts, batch.status = counts, "cancelled"

    answers = await work

    assert answers == {}
    lost = contexts[0].task_id
    with pytest.raises(ProviderError, match="without a word"):
        await provider.gaia_recover(lost, book.again(lost))


async def test_a_refused_file_costs_nothing(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """A batch that fails its validation is refused for good, for each request."""
    vendor.models = ("words",)

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert [str(answer) for answer in answers.values()] == [
        "parasail has no such model in batches: see `gaia models`."
    ] * 2
    assert vendor.charges == []


async def test_a_large_file_is_several_batches(
    make: Make, vendor: OpenAIVendor
) -> None:
    """What goes over the limit of a file goes into the next one."""
    provider = make(max_file_mb=1)
    picture = Image.from_bytes(_noise(400, 400))
    requests = scenes(4, model="omni", image=picture)

    answers = await gathered(provider, requests, Book().contexts(4))
    await provider.gaia_stop()

    assert len(vendor.desk.batches) == 2
    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}
    assert len(answers) == len(vendor.charges) == 4


async def test_models_are_not_mixed_in_a_file(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Requests for two models are two batches."""
    picture = Image.from_bytes(png(32, 32))
    requests = [*scenes(2), *scenes(1, "omni", image=picture)]

    answers = await gathered(provider, requests, Book().contexts(3))

    assert len(vendor.desk.batches) == 2
    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}
    assert len(answers) == 3


async def test_what_cannot_be_asked_is_refused_alone(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """One request with an option that cannot be sent leaves the others."""
    wrong = scenes(1, provider_options={"parasail": {"size": "1x1"}})
    contexts = Book().contexts(2)

    answers = await gathered(provider, [*wrong, *scenes(1)], contexts)

    kinds = [_outcome(answers[one.task_id]) for one in contexts]
    assert kinds == [OutcomeClass.REJECTED_FINAL, OutcomeClass.OK]
    assert len(vendor.charges) == 1


# -- calls that go wrong ------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [Fault.DROP_BEFORE, Fault.DROP_AFTER, Fault.ERROR_BEFORE], ids=str
)
async def test_a_file_that_is_not_taken_orders_nothing(
    provider: ParasailProvider, vendor: OpenAIVendor, fault: Fault
) -> None:
    """Handing a file in is free: whatever becomes of it, nothing is owed."""
    vendor.desk.trouble("upload", [fault])

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert {_outcome(answer) for answer in answers.values()} == {
        OutcomeClass.REJECTED_BUSY
    }
    assert vendor.desk.calls == {"upload": 1}


@pytest.mark.parametrize(
    "fault", [Fault.DROP_AFTER, Fault.ERROR_AFTER, Fault.GATEWAY_TIMEOUT_AFTER], ids=str
)
async def test_an_order_whose_answer_is_lost_is_found(
    provider: ParasailProvider, vendor: OpenAIVendor, fault: Fault
) -> None:
    """The batch is there, and is found by its file: it is not ordered twice."""
    vendor.desk.trouble("create", [fault])

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}
    assert vendor.desk.calls["create"] == 1
    assert len(vendor.charges) == 2


async def test_an_order_that_never_arrived_is_looked_up(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """It stays in doubt; a look-up reads the list to its end, and finds nothing."""
    vendor.desk.trouble("create", [Fault.DROP_BEFORE])
    book = Book()
    contexts = book.contexts(2)

    answers = await gathered(provider, scenes(2), contexts)

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.AMBIGUOUS}
    assert vendor.desk.calls["create"] == 1
    for one in contexts:
        again = book.again(one.task_id)
        assert await provider.gaia_recover(one.task_id, again) is None


async def test_another_account_proves_nothing(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Where not even the file is known, a missing batch may lie elsewhere."""
    again = context(reference='{"model":"batched","file":"file-of-another-key"}')

    with pytest.raises(ProviderError, match="knows neither the file") as caught:
        await provider.gaia_recover(again.task_id, again)

    assert _outcome(caught.value) is OutcomeClass.AMBIGUOUS
    assert vendor.desk.calls == {"list": 1, "file": 1}


@pytest.mark.parametrize("fault", [Fault.BUSY, Fault.NO_CREDIT, Fault.BAD_REQUEST])
async def test_an_order_that_is_refused_is_not_looked_for(
    provider: ParasailProvider, vendor: OpenAIVendor, fault: Fault
) -> None:
    """A definite refusal is everybody's answer."""
    vendor.desk.trouble("create", [fault])

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    outcomes = {_outcome(answer) for answer in answers.values()}
    assert len(outcomes) == 1
    assert outcomes <= {
        OutcomeClass.REJECTED_BUSY,
        OutcomeClass.REJECTED_AUTH,
        OutcomeClass.REJECTED_FINAL,
    }
    assert len(set(map(id, answers.values()))) == 2
    assert vendor.desk.calls == {"upload": 1, "create": 1}


async def test_looking_and_fetching_outlive_an_outage(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """What is paid for is looked at again, whatever the service answers meanwhile."""
    troubles = [Fault.UNAVAILABLE, Fault.DROP_BEFORE, Fault.BUSY, Fault.ERROR_BEFORE]
    vendor.desk.trouble("retrieve", [*troubles, Fault.UNAUTHORISED, Fault.NO_MODEL])
    vendor.desk.trouble("content", troubles)

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}
    assert len(vendor.charges) == 2


async def test_a_batch_that_is_gone_leaves_its_requests_in_doubt(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """A status of 404 says that it cannot be looked at, not that it cost nothing."""
    vendor.desk.trouble("retrieve", [Fault.NO_MODEL] * 50)

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.AMBIGUOUS}
    (batch_id,) = vendor.desk.batches
    assert all(f"knows no batch {batch_id}:" in str(one) for one in answers.values())


async def test_results_that_are_gone_leave_their_requests_in_doubt(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """They were made and charged: that nobody has them any more is no refusal."""
    vendor.desk.trouble("content", [Fault.NO_MODEL] * 50)

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    assert all("knows no file" in str(answer) for answer in answers.values())
    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.AMBIGUOUS}
    assert len(vendor.charges) == 2


# -- stopping, and going on ---------------------------------------------------------


async def test_leaving_calls_no_batch_off(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Whoever stops leaves the batch to the service: it is paid for, and found."""
    vendor.desk.is_holding = True
    book = Book()
    contexts = book.contexts(3)
    work = asyncio.ensure_future(gathered(provider, scenes(3), contexts))
    await _until(lambda: all("batch-" in text for text in book.references.values()))
    await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert "cancel" not in vendor.desk.calls
    one = contexts[0].task_id
    with pytest.raises(TaskRunningError):
        await provider.gaia_recover(one, book.again(one))
    vendor.desk.is_holding = False
    found = [await _found(provider, book, context.task_id) for context in contexts]
    assert {_outcome(answer) for answer in found} == {OutcomeClass.OK}
    assert len(vendor.charges) == 3
    assert vendor.desk.calls["create"] == vendor.desk.calls["content"] == 1


async def test_requests_do_not_lie_about(
    provider: ParasailProvider,
    vendor: OpenAIVendor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their file is nobody else's to read, and is gone as soon as it was sent."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    vendor.desk.is_holding = True
    work = asyncio.ensure_future(gathered(provider, scenes(2), Book().contexts(2)))
    await _until(lambda: vendor.desk.batches)

    (folder,) = tmp_path.iterdir()  # noqa: ASYNC240  a folder of two

    assert folder.stat().st_mode & 0o077 == 0
    assert list(folder.iterdir()) == []
    vendor.desk.is_holding = False
    await work
    assert list(tmp_path.iterdir()) == []  # noqa: ASYNC240  as above


async def test_answers_wait_until_they_are_taken(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """A reader that stops after one answer leaves no task and no file behind."""
    answers = provider.gaia_generate_many(scenes(5), Book().contexts(5))

    async with aclosing(answers):
        task_id, answer = await anext(answers)

    assert isinstance(answer, ImageResult)
    assert vendor.charged(task_id) == 1
    left = [repr(task.get_coro()) for task in asyncio.all_tasks()]
    assert [one for one in left if "gaia_parasail" in one or "_drain" in one] == []


async def test_a_batch_is_found_by_its_file_on_a_later_page(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """The list is read page by page, as far as it goes."""
    book = Book()
    contexts = book.contexts(1)
    await gathered(provider, scenes(1), contexts)
    (batch,) = vendor.desk.batches.values()
    for number in range(250):
        vendor.desk.batches[f"other-{number}"] = type(batch)(
            id=f"other-{number}", input_file_id=f"file-{number}", endpoint="/v1/x"
        )
    reference = f'{{"model":"batched","file":"{batch.input_file_id}"}}'

    found = await provider.gaia_recover(
        contexts[0].task_id,
        context(task_id=contexts[0].task_id, reference=reference),
    )

    assert isinstance(found, ImageResult)
    assert vendor.desk.calls["list"] == 3


async def test_a_batch_that_shows_late_is_found(
    make: Make, vendor: OpenAIVendor
) -> None:
    """That it is not listed is believed for a moment only."""
    provider, book = make(poll_interval=1_000.0), Book()
    vendor.desk.trouble("create", [Fault.DROP_BEFORE])
    (one,) = book.contexts(1)
    await gathered(provider, scenes(1), [one])
    assert await provider.gaia_recover(one.task_id, book.again(one.task_id)) is None

    file = json.loads(book.references[one.task_id])["file"]
    vendor.desk.batches["late"] = VendorBatch(
        id="late", input_file_id=file, endpoint="/v1/images/generations"
    )
    await vendor.desk.finish()
    async with asyncio.timeout(30):
        again = book.again(one.task_id)
        # The stand-in tells nobody.
        while (found := await provider.gaia_recover(one.task_id, again)) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await provider.gaia_stop()

    assert isinstance(found, ImageResult)


async def test_many_look_ups_are_few_calls(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """The results of a batch are fetched once, however many ask about it."""
    book = Book()
    contexts = book.contexts(200)
    await gathered(provider, scenes(200), contexts)
    vendor.desk.calls.clear()

    found = await asyncio.gather(
        *(
            provider.gaia_recover(one.task_id, book.again(one.task_id))
            for one in contexts
        )
    )

    assert all(isinstance(one, ImageResult) for one in found)
    assert vendor.desk.calls == {"retrieve": 1, "content": 1}


async def test_requests_answered_at_once_cannot_be_looked_up(
    provider: ParasailProvider,
) -> None:
    """Nobody can tell what became of them, so nobody says that there was nothing."""
    contexts = [context(), context(reference='{"model":"words"}')]

    for one in contexts:
        with pytest.raises(ProviderError, match="keeps no record"):
            await provider.gaia_recover(one.task_id, one)


async def test_what_asked_to_remember_nothing_ordered_nothing(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """An item that was handed over and never got a reference was not sent."""
    one = context(reference="")

    assert await provider.gaia_recover(one.task_id, one) is None
    assert vendor.desk.calls == {}


async def test_results_are_never_all_in_memory(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """Of a large file of results, one line is held at a time."""
    vendor.desk.is_holding = True
    contexts, counted = Book().contexts(40), 0
    answers = provider.gaia_generate_many(scenes(40), contexts)
    first = asyncio.ensure_future(anext(answers))
    await _until(lambda: vendor.desk.calls.get("retrieve", 0) > 2)
    size = _finished(vendor, [one.task_id for one in contexts], _noise(700, 700))

    tracemalloc.start()
    try:
        await first
        async for _, answer in answers:
            counted += isinstance(answer, ImageResult)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert counted == 39
    assert size > 50_000_000
    assert peak < size / 3


async def test_packed_results_are_not_unpacked(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few packed bytes could fill the disk; what was made stays in doubt."""

    async def packed(*_: object) -> web.Response:
        body, headers = gzip.compress(b" " * 10_000), {"Content-Encoding": "gzip"}
        return web.Response(body=body, headers=headers)

    monkeypatch.setattr(BatchDesk, "_content", packed)

    async with OpenAIVendor(api_key="sk-other", models=("batched",)) as vendor:
        provider = make(base_url=vendor.url, api_key=Secret("sk-other"))
        answers = await gathered(provider, scenes(2), Book().contexts(2))
        await provider.gaia_stop()

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.AMBIGUOUS}
    assert all("is packed" in str(answer) for answer in answers.values())
    assert len(vendor.charges) == 2


async def test_results_may_be_longer_than_any_answer(
    provider: ParasailProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go to the disk as they come."""
    monkeypatch.setattr("gaia_parasail.bounds.MAX_ANSWER", 2_000)

    answers = await gathered(provider, scenes(20), Book().contexts(20))

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}


# -- where the results lie ----------------------------------------------------------


async def test_results_that_lie_elsewhere_are_fetched_without_the_key(
    provider: ParasailProvider, vendor: OpenAIVendor
) -> None:
    """A redirect to a storage is followed, and what is sent there names no key."""
    vendor.desk.redirects_to = vendor.root

    answers = await gathered(provider, scenes(2), Book().contexts(2))

    elsewhere = vendor.heads[-1]
    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.OK}
    assert "Authorization" not in elsewhere


@pytest.mark.parametrize(
    "place",
    ["http://127.0.0.2:1", "http://169.254.169.254", "file:///etc", "http://[::1]:80"],
)
async def test_results_never_lie_on_a_private_host(
    make: Make, vendor: OpenAIVendor, place: str
) -> None:
    """A redirect into the network behind the client is refused."""
    provider = make(poll_interval=0.001)
    vendor.desk.redirects_to = place
    contexts = [context(deadline=asyncio.get_running_loop().time() + 0.5)]

    answers = await gathered(provider, scenes(1), contexts)
    await provider.gaia_stop()

    assert {_outcome(answer) for answer in answers.values()} <= {OutcomeClass.AMBIGUOUS}


async def test_results_come_from_named_hosts_only(
    make: Make, vendor: OpenAIVendor
) -> None:
    """With `result_hosts`, a public host that is not among them is refused."""
    provider = make(result_hosts=["storage.example.com"], poll_interval=0.001)
    vendor.desk.redirects_to = "http://example.org"
    contexts = [context(deadline=asyncio.get_running_loop().time() + 0.5)]

    answers = await gathered(provider, scenes(1), contexts)
    await provider.gaia_stop()

    assert {_outcome(answer) for answer in answers.values()} == {OutcomeClass.AMBIGUOUS}


# -- for the tests ------------------------------------------------------------------


def _outcome(answer: object) -> OutcomeClass:
    return answer.outcome if isinstance(answer, ProviderError) else OutcomeClass.OK


def _finished(vendor: OpenAIVendor, task_ids: Sequence[str], picture: bytes) -> int:
    """End the batch with one picture for each task; give the size of the results."""
    (batch,) = vendor.desk.batches.values()
    results = vendor.desk._new_file("output")
    data = [{"b64_json": base64.b64encode(picture).decode()}]
    with results.path.open("w", encoding="utf-8") as file:
        for task_id in task_ids:
            response = {"status_code": 200, "body": {"data": data}}
            line = {"custom_id": task_id, "response": response}
            file.write(f"{json.dumps(line)}\n")
    batch.output_file_id, batch.status = results.id, "completed"
    return results.path.stat().st_size


def _noise(width: int, height: int) -> bytes:
    """Encode a picture that does not get smaller."""
    from PIL import Image as pillow  # noqa: N813

    from gaia_core.testing.pictures import encoded

    return encoded(pillow.effect_noise((width, height), 100).convert("RGB"))


async def _until(is_so: Any) -> None:
    """Wait for a state, and not for ever."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110  the stand-in tells nobody
            await asyncio.sleep(0.002)


async def _found(provider: ParasailProvider, book: Book, task_id: str) -> object:
    """Look a task up until it has ended."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await provider.gaia_recover(task_id, book.again(task_id))
            except TaskRunningError:
                await asyncio.sleep(0.01)
