"""The front door for clients of AUTOMATIC1111."""

from typing import Any, cast

from fastapi import APIRouter, Request, Response

from gaia_core.capabilities import Capability
from gaia_core.responses import DescriptionResponse, ImageResponse
from gaia_core.responses import Response as CoreResponse
from gaia_core.server.access import Maker, Principal, Reader
from gaia_core.server.answers import Writer, headers_of
from gaia_core.server.asking import serve
from gaia_core.server.dialects import write_json
from gaia_core.server.model_names import AUTO, DRAWING, names_of
from gaia_core.server.routes.automatic1111 import answers, work
from gaia_core.server.routes.automatic1111.answers import Listed
from gaia_core.server.routes.automatic1111.dialect import WebUiRoute
from gaia_core.server.schemas.automatic1111 import (
    ExtraIn,
    Img2ImgIn,
    InterrogateIn,
    RembgIn,
    Txt2ImgIn,
    WebUiCaptionOut,
    WebUiImageOut,
    WebUiImagesOut,
    WebUiProblemOut,
    WebUiProgressOut,
)
from gaia_core.server.site import Site, SiteDep
from gaia_core.server.waiting import while_connected

_PROBLEM: dict[str, Any] = {"model": WebUiProblemOut, "description": "What is wrong."}

routes = APIRouter(
    route_class=WebUiRoute,
    tags=["AUTOMATIC1111"],
    responses=dict.fromkeys(("4XX", "429", "503", "5XX"), _PROBLEM),
)

_FIXED: dict[str, Any] = {
    "sd_checkpoint_hash": "",
    "sd_vae": "Automatic",
    "CLIP_stop_at_last_layers": 1,
    "samples_format": "png",
}
"""Options that are what they are."""
_EMPTY_LISTS = (
    *("sd-vae", "sd-modules", "loras", "styles", "prompt-styles", "hypernetworks"),
    *("face-restorers", "realesrgan-models", "latent-upscale-modes", "script-info"),
    "extensions",
)
"""What clients ask for when they start, and what there is none of here."""


@routes.post("/sdapi/v1/txt2img", responses={200: {"model": WebUiImagesOut}})
async def txt2img(
    body: Txt2ImgIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Make pictures from words."""
    return await _drawn(body, request, site, principal)


@routes.post("/sdapi/v1/img2img", responses={200: {"model": WebUiImagesOut}})
async def img2img(
    body: Img2ImgIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Make pictures from a picture, all over or where a mask is white."""
    return await _drawn(body, request, site, principal)


@routes.post("/sdapi/v1/extra-single-image", responses={200: {"model": WebUiImageOut}})
async def extra_single_image(
    body: ExtraIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Enlarge a picture, or cut its subject out."""
    task = await work.finishing(body, http=request, site=site, principal=principal)
    response = await _images(task, request, site, principal)
    writer = Writer.to(request, site, principal)
    written = await answers.finished(
        response, task, writer, is_shown=body.show_extras_results
    )
    return write_json(written, headers=headers_of(response))


@routes.post("/rembg", responses={200: {"model": WebUiImageOut | None}})
async def rembg(
    body: RembgIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Cut the subject out, as the rembg extension does."""
    if body.model in ("", "None"):
        return write_json(None)
    task = await work.cutting_out(body, http=request, site=site, principal=principal)
    response = await _images(task, request, site, principal)
    writer = Writer.to(request, site, principal)
    written = await answers.subject(response, task, writer, is_mask=body.return_mask)
    return write_json(written, headers=headers_of(response))


@routes.post("/sdapi/v1/interrogate", responses={200: {"model": WebUiCaptionOut}})
async def interrogate(
    body: InterrogateIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Say in words what a picture shows."""
    task = await work.describing(body, http=request, site=site, principal=principal)
    response = await _served(task, request, site, principal)
    described = cast("DescriptionResponse", response)
    return write_json(
        {"caption": described.description, "gaia": answers.gaia(described, task)}
    )


@routes.get("/sdapi/v1/progress", responses={200: {"model": WebUiProgressOut}})
async def progress(
    site: SiteDep, principal: Reader, *, skip_current_image: bool = False
) -> Response:
    """Say how far the caller's latest request is."""
    job = site.watched.latest(principal.name)
    count = site.watched.count(principal.name)
    return write_json(answers.progress(job, count, is_shown=not skip_current_image))


@routes.post("/sdapi/v1/interrupt")
async def interrupt(site: SiteDep, principal: Maker) -> Response:
    """Stop what the caller has under way; what was sent is kept and charged."""
    site.webui.interrupt(principal.name)
    return write_json({})


@routes.post("/sdapi/v1/skip")
async def skip(site: SiteDep, principal: Maker) -> Response:
    """Stop what the caller has under way, as `interrupt` does."""
    site.webui.interrupt(principal.name)
    return write_json(None)


@routes.get("/sdapi/v1/options")
async def options(site: SiteDep, principal: Reader) -> Response:
    """Give the few options there are."""
    return write_json(_options(site, principal))


@routes.post("/sdapi/v1/options")
async def set_options(
    body: dict[str, Any], site: SiteDep, principal: Maker
) -> Response:
    """Choose the model for this caller's requests; nothing else can be changed."""
    current = _options(site, principal)
    for name, value in body.items():
        if name != work.CHECKPOINT and current.get(name) != value:
            raise work.refused(name[:64], "cannot be changed from here")
    if (chosen := body.get(work.CHECKPOINT)) is not None:
        await work.addressed_by(chosen, work.CHECKPOINT, site)
        site.webui.choose(principal.name, chosen or AUTO)
    return write_json(None)


@routes.get("/sdapi/v1/sd-models")
async def sd_models(site: SiteDep, _: Reader) -> Response:
    """List the models that draw here and now; ``auto`` leaves it to the policy."""
    listed = (await names_of(site.gaia)).listed(DRAWING)
    found = [Listed(name=name, label=one.name) for name, one in listed.items()]
    auto = Listed(name=AUTO, label="Automatic")
    return write_json([one.checkpoint() for one in (auto, *found)])


@routes.post("/sdapi/v1/refresh-checkpoints")
async def refresh_checkpoints(site: SiteDep, _: Maker) -> Response:
    """Ask the vendors which models they have today."""
    await site.gaia.models(refresh=True)
    return write_json(None)


@routes.get("/sdapi/v1/upscalers")
async def upscalers(site: SiteDep, _: Reader) -> Response:
    """List what enlarges, and what cuts out."""
    names = await names_of(site.gaia)
    found = [Listed(name="None", label="Automatic")]
    found += [
        Listed(name=name, label=one.name)
        for name, one in names.listed([Capability.UPSCALING]).items()
    ]
    if names.listed([Capability.BACKGROUND_REMOVAL]):
        found.append(Listed(name=work.CUTTING_OUT, label=work.CUTTING_OUT))
    return write_json([one.upscaler() for one in found])


@routes.get("/sdapi/v1/samplers")
async def samplers(_: Reader) -> Response:
    """List one: every provider has its own."""
    return write_json([{"name": "Automatic", "aliases": ["automatic"], "options": {}}])


@routes.get("/sdapi/v1/schedulers")
async def schedulers(_: Reader) -> Response:
    """List one: every provider has its own."""
    automatic = {"name": "automatic", "label": "Automatic", "aliases": None}
    return write_json([{**automatic, "default_rho": -1.0, "need_inner_model": False}])


@routes.get("/sdapi/v1/scripts")
async def scripts(_: Reader) -> Response:
    """List none."""
    return write_json({"txt2img": [], "img2img": []})


@routes.get("/sdapi/v1/embeddings")
async def embeddings(_: Reader) -> Response:
    """List none."""
    return write_json({"loaded": {}, "skipped": {}})


@routes.get("/sdapi/v1/cmd-flags")
async def cmd_flags(_: Reader) -> Response:
    """Say that there is an API; how the server was started is nobody's business."""
    return write_json({"api": True})


@routes.get("/sdapi/v1/memory")
async def memory(_: Reader) -> Response:
    """Say nothing of this machine, in the form that clients expect."""
    return write_json(
        {"ram": {"error": "unavailable"}, "cuda": {"error": "unavailable"}}
    )


async def nothing(_: Reader) -> Response:
    """List nothing: there is none of it here."""
    return write_json([])


for _name in _EMPTY_LISTS:
    routes.add_api_route(f"/sdapi/v1/{_name}", nothing, methods=["GET"])


async def _drawn(
    body: Txt2ImgIn | Img2ImgIn, request: Request, site: Site, principal: Principal
) -> Response:
    task = await work.drawing(body, http=request, site=site, principal=principal)
    response = await _images(task, request, site, principal)
    writer = Writer.to(request, site, principal)
    written = await answers.drawn(response, task, body, writer)
    return write_json(written, headers=headers_of(response))


async def _images(
    task: work.Task, request: Request, site: Site, principal: Principal
) -> ImageResponse:
    response = await _served(task, request, site, principal)
    return cast("ImageResponse", response)


async def _served(
    task: work.Task, request: Request, site: Site, principal: Principal
) -> CoreResponse:
    working = site.webui.interruptible(principal.name, serve(task.order, site))
    response = await while_connected(request, working)
    request.state.gaia_operation = response.operation_id
    return response


def _options(site: Site, principal: Principal) -> dict[str, Any]:
    return {work.CHECKPOINT: site.webui.checkpoint(principal.name), **_FIXED}
