"""A stand-in for the hub, on this machine: real sockets, real huggingface_hub."""

import hashlib
import json
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import attrs
import pytest

GOOD_TOKEN = "hf_good"
FIRST, SECOND = "1" * 40, "2" * 40
"""Two commits."""


def safetensors(seed: int = 0, length: int = 1024) -> bytes:
    """Give a sound file with one tensor."""
    data = bytes((seed + place) % 251 for place in range(length))
    tensor = {"dtype": "U8", "shape": [length], "data_offsets": [0, length]}
    header = json.dumps({"weight": tensor}).encode()
    return struct.pack("<Q", len(header)) + header + data


def pipeline(seed: int = 0, **more: bytes) -> dict[str, bytes]:
    """Give a repository as the hub has them: what is needed, and much besides."""
    index = {
        "_class_name": "StableDiffusionXLPipeline",
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "force_zeros_for_empty_prompt": True,
        "image_encoder": [None, None],
    }
    half = safetensors(seed + 1)
    return {
        "README.md": b"# A model",
        "model_index.json": json.dumps(index).encode(),
        "everything.safetensors": safetensors(seed + 2),
        "scheduler/scheduler_config.json": b"{}",
        "text_encoder/config.json": b'{"a": 1}',
        "text_encoder/model.safetensors": safetensors(seed + 3),
        "text_encoder/model.fp16.safetensors": half,
        "text_encoder/pytorch_model.bin": b"\x80pickle",
        "text_encoder/model.onnx": b"onnx",
        "tokenizer/merges.txt": b"a b",
        "tokenizer/vocab.json": b'{"a": 0}',
        "unet/config.json": b'{"b": 2}',
        "unet/diffusion_pytorch_model.safetensors": safetensors(seed + 4, 50_000),
        "unet/diffusion_pytorch_model.fp16.safetensors": half,
        "unet/custom.py": b"raise SystemExit",
        "vae_1_0/diffusion_pytorch_model.safetensors": half,
        **more,
    }


NEEDED = (
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
)
"""What a pull of `pipeline` fetches."""


@attrs.define(eq=False, kw_only=True)
class Hub:
    """
    What the stand-in has, and how it behaves.

    Attributes:
        repositories: Repository to commit to path to contents; the last is the newest.
        gated: Repositories that are for holders of `GOOD_TOKEN`.
        cuts: Path to how many bytes come before the line breaks, once.
        failures: Path to the status that is answered instead of its contents.
        claims: Path to a size that is claimed for it.
        asked: Every request: method and path.
        tokens: Path to what was sent as authorisation, of the last request for it.
    """

    repositories: dict[str, dict[str, dict[str, bytes]]] = attrs.field(factory=dict)
    gated: set[str] = attrs.field(factory=set)
    cuts: dict[str, int] = attrs.field(factory=dict)
    failures: dict[str, int] = attrs.field(factory=dict)
    claims: dict[str, int] = attrs.field(factory=dict)
    asked: list[tuple[str, str]] = attrs.field(factory=list)
    tokens: dict[str, str | None] = attrs.field(factory=dict)
    address: str = ""

    def fetched(self) -> list[str]:
        """Name the files whose contents were asked for, in order."""
        marks = ("/resolve/", "/cdn/")
        return [
            "/".join(
                path.split("/")[5:] if "/resolve/" in path else path.split("/")[3:]
            )
            for method, path in self.asked
            if method == "GET" and any(mark in path for mark in marks)
        ]


@contextmanager
def running() -> Iterator[Hub]:
    """Run a stand-in."""
    hub = Hub()
    handler = type("Bound", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        hub.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def told_of(monkeypatch: pytest.MonkeyPatch, repository: str) -> Iterator[Hub]:
    """Run one with a repository of one commit, where huggingface_hub asks it."""
    for name in ("HF_TOKEN", "HUGGING_FACE_KEY", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        hub.repositories[repository] = {FIRST: pipeline()}
        yield hub


class _RefusedError(Exception):
    """Answered with a status and the hub's own code for it."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(code)
        self.status, self.code = status, code


class _Handler(BaseHTTPRequestHandler):
    hub: ClassVar[Hub]
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        """Answer with the head only."""
        self._serve()

    def do_GET(self) -> None:
        """Answer."""
        self._serve()

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, path))
        self.hub.tokens[path] = self.headers.get("Authorization")
        words = path.strip("/").split("/")
        try:
            if words[:2] == ["api", "models"]:
                self._api("/".join(words[2:4]), words[4:])
            elif words[0] == "cdn":
                self._contents(*_split(self.hub, words[1:]))
            elif words[2:3] == ["resolve"]:
                self._resolve("/".join(words[:2]), words[3], "/".join(words[4:]))
            else:
                self._answer(HTTPStatus.NOT_FOUND, b"", {})
        except _RefusedError as error:
            head = {"X-Error-Code": error.code} if error.code else {}
            self._answer(error.status, b"", {**head, "X-Error-Message": error.code})

    def _files(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]]:
        commits = self.hub.repositories.get(repository)
        if commits is None:
            raise _RefusedError(HTTPStatus.UNAUTHORIZED, "RepoNotFound")
        commit = list(commits)[-1] if revision == "main" else revision
        if commit not in commits:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "RevisionNotFound")
        return commit, commits[commit]

    def _api(self, repository: str, rest: list[str]) -> None:
        commit, files = self._files(repository, rest[1] if len(rest) > 1 else "main")
        if rest[:1] != ["tree"]:
            document: Any = {"id": repository, "sha": commit, "siblings": []}
        else:
            document = [self._entry(path, data) for path, data in files.items()]
            document.append({"type": "directory", "path": "unet", "oid": "0" * 40})
        body = json.dumps(document).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _entry(self, path: str, data: bytes) -> dict[str, Any]:
        size = self.hub.claims.get(path, len(data))
        entry = {"type": "file", "path": path, "size": size, "oid": _blob(data)}
        if _is_large(path):
            entry["lfs"] = {"oid": _sha256(data), "size": size, "pointerSize": 130}
        return entry

    def _resolve(self, repository: str, revision: str, path: str) -> None:
        commit, files = self._files(repository, revision)
        is_let_in = self.headers.get("Authorization") == f"Bearer {GOOD_TOKEN}"
        if repository in self.hub.gated and not is_let_in:
            raise _RefusedError(HTTPStatus.FORBIDDEN, "GatedRepo")
        if path not in files:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "EntryNotFound")
        data = files[path]
        head = {"X-Repo-Commit": commit}
        if not _is_large(path):
            self._contents(path, data, {**head, "ETag": f'"{_blob(data)}"'})
            return
        port = self.server.server_address[1]
        # Another host than the hub's own, as its content network is.
        where = f"http://localhost:{port}/cdn/{_sha256(data)}/{path}"
        large = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{_sha256(data)}"'}
        self._answer(HTTPStatus.FOUND, b"", {**head, **large, "Location": where})

    def _contents(
        self, path: str, data: bytes, head: Mapping[str, str] | None = None
    ) -> None:
        if self.command == "GET" and path in self.hub.failures:
            raise _RefusedError(self.hub.failures[path])
        begin = 0
        if asked := self.headers.get("Range"):
            begin = int(asked.removeprefix("bytes=").partition("-")[0])
        status = HTTPStatus.PARTIAL_CONTENT if begin else HTTPStatus.OK
        more = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        cut = self.hub.cuts.pop(path, None) if self.command == "GET" else None
        self._answer(status, data[begin:], {**(head or {}), **more}, cut=cut)

    def _answer(
        self, status: int, body: bytes, head: Mapping[str, str], cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in head.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
            self.close_connection = cut is not None


def _split(hub: Hub, words: list[str]) -> tuple[str, bytes]:
    """Find contents by the digest in their address."""
    path = "/".join(words[1:])
    found = (
        files[path]
        for commits in hub.repositories.values()
        for files in commits.values()
        if path in files and _sha256(files[path]) == words[0]
    )
    return path, next(found)


def _is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".onnx"))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()  # noqa: S324  as git does
