"""``gaia enhance`` and ``gaia describe``: words for a picture, and from one."""

import click

from gaia_core.cli.options import Choices, work_options
from gaia_core.cli.pictures import read_picture, read_text
from gaia_core.cli.results import show_words
from gaia_core.cli.sessions import Session
from gaia_core.cli.work import serve
from gaia_core.requests import DescribeImageRequest, EnhancePromptRequest


@click.command()
@click.argument("prompt")
@click.option(
    "--max-length",
    type=int,
    default=1_000,
    show_default=True,
    help="Longest answer, in characters.",
)
@work_options
@click.pass_obj
def enhance(session: Session, choices: Choices, prompt: str, max_length: int) -> int:
    """
    Work a prompt out into a better one.

    PROMPT is text; - reads it from standard input.
    """
    request = EnhancePromptRequest(
        prompt=read_text(prompt), max_length=max_length, **choices.request_fields
    )
    show = show_words(field="prompt", is_json=choices.is_json)
    return serve(session, request, choices, "Enhancing", show)


@click.command(context_settings={"allow_extra_args": True})
@click.argument("image")
@click.option("--question", metavar="TEXT", help="What to answer about it.")
@work_options
@click.pass_obj
def describe(
    session: Session, choices: Choices, image: str, question: str | None
) -> int:
    """
    Say what a picture shows.

    IMAGE is a file; - reads it from standard input.
    """
    for extra in click.get_current_context().args:
        message = f"Got an extra argument '{extra}'. A question goes into --question."
        raise click.UsageError(message)
    request = DescribeImageRequest(
        image=read_picture(image), question=question, **choices.request_fields
    )
    show = show_words(field="description", is_json=choices.is_json)
    return serve(session, request, choices, "Describing", show)
