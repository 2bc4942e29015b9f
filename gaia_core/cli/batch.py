"""``gaia batch``: many requests from a file, carried out whatever happens."""

import itertools
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from gaia_core import Gaia, GaiaError, InvalidRequestError
from gaia_core.batches.service import AGAIN, MAX_CONCURRENT
from gaia_core.cli.batch_files import BatchFile, batch_file
from gaia_core.cli.batch_outputs import Copies, check_folder
from gaia_core.cli.batch_progress import batch_bar
from gaia_core.cli.batch_reports import (
    Report,
    interrupted,
    print_batches,
    resume_hint,
    shape_batch,
)
from gaia_core.cli.failures import ExitCode, advise
from gaia_core.cli.sessions import Session
from gaia_core.cli.writing import print_json, say
from gaia_core.ledger import Batch, BatchState, IdempotencyKey, OperationState

RUN = "run"
"""What ``gaia batch FILE`` is short for; nobody needs to type it."""
ROUTE = "batch"
"""What keys of batches are for."""
MAX_LISTED = 20
"""How many batches ``gaia batch status`` lists."""

UNKNOWN = frozenset({OperationState.UNKNOWN})
"""What is made again only if a person says so: it may be paid twice."""

Begin = Callable[[Gaia], Awaitable[Batch]]
"""Opens a batch, or finds one."""


class _RunContext(click.Context):
    """Calls the command by the words a person types."""

    @property
    def command_path(self) -> str:
        """Leave out the word that nobody types."""
        return self.parent.command_path if self.parent else super().command_path


class RunCommand(click.Command):
    """What ``gaia batch FILE`` does."""

    context_class = _RunContext


class BatchGroup(click.Group):
    """Takes whatever is no command for the name of a file."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in that need not be typed."""
        is_help = args[:1] and args[0] in ctx.help_option_names
        if args and not is_help and args[0] not in self.commands:
            args = [RUN, *args]
        return super().parse_args(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find a command; a file stands for the one that carries it out."""
        return super().get_command(ctx, cmd_name) or self.commands[RUN]

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Show the options of the command that need not be typed."""
        own = self.commands[RUN].get_params(ctx)
        options = [one for one in own if isinstance(one, click.Option)]
        records = [one.get_help_record(ctx) for one in options]
        with formatter.section("Options"):
            formatter.write_dl([record for record in records if record])
        self.format_commands(ctx, formatter)


def _follow_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the commands that carry a batch out."""
    for option in (
        click.option(
            "--json", "is_json", is_flag=True, help="Print one JSON document."
        ),
        click.option(
            "-o",
            "--output",
            metavar="DIR",
            help="Copy what is made into this folder, as 0001.png and so on.",
        ),
        click.option(
            "--max-concurrent",
            type=click.IntRange(1, 1_000),
            default=MAX_CONCURRENT,
            show_default=True,
            help="Most requests under way at a time.",
        ),
    ):
        command = option(command)
    return command


@click.group(cls=BatchGroup, subcommand_metavar="FILE | COMMAND [ARGS]...")
def batch() -> None:
    """
    Carry out many requests from a file, one on each line.

    FILE holds JSON: {"prompt": "a red dragon", "width": 512} on a line, or
    {"operation": "upscale", "image": "hero.png"}. Paths are relative to the file; -
    reads standard input. The same file again goes on where it was left, and pays
    for nothing twice.
    """


@batch.command(RUN, cls=RunCommand, hidden=True)
@click.argument("file")
@click.option(
    "--name", metavar="TEXT", help="What to call it; the file's name, unless said."
)
@click.option(
    "--key",
    metavar="TEXT",
    help="Recognise a repetition by this, instead of by what the file asks for.",
)
@click.option(
    "--again",
    "is_again",
    is_flag=True,
    help="Make it anew, even if it was done before.",
)
@_follow_options
@click.pass_obj
def run(  # noqa: PLR0913, PLR0917  one for each option
    session: Session,
    file: str,
    name: str | None,
    key: str | None,
    output: str | None,
    max_concurrent: int,
    *,
    is_again: bool,
    is_json: bool,
) -> int:
    """Carry out the requests of a file, or go on with them."""
    if is_again and key is not None:
        message = "--again makes a batch of its own, and --key finds one: choose."
        raise click.UsageError(message)
    wishes = _Wishes(
        max_concurrent=max_concurrent, folder=check_folder(output), is_json=is_json
    )
    commands = [name for name, one in batch.commands.items() if not one.hidden]
    with batch_file(file, commands=commands) as source:
        begin = _opening(source, name=name, key=key, is_again=is_again)
        return _carry_out(session, begin, wishes)


@batch.command()
@click.argument("batch_id", metavar="ID")
@click.option(
    "--failed",
    "is_failed",
    is_flag=True,
    help="Make again what failed or was cancelled, as a batch of its own.",
)
@click.option(
    "--unknown",
    "is_unknown",
    is_flag=True,
    help="Make again what has an unknown outcome: it may be paid twice.",
)
@_follow_options
@click.pass_obj
def resume(  # noqa: PLR0913  one for each option
    session: Session,
    batch_id: str,
    output: str | None,
    max_concurrent: int,
    *,
    is_failed: bool,
    is_unknown: bool,
    is_json: bool,
) -> int:
    """Go on with a batch where it was left, or make again what failed."""
    wishes = _Wishes(
        max_concurrent=max_concurrent, folder=check_folder(output), is_json=is_json
    )
    states = {*(AGAIN if is_failed else ()), *(UNKNOWN if is_unknown else ())}
    begin = partial(_known, batch_id=batch_id)
    if states:
        begin = partial(_repeated, batch_id=batch_id, states=states)
    return _carry_out(session, begin, wishes)


@batch.command()
@click.argument("batch_id", metavar="[ID]", required=False)
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def status(session: Session, batch_id: str | None, *, is_json: bool) -> int:
    """Show how a batch stands, or list the latest batches."""
    if batch_id is None:
        _show_latest(session, is_json=is_json)
    else:
        find = partial(_known, batch_id=batch_id)
        _show(session, find, is_json=is_json)
    return ExitCode.DONE


@batch.command()
@click.argument("batch_id", metavar="ID")
@click.option("--json", "is_json", is_flag=True, help="Print one JSON document.")
@click.pass_obj
def cancel(session: Session, batch_id: str, *, is_json: bool) -> int:
    """
    Call a batch off.

    What was not begun is not made and not paid; what was sent comes to its end,
    which vendors with batches of their own are told to bring about.
    """

    async def call_off(gaia: Gaia) -> Batch:
        await _known(gaia, batch_id)
        return await gaia.batches.cancel(batch_id)

    _show(session, call_off, is_json=is_json)
    return ExitCode.DONE


# -- beginning --------------------------------------------------------------------


def _opening(
    source: BatchFile, *, name: str | None, key: str | None, is_again: bool
) -> Begin:
    """Check the whole file, and give what opens the batch or finds it again."""
    words = source.digest()
    named = None if key is None else IdempotencyKey(key=key, route=ROUTE)

    async def begin(gaia: Gaia) -> Batch:
        if named is not None:
            before = await gaia.batches.find(named)
            next_key = named
        else:
            before, next_key = await _of_file(gaia, words)
        is_shown = before is not None and not (is_again and _has_ended(before))
        if before is not None and named is None and is_shown:
            say(_recognised(before, is_again=is_again))
            return before
        # A key of one's own must stand for these requests, and no others.
        opened = await gaia.batches.open(
            source.requests(), name=name or source.name, key=next_key
        )
        if before is not None and is_shown:
            say(_recognised(before, is_again=False))
        return opened

    return begin


async def _of_file(gaia: Gaia, digest: str) -> tuple[Batch | None, IdempotencyKey]:
    """
    Find the batch of what a file asks for: one that goes on, or else the newest.

    Returns:
        The batch, if there is any, and the key of the next one.
    """
    found: Batch | None = None
    for number in itertools.count(1):
        # What a person writes must not meet what a file says by itself.
        further = "" if number == 1 else f"#{number}"
        key = IdempotencyKey(key=f"content:{digest}{further}", route=ROUTE)
        batch = await gaia.batches.find(key)
        if batch is None:
            return found, key
        if found is None or _has_ended(found):
            found = batch
    raise AssertionError  # pragma: no cover  count() never ends


async def _repeated(
    gaia: Gaia, *, batch_id: str, states: Collection[OperationState]
) -> Batch:
    """Open the batch that makes again what another one did not make, or find it."""
    await _known(gaia, batch_id)
    opened = await gaia.batches.again(batch_id, states=states)
    if _has_ended(opened):
        say("All of it was made again already, in this batch:")
    else:
        what = "1 line" if opened.total == 1 else f"{opened.total} lines"
        say(f"Batch {opened.id} makes {what} of batch {batch_id} again.")
    return opened


def _has_ended(batch: Batch) -> bool:
    return batch.state is not BatchState.RUNNING


async def _known(gaia: Gaia, batch_id: str) -> Batch:
    found = await gaia.batches.get(batch_id)
    if found is None:
        message = f"There is no batch {batch_id!r}; `gaia batch status` lists them."
        raise InvalidRequestError(message)
    return found


def _recognised(found: Batch, *, is_again: bool) -> str:
    """Say that a batch was begun before, and what that means."""
    begun = f"This batch was begun on {found.created_at:%Y-%m-%d at %H:%M} UTC"
    if not _has_ended(found):
        later = " --again makes it anew once it has ended." if is_again else ""
        return f"{begun} and goes on; nothing is made twice.{later}"
    how = "was called off" if found.cancelled else "is finished"
    failed = f" `gaia batch resume {found.id} --failed` makes what failed."
    advice = failed if found.failed or found.cancelled else ""
    return f"{begun} and {how}; nothing is made again. --again makes it anew.{advice}"


# -- carrying out -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class _Wishes:
    """How a person wants a batch carried out."""

    max_concurrent: int
    folder: Path | None
    is_json: bool

    def command(self, session: Session, batch_id: str) -> list[str]:
        """Give the words that go on with a batch alike."""
        config, folder = session.config, self.folder
        is_usual = self.max_concurrent == MAX_CONCURRENT
        return [
            "gaia",
            *(("--config", str(config)) if config else ()),
            *(f"--set={name}={value}" for name, value in session.overrides.items()),
            *("batch", "resume", batch_id),
            *(("-o", str(folder)) if folder else ()),
            *(() if is_usual else ("--max-concurrent", str(self.max_concurrent))),
            *(("--json",) if self.is_json else ()),
        ]


def _carry_out(session: Session, begin: Begin, wishes: _Wishes) -> int:
    session.silence()
    begun: list[Batch] = []

    async def work(gaia: Gaia) -> Report:
        batch = await begin(gaia)
        begun.append(batch)
        copies = await Copies.of(gaia, batch, wishes.folder)
        await _follow(gaia, batch, wishes, copies)
        return await Report.of(
            gaia,
            await gaia.batches.get(batch.id) or batch,
            is_json=wishes.is_json,
            copies=copies,
        )

    try:
        report = session.run(work)
    except (GaiaError, KeyboardInterrupt) as error:
        if begun:
            _advise(session, error, begun[0], wishes)
        raise
    report.show()
    return report.exit_code


def _advise(
    session: Session, error: BaseException, batch: Batch, wishes: _Wishes
) -> None:
    """Say how far a batch is that was left, and how it goes on."""
    # Where the ledger is gone, how far it was when it began is better than nothing.
    with suppress(GaiaError):
        batch = session.look(partial(_known, batch_id=batch.id))
    hint = resume_hint(wishes.command(session, batch.id))
    advise(error, interrupted(batch), hint, batch_id=batch.id)


async def _follow(gaia: Gaia, batch: Batch, wishes: _Wishes, copies: Copies) -> None:
    """Carry a batch out and show how far it is."""
    # Whoever wants copies wants those of what was made before, too.
    after = batch.last_event if wishes.folder is None else 0
    events = gaia.batches.run(
        batch.id, max_concurrent=wishes.max_concurrent, after=after
    )
    with batch_bar(batch) as bar:
        async with aclosing(events):
            async for event in events:
                if event.kind == "done" and event.operation_id is not None:
                    await copies.take(gaia, event.operation_id)
                await bar.refresh(event, partial(gaia.batches.get, batch.id))


# -- looking ----------------------------------------------------------------------


def _show(session: Session, find: Begin, *, is_json: bool) -> None:
    session.silence()

    async def work(gaia: Gaia) -> Report:
        return await Report.of(gaia, await find(gaia), is_json=is_json)

    session.look(work).show()


def _show_latest(session: Session, *, is_json: bool) -> None:
    session.silence()

    async def work(gaia: Gaia) -> Sequence[Batch]:
        return await gaia.batches.latest(MAX_LISTED)

    found = session.look(work)
    if is_json:
        print_json({"batches": [shape_batch(one) for one in found]})
    elif found:
        print_batches(found)
    else:
        say("There is no batch yet.")
