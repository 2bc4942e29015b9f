"""``gaia upscale`` and ``gaia remove-background``: a picture from a picture."""

import click

from gaia_core.cli.options import Choices, work_options
from gaia_core.cli.pictures import check_output, read_picture
from gaia_core.cli.results import output_option, show_images
from gaia_core.cli.sessions import Session
from gaia_core.cli.work import serve
from gaia_core.requests import (
    UPSCALE_FACTORS,
    RemoveBackgroundRequest,
    Request,
    UpscaleRequest,
)


@click.command()
@click.argument("image")
@click.option(
    "--factor",
    type=click.Choice([str(factor) for factor in UPSCALE_FACTORS]),
    default="4",
    show_default=True,
    help="How many times as wide and high.",
)
@output_option
@work_options
@click.pass_obj
def upscale(
    session: Session, choices: Choices, image: str, factor: str, output: str | None
) -> int:
    """
    Enlarge a picture.

    IMAGE is a file; - reads it from standard input.
    """
    request = UpscaleRequest(
        image=read_picture(image),
        upscale_factor=int(factor),
        **choices.request_fields,
    )
    return _serve(session, request, choices, "Upscaling", output)


@click.command("remove-background")
@click.argument("image")
@output_option
@work_options
@click.pass_obj
def remove_background(
    session: Session, choices: Choices, image: str, output: str | None
) -> int:
    """
    Cut out the subject of a picture.

    IMAGE is a file; - reads it from standard input.
    """
    request = RemoveBackgroundRequest(
        image=read_picture(image), **choices.request_fields
    )
    return _serve(session, request, choices, "Cutting out", output)


def _serve(
    session: Session,
    request: Request,
    choices: Choices,
    label: str,
    output: str | None,
) -> int:
    if not choices.is_dry_run:
        check_output(output, num_images=1, is_json=choices.is_json)
    show = show_images(output, is_numbered=False, is_json=choices.is_json)
    return serve(session, request, choices, label, show)
