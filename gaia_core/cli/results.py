"""Showing what came back: pictures by their path, words as they are."""

import functools
from typing import cast

import click

from gaia_core.cli.pictures import PIPE, write_outputs
from gaia_core.cli.shapes import shape_result
from gaia_core.cli.tables import clean
from gaia_core.cli.work import Show
from gaia_core.cli.writing import print_json, print_line
from gaia_core.responses import ImageResponse, Response

output_option = click.option(
    "-o",
    "--output",
    metavar="PATH",
    help="Write here: a file, a folder ending in /, or - for standard output.",
)


def show_images(output: str | None, *, is_numbered: bool, is_json: bool) -> Show:
    """Give what writes the pictures of a response and prints where they are."""
    return functools.partial(
        _show_images, output=output, is_numbered=is_numbered, is_json=is_json
    )


def show_words(*, field: str, is_json: bool) -> Show:
    """Give what prints the words of a response."""
    return functools.partial(_show_words, field=field, is_json=is_json)


def _show_images(
    response: Response, *, output: str | None, is_numbered: bool, is_json: bool
) -> None:
    images = cast("ImageResponse", response).images
    outputs = write_outputs(output, images, is_numbered=is_numbered)
    if is_json:
        print_json(shape_result(response, outputs))
    elif output != PIPE:
        for image in images:
            print_line(outputs.get(image.id, str(image.path)))


def _show_words(response: Response, *, field: str, is_json: bool) -> None:
    if is_json:
        print_json(shape_result(response))
        return
    for line in str(getattr(response, field)).splitlines():
        print_line(clean(line))
