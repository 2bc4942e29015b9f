"""Requests of AUTOMATIC1111's clients, on their way to the core."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import attrs
from fastapi import Request as HttpRequest

from gaia_core.images import Image
from gaia_core.requests import (
    MAX_NUM_IMAGES,
    MAX_SIDE,
    MIN_SIDE,
    UPSCALE_FACTORS,
    GenerateRequest,
)
from gaia_core.server import masks
from gaia_core.server.access import Principal
from gaia_core.server.asking import (
    Order,
    key_of,
    naming,
    order_of,
    own_fields,
    picture_of,
)
from gaia_core.server.model_names import AUTO, Addressed, names_of
from gaia_core.server.problems import RefusedError
from gaia_core.server.schemas.automatic1111 import (
    DrawingIn,
    ExtraIn,
    Img2ImgIn,
    InterrogateIn,
    RembgIn,
    Txt2ImgIn,
    WebUiIn,
)
from gaia_core.server.schemas.images import (
    DescribeIn,
    GenerateIn,
    PictureIn,
    RemoveBackgroundIn,
    UpscaleIn,
)
from gaia_core.server.site import Site

CHECKPOINT = "sd_model_checkpoint"
"""The option that names the model."""
CUTTING_OUT = "Remove background"
"""The upscaler that cuts the subject out."""
USUAL_UPSCALERS = (
    *("None", AUTO, "Lanczos", "Nearest", "LDSR", "BSRGAN", "ESRGAN_4x", "SwinIR 4x"),
    *("R-ESRGAN 4x+", "R-ESRGAN 4x+ Anime6B", "R-ESRGAN 2x+", "R-ESRGAN AnimeVideo"),
    *("R-ESRGAN General 4xV3", "R-ESRGAN General WDN 4xV3", "SwinIR_4x"),
    *("ScuNET GAN", "ScuNET PSNR", "ScuNET", "DAT x2", "DAT x3", "DAT x4"),
)
"""What clients call upscalers by habit: the policy takes one that is here."""

_NETWORK = re.compile(r"<(lora|lyco|hypernet):", re.IGNORECASE)
"""How a prompt of the web UI's names layers to load."""


@attrs.frozen(kw_only=True)
class Task:
    """
    One request of a client of the web UI.

    Attributes:
        order: What the core is asked for.
        ignored: What of the request is not heeded.
    """

    order: Order
    ignored: tuple[str, ...] = ()


async def drawing(
    body: Txt2ImgIn | Img2ImgIn, *, http: HttpRequest, site: Site, principal: Principal
) -> Task:
    """
    Take what a client wants drawn.

    Raises:
        RefusedError: If it can never be served; it names the client's fields.
    """
    width, height = _size_of(body)
    _check_drawing(body, max(width, height))
    name = body.override_settings.get(CHECKPOINT)
    name = site.webui.checkpoint(principal.name) if name is None else name
    addressed = await addressed_by(name, CHECKPOINT, site)
    image = body.init_images[0] if isinstance(body, Img2ImgIn) else None
    ours = GenerateIn(
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        seed=None if body.seed < 0 else body.seed,
        width=width,
        height=height,
        num_inference_steps=body.steps,
        guidance_scale=body.cfg_scale,
        n=body.batch_size * body.n_iter,
        image_base64=image,
        strength=body.denoising_strength if isinstance(body, Img2ImgIn) else None,
        campaign_id=body.campaign_id,
        model=addressed.model,
        provider=addressed.provider,
    )
    with called({"image_base64": "init_images", "image": "init_images"}):
        order = await order_of(ours, site=site, principal=principal, key=key_of(http))
    if isinstance(body, Img2ImgIn) and body.mask is not None:
        order = await _masked(order, body, site, principal)
    return Task(order=order, ignored=_ignored(body))


async def finishing(
    body: ExtraIn, *, http: HttpRequest, site: Site, principal: Principal
) -> Task:
    """
    Take what a client wants enlarged, or cut out.

    Raises:
        RefusedError: If it can never be served; it names the client's fields.
    """
    _check_fields(body)
    ignored = list(body.ignored)
    whole: dict[str, Any] = {
        "image_base64": body.image,
        "campaign_id": body.campaign_id,
    }
    ours: RemoveBackgroundIn | UpscaleIn
    if body.upscaler_1 == CUTTING_OUT:
        ours = RemoveBackgroundIn(**whole)
    else:
        if body.upscaler_1 in USUAL_UPSCALERS:
            addressed = Addressed()
            ignored += [] if body.upscaler_1 in ("None", AUTO) else ["upscaler_1"]
        else:
            addressed = await addressed_by(body.upscaler_1, "upscaler_1", site)
        factor = await _factor(body, site, principal)
        ours = UpscaleIn(upscale_factor=factor, **whole, **attrs.asdict(addressed))
    with called({"image_base64": "image", "upscale_factor": "upscaling_resize"}):
        order = await order_of(ours, site=site, principal=principal, key=key_of(http))
    return Task(order=order, ignored=tuple(ignored))


async def cutting_out(
    body: RembgIn, *, http: HttpRequest, site: Site, principal: Principal
) -> Task:
    """
    Take what a client wants cut out.

    Raises:
        RefusedError: If it can never be served; it names the client's fields.
    """
    _check_fields(body)
    names = await names_of(site.gaia)
    try:
        addressed = names.addressed(body.model)
    except RefusedError:
        # One of rembg's own, whichever: it says what to do, not who does it.
        addressed = Addressed()
    ours = RemoveBackgroundIn(
        image_base64=body.input_image,
        campaign_id=body.campaign_id,
        **attrs.asdict(addressed),
    )
    with called({"image_base64": "input_image", "image": "input_image"}):
        order = await order_of(ours, site=site, principal=principal, key=key_of(http))
    return Task(order=order, ignored=tuple(body.ignored))


async def describing(
    body: InterrogateIn, *, http: HttpRequest, site: Site, principal: Principal
) -> Task:
    """
    Take what a client wants described.

    Raises:
        RefusedError: If it can never be served; it names the client's fields.
    """
    _check_fields(body)
    ours = DescribeIn(image_base64=body.image)
    with called({"image_base64": "image"}):
        order = await order_of(ours, site=site, principal=principal, key=key_of(http))
    return Task(order=order)


@contextmanager
def called(names: Mapping[str, str]) -> Iterator[None]:
    """
    Name fields as the client wrote them.

    Args:
        names: Our name to theirs.
    """
    try:
        yield
    except RefusedError as error:
        error.details = tuple(
            (names.get(field, field), text) for field, text in error.details
        )
        raise


async def addressed_by(name: object, field: str, site: Site) -> Addressed:
    """
    Say who a name stands for.

    Args:
        name: What a client named.
        field: Where it did.
        site: The server.

    Raises:
        RefusedError: If it is nobody's.
    """
    names = await names_of(site.gaia)
    with called({"model": field}):
        if not isinstance(name, str):
            raise refused(field, "must be text")
        return names.addressed(name)


def refused(field: str, text: str) -> RefusedError:
    """Refuse a request for one of its fields."""
    return RefusedError(422, "invalid_request", details=[(field, text)])


def _check_fields(body: WebUiIn) -> None:
    if body.unknown:
        details = [(name[:64], "is no field that is known") for name in body.unknown]
        raise RefusedError(422, "invalid_request", details=details[:20])


def _check_drawing(body: DrawingIn, longest: int) -> None:
    """Refuse what would be something else without it."""
    _check_fields(body)
    details = tuple(_complaints(body))
    if longest > MAX_SIDE:
        details += (("hr_scale", f"makes it larger than {MAX_SIDE} pixels"),)
    if details:
        raise RefusedError(422, "invalid_request", details=details)


def _complaints(body: DrawingIn) -> Iterator[tuple[str, str]]:
    if not body.prompt.strip():
        yield "prompt", "is empty: say in words what you want"
    if body.batch_size * body.n_iter > MAX_NUM_IMAGES:
        yield "n_iter", f"times batch_size must be 1 to {MAX_NUM_IMAGES}"
    if body.script_name not in (None, "", "None"):
        yield "script_name", "names a script, and there are none here"
    for name, script in body.alwayson_scripts.items():
        if not _is_idle(script):
            yield f"alwayson_scripts.{name[:64]}", "is not to be had here"


def _is_idle(script: Any) -> bool:
    """Tell whether a script is only mentioned, and switched off."""
    arguments = script.get("args") if isinstance(script, dict) else script
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    return not (any(arguments) if isinstance(arguments, list) else arguments)


def _size_of(body: Txt2ImgIn | Img2ImgIn) -> tuple[int, int]:
    """Give the size of the result: enlarged by the second pass there is not here."""
    width, height = body.width, body.height
    if not isinstance(body, Txt2ImgIn) or not body.enable_hr:
        return width, height
    if body.hr_resize_x or body.hr_resize_y:
        wide = body.hr_resize_x or round(body.hr_resize_y * width / height)
        high = body.hr_resize_y or round(body.hr_resize_x * height / width)
        return max(wide, MIN_SIDE), max(high, MIN_SIDE)
    return round(width * body.hr_scale), round(height * body.hr_scale)


def _ignored(body: Txt2ImgIn | Img2ImgIn) -> tuple[str, ...]:
    """Say what of a request is not heeded, though it says something."""
    found = list(body.ignored)
    if isinstance(body, Img2ImgIn) and body.mask is not None and body.mask_blur:
        found.append("mask_blur")
    if body.sampler_name not in (None, "", "Automatic"):
        found.append("sampler_name")
    if _NETWORK.search(body.prompt):
        found.append("<lora:…> in prompt")
    found += [
        f"override_settings.{name[:64]}"
        for name, value in body.override_settings.items()
        if name != CHECKPOINT and value not in (None, "", [])
    ]
    return tuple(sorted(found))


async def _masked(
    order: Order, body: Img2ImgIn, site: Site, principal: Principal
) -> Order:
    request = cast("GenerateRequest", order.request)
    image = cast("Image", request.image)
    with called({"mask.image_base64": "mask"}):
        given = PictureIn(image_base64=body.mask)
        mask = await picture_of(given, site=site, principal=principal, field="mask.")
    with naming("mask"):
        white = await asyncio.to_thread(
            masks.from_brightness,
            mask,
            (image.width, image.height),
            is_inverted=bool(body.inpainting_mask_invert),
        )
    with own_fields():
        return attrs.evolve(order, request=attrs.evolve(request, mask_image=white))


async def _factor(body: ExtraIn, site: Site, principal: Principal) -> Any:
    """Say how many times as large it is to be."""
    factor, field = body.upscaling_resize, "upscaling_resize"
    if body.resize_mode == 1:
        with called({"image_base64": "image"}):
            given = PictureIn(image_base64=body.image)
            image = await picture_of(given, site=site, principal=principal)
        field = "upscaling_resize_w"
        factor = max(
            body.upscaling_resize_w / image.width,
            body.upscaling_resize_h / image.height,
        )
    if factor not in UPSCALE_FACTORS:
        raise refused(field, "must make it 2, 4 or 8 times as large")
    return int(factor)
