"""What became of a request."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response, status

from gaia_core.ledger import Operation, OperationState
from gaia_core.replays import restored
from gaia_core.server.access import Reader
from gaia_core.server.answers import Writer, attempt, number, warnings_in
from gaia_core.server.dialects import GaiaRoute, write_json
from gaia_core.server.problems import RefusedError, problem_of
from gaia_core.server.schemas.answers import PROBLEMS, OperationOut, OperationsOut
from gaia_core.server.schemas.base import ID
from gaia_core.server.site import SiteDep

routes = APIRouter(route_class=GaiaRoute, tags=["operations"])


@routes.get(
    "/api/operations",
    responses={
        200: {"model": OperationsOut, "description": "The caller's latest."},
        **PROBLEMS,
    },
)
async def operations(
    request: Request,
    site: SiteDep,
    principal: Reader,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Response:
    """List the caller's latest operations, newest first."""
    found = await site.gaia.ledger.listed(principal=principal.name, limit=limit)
    writer = Writer.to(request, site, principal)
    written = [await _written(one, writer) for one in found]
    return write_json({"operations": written})


@routes.get(
    "/api/operations/{operation_id}",
    responses={
        200: {"model": OperationOut, "description": "What became of it."},
        **PROBLEMS,
    },
)
async def operation(
    request: Request, site: SiteDep, principal: Reader, operation_id: str
) -> Response:
    """Say what became of a request of the caller's own."""
    found = None
    if ID.fullmatch(operation_id):
        found = await site.gaia.operation(operation_id)
    if found is None or found.principal != principal.name:
        raise RefusedError(status.HTTP_404_NOT_FOUND, "not_found")
    return write_json(await _written(found, Writer.to(request, site, principal)))


async def _written(one: Operation, writer: Writer) -> dict[str, Any]:
    answer = one.answer or {}
    held = 0.0 if one.cost_usd is not None else number(one.reserved_usd)
    return {
        "operation_id": one.id,
        "capability": str(one.capability),
        "state": str(one.state),
        "is_final": one.state.is_final,
        "provider": one.provider,
        "service": None if one.provider is None else writer.service(one.provider),
        "model": one.model,
        "campaign_id": one.campaign_id,
        "user_id": one.user_id,
        "batch_id": one.batch_id,
        "position": one.position,
        "cost_usd": number(one.cost_usd),
        "held_usd": held,
        "attempts": [attempt(tried) for tried in one.attempts],
        "images": await writer.all_stored(one.image_ids),
        "warnings": warnings_in(answer.get("warnings", ())),
        "prompt": answer.get("prompt"),
        "description": answer.get("description"),
        "failure": _failure(one),
        "created_at": one.created_at.isoformat(),
        "finished_at": None if one.finished_at is None else one.finished_at.isoformat(),
    }


def _failure(one: Operation) -> dict[str, Any] | None:
    """Say why it failed, by code; the error's own words stay in the ledger."""
    if one.error_type is None or one.state is OperationState.CANCELLED:
        return None
    problem = problem_of(restored(one))
    return {
        "error": problem.text,
        "error_type": problem.error_type,
        "error_code": problem.code,
        "suggested_action": problem.suggested_action,
    }
