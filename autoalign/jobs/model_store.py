"""The registry of models that jobs have made, and the names they are served under."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from autoalign.errors import InputError
from autoalign.jobs.database import Database
from autoalign.jobs.folder import JobFolder
from autoalign.jobs.model_names import Checkpoint, id_ending, model_name
from autoalign.jobs.pages import Cursor, Page, page
from autoalign.jobs.tables import JobRow, ModelRow, PromotionRow
from autoalign.manifest import MANIFEST_NAME
from autoalign.principals import Principal

DEFAULT_NAME = "default"


class NothingBefore(InputError, LookupError):
    """A served name has no earlier model to go back to."""


class ModelStore:
    """Models and promotions.

    Args:
        jobs_folder: the jobs' own, whose checkpoints can be used before there is a model.
    """

    def __init__(self, database: Database, jobs_folder: Path) -> None:
        self._database, self._jobs_folder = database, jobs_folder

    def add(self, model: ModelRow) -> bool:
        """Register a model; False where its job has registered one before."""
        with self._database.turn() as session:
            if session.scalar(select(ModelRow.id).where(ModelRow.job_id == model.job_id)):
                return False
            session.add(model)
        return True

    def get(self, model_id: str, principal: Principal | None = None) -> ModelRow | None:
        """A model; None where there is none that `principal` may use."""
        with self._database.read() as session:
            return _usable(
                session, session.scalar(select(ModelRow).where(ModelRow.id == model_id)), principal
            )

    def page(self, principal: Principal, cursor: Cursor) -> Page[ModelRow]:
        """The newest models of `principal`; an admin's are everybody's."""
        query = select(ModelRow)
        if "admin" not in principal.scopes:
            query = query.where(ModelRow.owner == principal.token_id)
        with self._database.read() as session:
            return page(session, query, ModelRow, cursor)

    def served(self) -> dict[str, ModelRow]:
        """Each served name, and the model that it means now."""
        with self._database.read() as session:
            newest = _newest(session)
            rows = session.scalars(select(ModelRow).where(ModelRow.id.in_(newest.values())))
            models = {model.id: model for model in rows}
        return {name: models[model_id] for name, model_id in newest.items()}

    def served_ids(self) -> dict[str, str]:
        """Each served name, and the id of the model that it means now."""
        with self._database.read() as session:
            return _newest(session)

    def aliases(self) -> dict[str, str]:
        """Every model's id, and every served name, with the folder it stands for."""
        with self._database.read() as session:
            found = {model.id: model.path for model in session.scalars(select(ModelRow))}
        return found | {name: model.path for name, model in self.served().items()}

    def find(self, name: str, principal: Principal | None = None) -> Path | None:
        """The folder of a served name, a model's id, or `ID:ckpt-step-N`; None where it is not there.

        A checkpoint is there as soon as it is whole, whatever becomes of its job.
        """
        checkpoint = Checkpoint.parse(name)
        if checkpoint is not None:
            return self._find_checkpoint(checkpoint, principal)
        folder = self._folder(name, principal)
        return folder if folder is not None and folder.is_dir() else None

    def _folder(self, name: str, principal: Principal | None) -> Path | None:
        model = self.served().get(name) or self.get(name, principal)
        return None if model is None else Path(model.path)

    def _find_checkpoint(self, checkpoint: Checkpoint, principal: Principal | None) -> Path | None:
        model = self._folder(checkpoint.model, principal) or self._job_folder(checkpoint.model, principal)
        folder = None if model is None else model / checkpoint.folder
        return folder if folder is not None and (folder / MANIFEST_NAME).is_file() else None

    def _job_folder(self, name: str, principal: Principal | None) -> Path | None:
        """Where the job writes that has registered no model of this name yet, or never will."""
        ending = id_ending(name)
        if ending is None:
            return None
        query = select(JobRow).where(JobRow.id.endswith(ending, autoescape=True))
        if principal is not None and not principal.may("admin"):
            query = query.where(JobRow.owner == principal.token_id)
        with self._database.read() as session:
            jobs = [job for job in session.scalars(query) if model_name(job) == name]
        return JobFolder(self._jobs_folder / jobs[0].id).out if jobs else None

    def promote(self, model: ModelRow, name: str, by: Principal) -> None:
        """Point the served name at a model."""
        with self._database.turn() as session:
            session.add(PromotionRow(name=name, model_id=model.id, by=by.token_id, created_at=time.time()))

    def promoted(self, name: str) -> Path | None:
        """The folder that a served name stands for; None where nothing was promoted to it."""
        model = self.served().get(name)
        return None if model is None else Path(model.path)

    def rollback(self, name: str, own: bool = False) -> ModelRow | None:
        """Point the served name back at what it meant before; None where that is the endpoint's own.

        Args:
            own: whether the endpoint has a model of its own under this name.

        Raises:
            NothingBefore: it has meant nothing else.
        """
        valid = select(PromotionRow).where(PromotionRow.name == name, PromotionRow.taken_back_at.is_(None))
        with self._database.turn() as session:
            newest = list(session.scalars(valid.order_by(PromotionRow.number.desc()).limit(2)))
            if len(newest) < (1 if own else 2):
                raise NothingBefore(f"'{name}' has no earlier model to go back to")
            newest[0].taken_back_at = time.time()
            if len(newest) == 1:
                return None
            before = session.scalar(select(ModelRow).where(ModelRow.id == newest[1].model_id))
            assert before is not None
            return before


def _newest(session: Session) -> dict[str, str]:
    """Each served name with the id of its newest model that was not taken back."""
    query = select(PromotionRow.name, PromotionRow.model_id).where(PromotionRow.taken_back_at.is_(None))
    return {row[0]: row[1] for row in session.execute(query.order_by(PromotionRow.number))}


def _usable(session: Session, model: ModelRow | None, principal: Principal | None) -> ModelRow | None:
    """The model, where it is the principal's own or was promoted for everybody."""
    if model is None or principal is None or principal.may("admin") or model.owner == principal.token_id:
        return model
    promoted = select(PromotionRow.number).where(
        PromotionRow.model_id == model.id, PromotionRow.taken_back_at.is_(None)
    )
    return model if session.scalar(promoted.limit(1)) is not None else None
