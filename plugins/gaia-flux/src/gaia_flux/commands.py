"""``gaia flux``: fetch models, and see which are here."""

import difflib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gaia_core import Secret
from gaia_core.cli.tables import clean, print_table
from gaia_core.cli.writing import print_json, print_line, say
from gaia_flux import pins, weights
from gaia_flux.models import ModelSpec


def commands_of(
    specs: Mapping[str, ModelSpec],
    *,
    home: Path | None = None,
    token: Secret | None = None,
) -> list[click.Command]:
    """
    Give the commands of this room: one group of two.

    Args:
        specs: The models there are, by their identifier.
        home: The hub's cache.
        token: The hub's token.
    """

    @click.group("flux", help="Fetch local models, and see which are here.")
    def flux() -> None:
        pass

    flux.add_command(_pull(specs, home, token))
    flux.add_command(_list(specs, home))
    return [flux]


# -- pull ---------------------------------------------------------------------------


def _pull(
    specs: Mapping[str, ModelSpec], home: Path | None, token: Secret | None
) -> click.Command:
    @click.command("pull")
    @click.argument("model")
    @click.option(
        "--revision", metavar="COMMIT", help="Fetch this commit, and load it."
    )
    @click.option(
        "--upgrade", "is_upgrade", is_flag=True, help="Fetch the newest commit."
    )
    def pull(model: str, revision: str | None, *, is_upgrade: bool) -> None:
        """
        Fetch MODEL from the hub.

        The commit that was fetched is loaded from then on, until --upgrade.
        """
        from gaia_flux import pulling  # noqa: PLC0415 - only where it is used

        if revision is not None and is_upgrade:
            message = "--revision and --upgrade exclude each other: give one."
            raise click.UsageError(message)
        spec = _spec(specs, model)
        with progress_of(spec.id) as tell:
            place = pulling.pull(
                spec,
                home=home,
                token=token,
                revision=revision,
                is_upgrade=is_upgrade,
                say=lambda words: say(clean(words)),
                tell=tell,
            )
        lacking = weights.lacking(place)
        word = f"here, but cannot be loaded ({lacking})" if lacking else "ready"
        print_line(clean(f"{spec.id} is {word}: {place.file or place.folder}"))

    return pull


def _spec(specs: Mapping[str, ModelSpec], name: str) -> ModelSpec:
    """Find a model by its identifier or another of its names."""
    names = {alias: one for one in specs.values() for alias in one.aliases} | {**specs}
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name, names, n=1)
    advice = f"Did you mean {near[0]!r}?" if near else "`gaia flux list` shows them."
    message = f"There is no model {clean(name)!r}. {advice}"
    raise click.BadParameter(message, param_hint="MODEL")


@contextmanager
def progress_of(label: str) -> Iterator[Callable[[int, int], None]]:
    """Draw a bar where a person sees it."""
    if not sys.stderr.isatty():
        yield lambda _, __: None
        return
    from rich import progress  # noqa: PLC0415 - 60 ms
    from rich.console import Console  # noqa: PLC0415 - 60 ms

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(clean(label), total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


# -- list ---------------------------------------------------------------------------


def _list(specs: Mapping[str, ModelSpec], home: Path | None) -> click.Command:
    @click.command("list")
    @click.option("--json", "is_json", is_flag=True, help="Print JSON.")
    def list_(*, is_json: bool) -> None:
        """List the models, with their licence and whether they are here."""
        shapes = [_shape(spec, home) for spec in specs.values()]
        if is_json:
            print_json({"models": shapes})
            return
        print_table(("Model", "State", "Commit", "Licence", "From"), _rows(shapes))
        for one in shapes:
            if one["lacking"]:
                say(clean(f"{one['id']} cannot be loaded: {one['lacking']}."))
        say(clean(f"Models lie in {pins.hub_cache(home)}."))

    return list_


def _shape(spec: ModelSpec, home: Path | None) -> dict[str, Any]:
    place = weights.locate(spec, home=home)
    pin = pins.known(home).get(spec.id)
    source = spec.source
    return {
        "id": spec.id,
        "name": spec.name,
        "aliases": list(spec.aliases),
        "family": spec.family,
        "licence": spec.licence,
        "is_gated": spec.is_gated,
        "repository": source.repository,
        "file": source.file,
        "path": None if source.path is None else str(source.path),
        "state": _state(place, pin, source.path),
        "lacking": None if place is None else weights.lacking(place),
        "revision": place.revision if place else source.revision,
    }


def _state(place: weights.Place | None, pin: pins.Pin | None, path: Path | None) -> str:
    if place is not None:
        return "on disk"
    return "absent" if pin is None or path is not None else "incomplete"


def _rows(shapes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in shapes:
        gate = " (to be accepted)" if one["is_gated"] else ""
        yield (
            one["id"],
            one["state"],
            (one["revision"] or "-")[:12],
            f"{one['licence'] or 'unknown'}{gate}",
            one["path"] or "/".join(filter(None, (one["repository"], one["file"]))),
        )
