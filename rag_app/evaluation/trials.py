"""Optuna's record of trials, in memory or in a file."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rag_app import registry
from rag_app.errors import IndexStateError, LockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import optuna


@contextmanager
def open_trials(path: Path | None) -> Iterator[Callable[..., optuna.Study]]:
    """Optuna's record of trials: in memory, or in a file that one process at a time writes.

    Yields:
        A function of a key and a sign: opens the study of that key, with `anew` an empty one.

    Raises:
        MissingPackageError: optuna is not installed. LockedError: another process has the file.
        IndexStateError: the file cannot be read or written.
    """
    try:
        import optuna
    except ImportError as error:
        registry.raise_missing("tune", "evaluation", error)
        raise
    told = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with _open_storage(path) as storage:

            def create(key: str, sign: int, *, anew: bool = False) -> optuna.Study:
                name = hashlib.sha256(key.encode()).hexdigest()
                if anew:
                    optuna.delete_study(study_name=name, storage=storage)
                return optuna.create_study(
                    storage=storage,
                    study_name=name,
                    direction="maximize" if sign > 0 else "minimize",
                    load_if_exists=True,
                )

            yield create
    finally:
        optuna.logging.set_verbosity(told)


@contextmanager
def _open_storage(path: Path | None) -> Iterator[Any]:
    if path is None:
        yield None
        return
    from filelock import FileLock, Timeout
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import SQLAlchemyError

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        wrong = "another process searches with it"
        raise LockedError(str(path), wrong, "Wait until it has ended, or stop it.") from error
    try:
        try:
            opened = RDBStorage(f"sqlite:///{path}")
        except (SQLAlchemyError, RuntimeError) as error:
            wrong = "it is no record of trials that can be read"
            raise IndexStateError(str(path), wrong, "Remove it; trials begin anew.") from error
        try:
            yield opened
        except StorageInternalError as error:
            wrong = "trials cannot be written to it"
            remedy = "See that there is room, and whose it is; what was told is kept."
            raise IndexStateError(str(path), wrong, remedy) from error
        finally:
            opened.remove_session()
            opened.engine.dispose()
    finally:
        lock.release()
