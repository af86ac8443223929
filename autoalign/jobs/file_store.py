"""Files of users: rows in the database, bytes in a folder under names of the platform's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sqlalchemy import delete, func, select

from autoalign.atomic_files import replacing
from autoalign.jobs.database import Database, new_id
from autoalign.jobs.pages import Cursor, Page, page
from autoalign.jobs.tables import FileRow
from autoalign.principals import Principal


@dataclass
class Upload:
    """A file on its way in: its bytes go to a temporary name."""

    path: Path
    file: IO[bytes]
    size: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, data: bytes) -> None:
        """Append bytes."""
        self.file.write(data)
        self.digest.update(data)
        self.size += len(data)


class FileStore:
    """Files below `folder`."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder

    @contextmanager
    def upload(self) -> Iterator[Upload]:
        """A place for bytes; what is not kept by `keep` is gone afterwards."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f".{new_id('upload-')}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield Upload(path, file)
        finally:
            path.unlink(missing_ok=True)

    def keep(self, upload: Upload, owner: str, filename: str, purpose: str) -> FileRow:
        """Give an upload its id and its lasting name."""
        upload.file.flush()
        os.fsync(upload.file.fileno())
        row = self._row(upload.size, upload.digest.hexdigest(), owner, filename, purpose)
        upload.path.replace(row.path)
        return self._add(row)

    def adopt(self, path: Path, owner: str, filename: str, purpose: str) -> FileRow:
        """Make a file that a job has written one of its owner's."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        row = self._row(path.stat().st_size, digest, owner, filename, purpose)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with replacing(Path(row.path)) as temporary:
            shutil.copyfile(path, temporary)
        return self._add(row)

    def get(self, file_id: str, principal: Principal) -> FileRow | None:
        """A file; None where there is none that `principal` may see."""
        with self._database.read() as session:
            row = session.scalar(select(FileRow).where(FileRow.id == file_id))
        seen = row is not None and (principal.may("admin") or row.owner == principal.token_id)
        return row if seen else None

    def count(self, principal: Principal) -> int:
        """How many files `principal` keeps."""
        with self._database.read() as session:
            query = select(func.count()).where(FileRow.owner == principal.token_id)
            return session.scalar(query) or 0

    def page(self, principal: Principal, purpose: str | None, cursor: Cursor) -> Page[FileRow]:
        """Files that `principal` may see."""
        query = select(FileRow)
        if not principal.may("admin"):
            query = query.where(FileRow.owner == principal.token_id)
        if purpose is not None:
            query = query.where(FileRow.purpose == purpose)
        with self._database.read() as session:
            return page(session, query, FileRow, cursor)

    def remove(self, row: FileRow) -> None:
        """Forget a file and its bytes."""
        with self._database.write() as session:
            session.execute(delete(FileRow).where(FileRow.id == row.id))
        Path(row.path).unlink(missing_ok=True)

    def _row(self, size: int, digest: str, owner: str, filename: str, purpose: str) -> FileRow:
        file_id = new_id("file-")
        suffix = Path(filename).suffix.lower()
        return FileRow(
            id=file_id,
            owner=owner,
            filename=filename,
            purpose=purpose,
            bytes=size,
            sha256=digest,
            path=str(self._folder / f"{file_id}{suffix}"),
            created_at=time.time(),
        )

    def _add(self, row: FileRow) -> FileRow:
        try:
            with self._database.write() as session:
                session.add(row)
        except BaseException:  # whatever it was, no file is left without its row
            Path(row.path).unlink(missing_ok=True)
            raise
        return row
