"""
The hub: what it has, fetching it, and what its refusals mean.

Only `gaia_flux.pulling` asks it.
"""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import attrs

from gaia_core import GaiaError, Secret
from gaia_flux import pins
from gaia_flux.models import ModelSpec
from gaia_flux.weights import WeightsError

Tell = Callable[[int, int], None]
"""Takes how many bytes of how many are here."""


class PullError(GaiaError):
    """A model cannot be pulled; the sentence says why, and what to do."""

    suggested_action = "check_settings"


@attrs.frozen(kw_only=True)
class RemoteFile:
    """
    One file of a repository.

    Attributes:
        size: Its length in bytes.
        blob: What the hub's cache names its contents by.
    """

    size: int
    blob: str


@attrs.frozen(kw_only=True)
class Part:
    """
    What is fetched of one repository.

    Attributes:
        repository: Which.
        commit: Of which commit.
        files: Path to the file.
    """

    repository: str
    commit: str
    files: Mapping[str, RemoteFile]

    def missing(self, home: Path | None) -> dict[str, RemoteFile]:
        """Give what is not in the hub's cache, of this or another commit."""
        folder = pins.snapshot(self.repository, self.commit, home)
        blobs = folder.parent.parent / "blobs"
        return {
            name: file
            for name, file in self.files.items()
            if not (folder / name).exists() and not (blobs / file.blob).exists()
        }


class Meter:
    """Adds up bytes over all files of a pull."""

    def __init__(self, *, tell: Tell, total: int) -> None:
        """Begin at nothing."""
        self.tell, self.total, self.here = tell, total, 0

    def add(self, count: int) -> None:
        """Count bytes; less than none where some come a second time."""
        self.here += count
        self.tell(self.here, self.total)


def _bar_of(meter: Meter) -> type:
    """Give huggingface_hub a progress bar that only counts."""

    class Bar:
        total: int | None = None

        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            self.n = 0
            self.update(initial)

        def update(self, count: float | None = 1) -> None:
            self.n += int(count or 0)
            if count:
                meter.add(int(count))

        def update_transfer(self, count: float | None = 1) -> None:
            """Pass over what came compressed: the files themselves are counted."""

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *_, **__: None

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    return Bar


@attrs.define(eq=False, kw_only=True)
class Hub:
    """
    The hub, asked with huggingface_hub.

    Attributes:
        home: The cache that files go to.
        token: What it is asked with.
    """

    home: Path | None
    token: Secret | None = None

    @property
    def _how(self) -> dict[str, Any]:
        token = self.token.reveal() if self.token else None
        endpoint = os.environ.get("HF_ENDPOINT") or None
        return {"token": token, "endpoint": endpoint, "library_name": "gaia-flux"}

    def newest(self, repository: str) -> str:
        """Ask for the newest commit of the main branch."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - half a second

        return _checked_commit(HfApi(**self._how).model_info(repository).sha)

    def files(self, repository: str, commit: str) -> dict[str, RemoteFile]:
        """List the files of a commit."""
        from huggingface_hub import HfApi  # noqa: PLC0415 - as above
        from huggingface_hub.hf_api import RepoFile  # noqa: PLC0415 - as above

        tree = HfApi(**self._how).list_repo_tree(
            repository, recursive=True, revision=commit
        )
        return {
            one.path: RemoteFile(
                size=one.size, blob=one.lfs.sha256 if one.lfs else one.blob_id
            )
            for one in tree
            if isinstance(one, RepoFile)
        }

    def fetch(self, part: Part, meter: Meter | None = None) -> None:
        """
        Fetch files into the cache, one after the other: Ctrl-C stops at once.

        Each comes under another name first, so that what is there is whole.
        """
        from huggingface_hub import hf_hub_download  # noqa: PLC0415 - as above

        counted = meter or Meter(tell=lambda _, __: None, total=0)
        for name, file in part.files.items():
            before = counted.here
            hf_hub_download(
                part.repository,
                name,
                revision=part.commit,
                cache_dir=pins.hub_cache(self.home),
                tqdm_class=_bar_of(counted),
                **self._how,
            )
            counted.add(before + file.size - counted.here)


def _checked_commit(commit: object) -> str:
    if not isinstance(commit, str) or not pins.COMMIT.fullmatch(commit):
        message = f"The hub names no commit, but {commit!r}: is HF_ENDPOINT a hub?"
        raise PullError(message)
    return commit


@contextmanager
def explained(spec: ModelSpec, repository: str) -> Iterator[None]:
    """Say what an answer of the hub means, and what to do about it."""
    try:
        yield
    except PullError:
        raise
    except WeightsError as error:
        raise PullError(str(error)) from error
    except Exception as error:
        words = _words(error, spec, repository)
        if words is None:
            raise
        raise PullError(words) from error


def _words(error: Exception, spec: ModelSpec, repository: str) -> str | None:
    return _answer(error, spec, repository) or _failure(error, spec)


def _answer(error: Exception, spec: ModelSpec, repository: str) -> str | None:
    """Say what the hub means by its answer; None: there was none."""
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    status = getattr(getattr(error, "response", None), "status_code", None)
    page = f"https://huggingface.co/{repository}"
    advice = "set HF_TOKEN, or `token` in [providers.flux]"
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{spec.name} is for those who accepted its licence "
            f"({spec.licence or 'see its page'}): do so on {page}, then {advice}"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no such commit: look at {page}/commits/main"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{repository} is not on the hub, or not for everybody: {advice}"
    if status in {401, 403}:
        return f"The hub refuses the token for {repository} ({status}): {advice}"
    if status is not None:
        return f"The hub answered {status} for {repository}: pull again later"
    return None


def _failure(error: Exception, spec: ModelSpec) -> str | None:
    """Say why there was no answer, or why it could not be kept."""
    from huggingface_hub import errors  # noqa: PLC0415 - as above

    number = getattr(error, "errno", None)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"{spec.id} cannot be pulled while HF_HUB_OFFLINE is set: unset it"
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return f"The disk is full before all of {spec.id} was here: make room"
    if number in {errno.EACCES, errno.EROFS, errno.EPERM}:
        where = getattr(error, "filename", None) or "The hub's cache"
        return f"{where} cannot be written: set `home` in [providers.flux]"
    # hf_xet, which fetches large files, fails with plain `RuntimeError`s.
    broken = (errors.HTTPError, errors.XetDownloadError, OSError, RuntimeError)
    if isinstance(error, broken):
        return (
            f"The hub cannot be reached, or broke off ({type(error).__name__}): pull "
            f"{spec.id} again; whole files that are here are not fetched again"
        )
    return None
