"""`/api/models`: the registry of models that jobs have made, and the names they are served under."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from autoalign.jobs.model_store import DEFAULT_NAME
from autoalign.jobs.platform import Platform
from autoalign.jobs.tables import ModelRow
from autoalign.serving.access import principal_of
from autoalign.serving.api_route import (
    After,
    ApiError,
    ApiRoute,
    Limit,
    ObjectId,
    Strict,
    cursor,
    documented,
)

ServedName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


class Served(Strict):
    """The name that a model is served under."""

    name: ServedName = DEFAULT_NAME


class RegisteredModel(BaseModel):
    """A model that a job has made; `kind` is the job's, `served_as` are the names that mean it now."""

    id: str
    object: Literal["registered_model"] = "registered_model"
    job_id: str
    kind: str
    parent: str
    created_at: int
    served_as: list[str]


class ModelList(BaseModel):
    """A page of models, the newest first."""

    object: Literal["list"] = "list"
    data: list[RegisteredModel]
    has_more: bool


def model_router(platform: Platform) -> APIRouter:
    """The routes of `/api/models`. What a name means is for admins to say: it concerns everybody."""
    router = APIRouter(prefix="/api/models", tags=["models"], route_class=ApiRoute)

    def shown(models: Sequence[ModelRow]) -> list[RegisteredModel]:
        kinds = platform.jobs.kinds([model.job_id for model in models])
        served = platform.models.served_ids()
        return [
            RegisteredModel(
                id=model.id,
                job_id=model.job_id,
                kind=kinds.get(model.job_id, ""),
                parent=model.parent,
                created_at=int(model.created_at),
                served_as=[name for name, model_id in served.items() if model_id == model.id],
            )
            for model in models
        ]

    def require_admin(request: Request) -> None:
        if not principal_of(request).may("admin"):
            raise ApiError(
                403, "the scope 'admin' is needed to change what a name means", code="missing_scope"
            )

    def model_of(request: Request, model_id: str) -> ModelRow:
        model = platform.models.get(model_id, principal_of(request))
        if model is None:
            raise ApiError(404, f"no model '{model_id}'", code="not_found")
        return model

    @router.get("", responses=documented())
    def list_models(request: Request, limit: Limit = 20, after: After = None) -> ModelList:
        page = platform.models.page(principal_of(request), cursor(limit, after))
        return ModelList(data=shown(page.rows), has_more=page.has_more)

    @router.get("/{model_id}", responses=documented(404))
    def show(model_id: ObjectId, request: Request) -> RegisteredModel:
        return shown([model_of(request, model_id)])[0]

    @router.post("/{model_id}/promote", responses=documented(404))
    def promote(model_id: ObjectId, request: Request, body: Served | None = None) -> RegisteredModel:
        require_admin(request)
        model = model_of(request, model_id)
        platform.models.promote(model, (body or Served()).name, principal_of(request))
        return shown([model])[0]

    @router.post("/{model_id}/rollback", responses=documented(404, 409))
    def rollback(model_id: ObjectId, request: Request) -> RegisteredModel:
        """`model_id`: a served name, or a model that has one. The answer is what the name means now; for a
        model of the endpoint's own that is the name itself, with an empty `job_id` and `kind`."""
        require_admin(request)
        served = platform.models.served_ids()
        names = [name for name, meant in served.items() if model_id in (name, meant)]
        if not names:
            raise ApiError(404, f"nothing is served as '{model_id}'", code="not_found")
        before = platform.models.rollback(names[0], own=platform.served(names[0]) is not None)
        return _own(names[0]) if before is None else shown([before])[0]

    return router


def _own(name: str) -> RegisteredModel:
    """The endpoint's own model of a name: no job has made it."""
    return RegisteredModel(id=name, job_id="", kind="", parent="", created_at=0, served_as=[name])
