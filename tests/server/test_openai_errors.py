"""The real client of OpenAI raises the right class, and pays for nothing twice."""

import asyncio
from typing import Any

import openai
import pytest
from fastapi import Request

from gaia_core import errors
from gaia_core.secrets import Secret
from gaia_core.server import Principal
from gaia_core.testing import FakeProvider
from tests.waiting import HeldProvider, until

from .openai_clients import OpenClient, client_of


async def who(request: Request) -> Principal | None:
    """Name callers by their key: a guest may only look."""
    name = request.headers.get("authorization", "").removeprefix("Bearer ")
    scopes = {"guest": ["read"], "player": ["make", "read"]}
    return Principal(name=name, scopes=scopes[name]) if name in scopes else None


async def generate(client: openai.AsyncOpenAI, **fields: Any) -> Any:
    """Have one picture made."""
    return await client.images.generate(
        **{"prompt": "a keep", "size": "64x64"} | fields
    )


FAILURES = [
    (
        errors.ContentFilteredError("no"),
        openai.BadRequestError,
        "content_policy_violation",
    ),
    (errors.ProviderRequestError("no"), openai.BadRequestError, "provider_request"),
    (errors.ModelError("no"), openai.NotFoundError, "model_not_found"),
    (errors.RateLimitError("no"), openai.RateLimitError, "rate_limit_exceeded"),
    (errors.QuotaExceededError("no"), openai.RateLimitError, "insufficient_quota"),
    (errors.AuthenticationError("no"), openai.InternalServerError, "authentication"),
    (errors.ProviderConnectionError("no"), openai.InternalServerError, None),
    (errors.ProviderUnavailableError("no"), openai.InternalServerError, None),
    (errors.UnusableResultError("no"), openai.InternalServerError, "unusable_result"),
    (errors.ProviderTimeoutError("no"), openai.InternalServerError, None),
]


@pytest.mark.parametrize(
    ("failure", "kind", "code"),
    [pytest.param(*case, id=type(case[0]).__name__) for case in FAILURES],
)
async def test_failures_of_a_provider(
    open_client: OpenClient,
    failure: errors.ProviderError,
    kind: type[openai.APIStatusError],
    code: str | None,
) -> None:
    """Every failure of a provider has a class, and a text that gives nothing away."""
    provider = FakeProvider.failing(failure)

    async with (
        open_client(provider, max_attempts=1) as http,
        client_of(http) as client,
    ):
        with pytest.raises(kind) as caught:
            await generate(client)

    assert type(caught.value) is kind
    assert code in {None, caught.value.code}
    assert caught.value.request_id
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["operation_id"] == caught.value.request_id


@pytest.mark.parametrize(
    ("key", "kind", "code"),
    [
        pytest.param("nobody", openai.AuthenticationError, "invalid_api_key", id="401"),
        pytest.param("guest", openai.PermissionDeniedError, "forbidden", id="403"),
    ],
)
async def test_keys(
    open_client: OpenClient, key: str, kind: type[openai.APIStatusError], code: str
) -> None:
    """Who is unknown, and who may not, are told apart."""
    provider = FakeProvider()

    async with (
        open_client(provider, auth=who) as http,
        client_of(http, api_key=key) as client,
    ):
        with pytest.raises(kind) as caught:
            await generate(client)

    assert caught.value.code == code
    assert provider.calls == []


async def test_real_keys(open_client: OpenClient) -> None:
    """A key of Gaia's own is presented as OpenAI's would be."""
    server = {"token": Secret("open-sesame-1234"), "require_auth": True}

    async with open_client(auth=None, server=server) as http:
        async with client_of(http, api_key="open-sesame-1234") as client:
            response = await generate(client)
        async with client_of(http, api_key="open-sesame-4321") as client:
            with pytest.raises(openai.AuthenticationError):
                await generate(client)

    assert response.data


async def test_pictures_of_others(open_client: OpenClient) -> None:
    """What belongs to another key is not there, neither to edit nor to name."""
    keys = {"mine": ["make", "read"], "yours": ["make", "read"]}

    async def by_key(request: Request) -> Principal:
        name = request.headers["authorization"].removeprefix("Bearer ")
        return Principal(name=name, scopes=keys[name])

    provider = FakeProvider()
    async with open_client(provider, auth=by_key) as http:
        async with client_of(http, api_key="mine") as client:
            made = await generate(client)
        response = await http.post(
            "/v1/images/edits",
            files={
                "prompt": (None, "in winter"),
                "image_id": (None, made.data[0].id),
            },
            headers={"Authorization": "Bearer yours"},
        )

    assert response.status_code == 404
    assert response.json()["error"]["param"] == "image_id"
    assert len(provider.calls) == 1


async def test_unknown_model(open_client: OpenClient) -> None:
    """A model nobody has is not found, and the field is named."""
    async with open_client() as http, client_of(http) as client:
        with pytest.raises(openai.NotFoundError) as caught:
            await generate(client, model="gpt-image-1")
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("gpt-image-1")

    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


BAD: dict[str, dict[str, Any]] = {
    "size": {"size": "huge"},
    "n": {"n": 0},
    "quality": {"quality": "superb"},
    "background": {"background": "transparent"},
    "output_compression": {"output_compression": 50},
    "output_format": {"output_format": "webp", "response_format": "url"},
    "partial_images": {"partial_images": 2},
    "response_format": {"stream": True, "response_format": "url"},
    "sed": {"extra_body": {"sed": 7}},
    "prompt": {"prompt": ""},
    "provider_options": {"extra_body": {"provider_options": {"nobody": {}}}},
    "height": {"size": "64x8"},
}
"""The field at fault to what is sent."""


async def test_bad_request(open_client: OpenClient) -> None:
    """What is wrong with a request is a bad request that names the field."""
    provider = FakeProvider()
    named: dict[str, str | None] = {}

    async with open_client(provider) as http, client_of(http) as client:
        for field, fields in BAD.items():
            with pytest.raises(openai.BadRequestError, match=field) as caught:
                await generate(client, **fields)
            named[field] = caught.value.param

    assert named == {field: field for field in BAD}
    assert provider.calls == []


async def test_nobody_can(open_client: OpenClient) -> None:
    """Where nobody can serve it, the client is told not to ask again."""
    provider = FakeProvider(unavailable="no key")

    async with open_client(provider) as http, client_of(http) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await generate(client)

    assert caught.value.status_code == 503
    assert caught.value.response.headers["x-should-retry"] == "false"


async def test_user(open_client: OpenClient) -> None:
    """Whose request it is, only those say who may speak for others."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        await generate(client, user="gandalf")
    owner = provider.requests[-1].user_id
    async with (
        open_client(provider, auth=who) as http,
        client_of(http, api_key="player") as client,
    ):
        response = await generate(client, user="gandalf")
        with pytest.raises(openai.PermissionDeniedError):
            await generate(client, extra_body={"user_id": "gandalf"})

    assert owner == "gandalf"
    assert provider.requests[-1].user_id == "player"
    assert response.gaia["warnings"] == [
        "user ignored: this key speaks for nobody else"
    ]


# -- nothing is paid twice ------------------------------------------------------------


async def test_failure_without_a_charge_is_repeated(open_client: OpenClient) -> None:
    """The client may repeat by itself what cost nothing, and then it is made."""
    provider = FakeProvider(outcomes=[errors.RateLimitError("no", retry_after=0.1)])

    async with (
        open_client(provider, max_attempts=1) as http,
        client_of(http, max_retries=2) as client,
    ):
        response = await generate(client)

    assert len(provider.charges) == 1
    assert not response.gaia["is_reused"]


async def test_lost_answer_is_not_repeated(open_client: OpenClient) -> None:
    """What may have been charged is not sent again, though the client would."""
    failure = errors.ProviderTimeoutError("no")
    provider = FakeProvider.failing(
        failure, is_charging_failures=True, price_usd="0.02"
    )

    async with open_client(provider) as http, client_of(http, max_retries=5) as client:
        with pytest.raises(openai.InternalServerError) as caught:
            await generate(client)

    assert caught.value.response.headers["x-should-retry"] == "false"
    assert len(provider.calls) == len(provider.charges) == 1


async def test_impatient_client(open_client: OpenClient) -> None:
    """A client that gives up waiting and asks again gets what the first try made."""
    provider = HeldProvider(price_usd="0.02")
    sent: list[str] = []

    async def note(request: Any) -> None:
        sent.append(request.headers["x-stainless-retry-count"])

    transport = openai.DefaultAsyncHttpxClient(event_hooks={"request": [note]})
    async with (
        open_client(provider) as http,
        client_of(http, max_retries=20, timeout=0.5, http_client=transport) as client,
    ):
        asking = asyncio.create_task(generate(client))
        await until(lambda: len(sent) > 1)
        provider.go.set()
        response = await asking

    assert sent[:2] == ["0", "1"]
    assert len(provider.calls) == len(provider.charges) == 1
    assert response.data[0].b64_json


async def test_a_restart_forgets_no_first_try(open_client: OpenClient) -> None:
    """What a client sends again to a server that was started anew is the same."""
    before = FakeProvider(price_usd="0.02")
    after = FakeProvider(price_usd="0.02")
    again = {"x-stainless-retry-count": "1"}

    async with open_client(before) as http, client_of(http) as client:
        first = await generate(client)
    async with open_client(after) as http, client_of(http) as client:
        second = await generate(client, extra_headers=again)

    assert second.data[0].b64_json == first.data[0].b64_json
    assert (len(before.charges), len(after.charges)) == (1, 0)


async def test_key_of_ones_own(open_client: OpenClient) -> None:
    """An ``Idempotency-Key`` gives the same picture once, and says so."""
    provider = FakeProvider()
    headers = {"Idempotency-Key": "scene-1"}

    async with open_client(provider) as http, client_of(http) as client:
        first = await generate(client, extra_headers=headers)
        raw = await client.images.with_raw_response.generate(
            prompt="a keep", size="64x64", extra_headers=headers
        )

    assert raw.headers["idempotency-replayed"] == "true"
    again: Any = raw.parse()
    assert again.data[0].b64_json == first.data[0].b64_json
    assert len(provider.charges) == 1


async def test_asking_twice_on_purpose(open_client: OpenClient) -> None:
    """Two equal requests that nobody repeated are two pictures."""
    provider = FakeProvider()

    async with open_client(provider) as http, client_of(http) as client:
        await generate(client)
        await generate(client)

    assert len(provider.charges) == 2
