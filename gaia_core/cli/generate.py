"""``gaia generate``: pictures from words."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from gaia_core.cli.options import (
    Choices,
    parse_outpaint,
    parse_size,
    work_options,
)
from gaia_core.cli.pictures import (
    check_one_reader,
    check_output,
    read_picture,
    read_text,
)
from gaia_core.cli.results import output_option, show_images
from gaia_core.cli.sessions import Session
from gaia_core.cli.work import serve
from gaia_core.images import Image
from gaia_core.requests import GenerateRequest, Outpaint

T = TypeVar("T")

LABEL = "Generating"
EXAMPLES = """\b
gaia generate "a red dragon over a ruined keep" -o dragon.png
gaia generate "a tavern at night" -n 3 --max-cost 0.05 --dry-run
gaia generate "in winter" --image keep.png --strength 0.6 -o winter.png
"""


@click.command(epilog=EXAMPLES)
@click.argument("prompt")
@click.option(
    "--size",
    metavar="WIDTHxHEIGHT",
    help="Pixels of the result; 1024x1024, or as large as --image.",
)
@click.option(
    "-n", "num_images", type=int, default=1, metavar="COUNT", help="How many pictures."
)
@click.option("--seed", type=int, help="Makes the result repeatable.")
@click.option(
    "--negative", "negative_prompt", metavar="TEXT", help="What to leave out."
)
@click.option(
    "--steps", "num_inference_steps", type=int, help="Number of denoising steps."
)
@click.option(
    "--guidance", "guidance_scale", type=float, help="How closely to follow PROMPT."
)
@click.option("--style", metavar="TEXT", help="Art style, such as 'fantasy art'.")
@click.option("--image", metavar="FILE", help="Start from this picture; - is stdin.")
@click.option("--strength", type=float, help="How far to leave --image, 0 to 1.")
@click.option(
    "--mask", metavar="FILE", help="Repaint --image where this is white; - is stdin."
)
@click.option(
    "--outpaint",
    metavar="SIDE=PIXELS,…",
    help="Extend --image: left=256,right=256.",
)
@click.option(
    "--reference",
    "references",
    multiple=True,
    metavar="FILE",
    help="Imitate this picture. May be repeated.",
)
@output_option
@work_options
@click.pass_obj
def generate(
    session: Session,
    /,
    choices: Choices,
    prompt: str,
    output: str | None,
    **given: Any,
) -> int:
    """
    Make pictures from words.

    PROMPT is text; - reads it from standard input.
    """
    check_one_reader(
        {
            "PROMPT": prompt,
            "--image": given["image"],
            "--mask": given["mask"],
            "--reference": given["references"],
        }
    )
    request = build_request(read_text(prompt), given, choices)
    if not choices.is_dry_run:
        check_output(output, num_images=request.num_images, is_json=choices.is_json)
    is_numbered = request.num_images > 1
    show = show_images(output, is_numbered=is_numbered, is_json=choices.is_json)
    return serve(session, request, choices, LABEL, show)


def build_request(
    prompt: str, given: Mapping[str, Any], choices: Choices
) -> GenerateRequest:
    """Turn the options into a request, reading the pictures they name."""
    fields = dict(given)
    size, references = fields.pop("size"), fields.pop("references")
    image = _unless_none(read_picture, fields.pop("image"))
    outpaint = _unless_none(parse_outpaint, fields.pop("outpaint"))
    width, height = natural_size(image, outpaint) if size is None else parse_size(size)
    return GenerateRequest(
        prompt=prompt,
        width=width,
        height=height,
        image=image,
        mask_image=_unless_none(read_picture, fields.pop("mask")),
        outpaint=outpaint,
        reference_images=map(read_picture, references),
        **fields,
        **choices.request_fields,
    )


def _unless_none(read: Callable[[str], T], text: str | None) -> T | None:
    """Read a value; an empty text is given, and wrong, not left out."""
    return None if text is None else read(text)


def natural_size(image: Image | None, outpaint: Outpaint | None) -> tuple[int, int]:
    """Give the size of a result nobody gave: the picture's, borders included."""
    if image is None:
        return 1024, 1024
    if outpaint is None:
        return image.width, image.height
    return (
        image.width + outpaint.left + outpaint.right,
        image.height + outpaint.top + outpaint.bottom,
    )
