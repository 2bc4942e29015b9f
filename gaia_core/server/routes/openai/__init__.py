"""The front door for clients of OpenAI's Images API."""

from typing import Any

from fastapi import APIRouter, Request, Response

from gaia_core.catalog import ModelInfo
from gaia_core.server import live
from gaia_core.server.access import Maker, Reader
from gaia_core.server.answers import Writer, headers_of
from gaia_core.server.dialects import write_json
from gaia_core.server.model_names import AUTO, DRAWING, names_of
from gaia_core.server.problems import RefusedError
from gaia_core.server.routes.openai.answers import Answers
from gaia_core.server.routes.openai.dialect import REQUEST_ID, OpenAIRoute
from gaia_core.server.routes.openai.forms import described_form, read_edit
from gaia_core.server.routes.openai.streaming import stream
from gaia_core.server.routes.openai.work import Job, job_of, response_to
from gaia_core.server.schemas.openai import (
    GenerationsIn,
    OpenAIImagesOut,
    OpenAIModelOut,
    OpenAIModelsOut,
    OpenAIProblemOut,
)
from gaia_core.server.site import Site, SiteDep
from gaia_core.server.waiting import while_connected

_PROBLEM: dict[str, Any] = {"model": OpenAIProblemOut, "description": "What is wrong."}
_IMAGES: dict[str, Any] = {
    "model": OpenAIImagesOut,
    "description": "The pictures; a stream of events where `stream` is true.",
    "content": {live.MEDIA_TYPE: {"schema": {"type": "string"}}},
}
_MODEL: dict[str, Any] = {"model": OpenAIModelOut, "description": "The model."}
_MODELS: dict[str, Any] = {"model": OpenAIModelsOut, "description": "The models."}

routes = APIRouter(
    route_class=OpenAIRoute,
    tags=["OpenAI"],
    responses=dict.fromkeys(("4XX", "429", "503", "5XX"), _PROBLEM),
)


@routes.post("/v1/images/generations", responses={200: _IMAGES})
async def generations(
    body: GenerationsIn, request: Request, site: SiteDep, principal: Maker
) -> Response:
    """Make pictures from words."""
    job = await job_of(body, http=request, site=site, principal=principal)
    return await _answered(job, request, Writer.to(request, site, principal))


@routes.post(
    "/v1/images/edits", responses={200: _IMAGES}, openapi_extra=described_form()
)
async def edits(request: Request, site: SiteDep, principal: Maker) -> Response:
    """Work on pictures: repaint where a mask is transparent, or all over."""
    form = await read_edit(request, site.inputs)
    job = await job_of(
        form.body,
        http=request,
        site=site,
        principal=principal,
        pictures=form.pictures,
        mask=form.mask,
    )
    return await _answered(job, request, Writer.to(request, site, principal))


@routes.post("/v1/images/variations")
async def variations(_: Maker) -> Response:
    """Say that there are none any more: OpenAI retired them as well."""
    raise RefusedError(400, "retired", details=[("prompt", "is needed by edits")])


@routes.get("/v1/models", responses={200: _MODELS})
async def models(site: SiteDep, _: Reader) -> Response:
    """List the models that draw here and now, ``auto`` first."""
    found = await _listed(site)
    return write_json({"object": "list", "data": list(found.values())})


@routes.get("/v1/models/{model:path}", responses={200: _MODEL})
async def model(model: str, site: SiteDep, _: Reader) -> Response:
    """Give one model, by its identifier or an alias of it."""
    found = await _listed(site)
    if model in found:
        return write_json(found[model])
    names = await names_of(site.gaia)
    addressed = names.addressed(model)
    for name, card in names.listed(DRAWING).items():
        is_meant = addressed.provider in (None, card.provider)
        if is_meant and addressed.model and card.answers_to(addressed.model):
            return write_json(_card(name, card))
    raise RefusedError(404, "model")


async def _answered(job: Job, request: Request, writer: Writer) -> Response:
    answers = Answers(job=job, writer=writer)
    if job.body.stream:
        return await stream(answers, request, request.scope["route"].path)
    response = await while_connected(request, response_to(job, writer.site))
    request.state.gaia_operation = response.operation_id
    headers = {**headers_of(response), REQUEST_ID: response.operation_id}
    return write_json(await answers.whole(response), headers=headers)


async def _listed(site: Site) -> dict[str, dict[str, Any]]:
    listed = (await names_of(site.gaia)).listed(DRAWING)
    auto = {
        "id": AUTO,
        "object": "model",
        "created": 0,
        "owned_by": "gaia",
        "name": "Automatic",
        "provider": None,
        "capabilities": sorted(DRAWING),
    }
    return {AUTO: auto} | {name: _card(name, one) for name, one in listed.items()}


def _card(name: str, model: ModelInfo) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": model.creator or model.provider,
        "name": model.name,
        "provider": model.provider,
        "capabilities": sorted(model.capabilities),
    }
