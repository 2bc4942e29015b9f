"""Vertex AI with a project: credentials come from the environment, as Google has it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gaia_core import (
    AuthenticationError,
    GenerateRequest,
    Image,
    ProviderConnectionError,
    UpscaleRequest,
)
from gaia_core.testing import context, png
from gaia_core.testing.vendors.gemini import GeminiVendor
from gaia_gemini import GeminiProvider

Make = Callable[..., GeminiProvider]

KEEP = GenerateRequest(prompt="a keep", width=64, height=64)


@pytest.fixture(name="account")
def _account(
    vendor: GeminiVendor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Give the file of a service account whose tokens the stand-in gives out."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "project_id": "mine",
        "private_key": pem.decode(),
        "client_email": "gaia@mine.iam.gserviceaccount.com",
        "token_uri": f"{vendor.url}/token",
    }
    path = tmp_path / "account.json"
    path.write_text(json.dumps(account), encoding="utf-8")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    return path


def _move_tokens(account: Path, address: str) -> None:
    """Let the account's tokens come from somewhere else."""
    content = json.loads(account.read_text(encoding="utf-8"))
    account.write_text(json.dumps(content | {"token_uri": address}), encoding="utf-8")


def _on_vertex(make: Make, vendor: GeminiVendor) -> GeminiProvider:
    return make(
        vendor,
        vertexai=True,
        project="mine",
        location="us-central1",
        vertex_base_url=vendor.url,
    )


@pytest.mark.usefixtures("account")
async def test_a_service_account_draws_and_enlarges(
    make: Make, vendor: GeminiVendor
) -> None:
    """The token of the account is sent, not the key that may be set as well."""
    provider = _on_vertex(make, vendor)
    picture = Image.from_bytes(png(20, 10))

    drawn = await provider.gaia_generate(KEEP, context())
    enlarged = await provider.gaia_upscale(
        UpscaleRequest(image=picture, upscale_factor=2), context()
    )

    assert drawn.images[0].width == 512
    assert enlarged.images[0].width == 40
    assert vendor.requests == len(vendor.charges) == 2


async def test_an_account_that_cannot_be_asked_for_a_token_sends_nothing(
    make: Make, vendor: GeminiVendor, account: Path
) -> None:
    """Where no token is to be had, nothing went to the service."""
    _move_tokens(account, "http://127.0.0.1:9/token")

    with pytest.raises(ProviderConnectionError):
        await _on_vertex(make, vendor).gaia_generate(KEEP, context())

    assert vendor.requests == 0


async def test_without_credentials_it_says_what_to_do(
    make: Make,
    vendor: GeminiVendor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An account that is not there is named by the variable that leads to it."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))

    with pytest.raises(AuthenticationError, match="GOOGLE_APPLICATION_CREDENTIALS"):
        await _on_vertex(make, vendor).gaia_generate(KEEP, context())

    assert vendor.requests == 0
