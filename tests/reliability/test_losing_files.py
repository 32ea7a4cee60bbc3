"""Every way to lose a file or a part of one, down to the disk: it is named and kept."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from email.message import EmailMessage
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.reliability.losing import Losing, index_docs, make_docs, remake

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return make_docs(tmp_path)


@pytest.fixture
def index(docs: Path) -> Losing:
    return index_docs(docs)


FILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to nothing": (
        lambda path: remake(path, lambda path: path.symlink_to("nowhere")),
        "is a link to nothing",
    ),
    "a link to itself": (
        lambda path: remake(path, lambda path: path.symlink_to(path.name)),
        "is a link to nothing",
    ),
    "a pipe": (lambda path: remake(path, os.mkfifo), "is not a regular file"),
    "emptied": (lambda path: path.write_bytes(b""), "is empty"),
    "blank": (lambda path: path.write_bytes(b" \n" * 10), "no text"),
    "zeros after a crash": (lambda path: path.write_bytes(bytes(400)), "holds binary data"),
    "cut inside UTF-16": (
        lambda path: path.write_bytes("ä".encode("utf-16")[:-1]),
        "begins as utf-16-le but is not",
    ),
    "a pointer of Git LFS": (
        lambda path: path.write_text(
            "version https://git-lfs.github.com/spec/v1\n"
            "oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\n"
            "size 12345\n"
        ),
        "is the pointer of Git LFS",
    ),
}


@pytest.mark.parametrize("way", FILE)
def test_a_file_that_is_lost_is_named_and_keeps_its_place(
    index: Losing, docs: Path, way: str
) -> None:
    lose, words = FILE[way]
    lose(docs / "team" / "01.md")
    assert index.quarantine(words) == ["team/01.md"]


def test_a_file_that_vanishes_between_listing_and_reading_is_kept(
    index: Losing, docs: Path
) -> None:
    def vanish(*_: object) -> None:
        (docs / "y.txt").unlink(missing_ok=True)

    assert index.quarantine("cannot be read: No such file", progress=vanish) == ["y.txt"]
    assert index.ingest().deleted == 1  # the next listing knows


def test_a_file_that_changed_while_it_was_read_is_read_again(index: Losing, docs: Path) -> None:
    (docs / "y.txt").write_text("The note y is new.\n")

    def change(stage: str, done: int, total: int | None) -> None:
        if done == 39:  # its fingerprint was just taken
            (docs / "y.txt").write_text("The note y is only half wr")

    assert index.quarantine("was changed while it was being read", progress=change) == ["y.txt"]
    (docs / "y.txt").write_text("The note y is new.\n")
    report = index.ingest()
    assert (report.indexed, report.quarantined) == (1, 0)
    assert ("y.txt", "The note y is new.") in index.hold()


def make_mail() -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "ann@example.org", "Prices"
    mail.set_content("The prices are attached.\n")
    for name in ("one", "two"):
        words = f"{name} costs much. " * 20
        mail.add_attachment(
            words.encode(), maintype="text", subtype="plain", filename=f"{name}.txt"
        )
    return mail.as_bytes()


RECORDS = b"".join(b'{"text": "record %d of many"}\n' % number for number in range(30))
ROWS = b"name,text\n" + b"".join(b"n%d,row %d of many\n" % (n, n) for n in range(30))
PACKED = gzip.compress(RECORDS)
MAIL = make_mail()
CUT = {
    "rows.csv": (ROWS, ROWS.index(b",row 14"), "is cut off in row 16: 1 of 2 cells"),
    "records.jsonl": (RECORDS, RECORDS.index(b" 14 of"), "is cut off in line 15, in the middle"),
    "records.jsonl.gz": (PACKED, len(PACKED) // 2, "its gzip stream is damaged"),
    "mail.eml": (MAIL, MAIL.index(b"two.txt"), "is cut off: its end, and any attachment there"),
    "headers.eml": (
        MAIL,
        MAIL.index(b"MIME-Version"),
        "is cut off: its end, and any attachment there",
    ),
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_cut_in_half_keeps_all_its_documents(tmp_path: Path, name: str) -> None:
    """Its second half is not taken for deleted: a copy that was interrupted looks like that."""
    whole, at, words = CUT[name]
    file = tmp_path / "docs" / name
    file.parent.mkdir()
    file.write_bytes(whole)
    index = Losing(tmp_path, {"kind": "files", "path": str(file.parent)})
    assert index.ingest().quarantined == 0
    file.write_bytes(whole[:at])
    index.quarantine(words)
    file.write_bytes(b"")
    index.quarantine("is empty")
    file.write_bytes(whole)
    report = index.ingest()
    assert (report.quarantined, report.deleted) == (0, 0)


def test_a_damaged_record_is_kept_and_a_removed_one_is_not(tmp_path: Path) -> None:
    file = tmp_path / "docs" / "records.jsonl"
    file.parent.mkdir()
    lines = [b'{"id": "r%d", "text": "record %d"}\n' % (n, n) for n in range(30)]
    file.write_bytes(b"".join(lines))
    index = Losing(tmp_path, {"kind": "files", "path": str(file.parent)})
    index.ingest()
    damaged = [lines[0].replace(b"record", b"rec\xff"), *lines[1:20], *lines[21:]]
    file.write_bytes(b"".join(damaged))
    index.quarantine("is not UTF-8")
    file.write_bytes(b"".join([*lines[:20], *lines[21:]]))
    assert index.ingest().deleted == 1
    assert ("records.jsonl#r20", "record 20") not in index.hold()


CHILD = """
import sys
import rag_app
from tests.reliability.losing import Losing, index_docs, make_docs, remake
from pathlib import Path
try:
    report = Losing(Path(sys.argv[1]), {"kind": "files", "path": sys.argv[2]}).ingest()
    lost = [f"quarantined {each.source}: {each.reason}" for each in report.quarantine]
    sys.stdout.write(f"deleted {report.deleted}; {lost}")
except rag_app.RagAppError as error:
    sys.stdout.write(f"{type(error).__name__}: {error}")
"""

AS_A_USER = """
import ctypes, os, sys
if os.geteuid() == 0:  # PR_CAPBSET_DROP of what lets root pass over permissions
    library = ctypes.CDLL(None)
    assert [library.prctl(24, capability, 0, 0, 0) for capability in (1, 2)] == [0, 0]
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def ingest_in_child(index: Losing, docs: Path, *before: str) -> str:
    """What an ingest in another process says; it must leave the store as it is."""
    with index.keeping_all():
        done = subprocess.run(
            [*before, "-c", CHILD, str(index.folder), str(docs)],
            capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("place", "mode", "words"),
    [
        ("", 0o000, "SourceError: sources.path: .*docs' cannot be listed: Permission denied"),
        ("", 0o444, "SourceError: sources.path: .*docs/.*' cannot be listed: Permission denied"),
        ("team", 0o000, "SourceError: sources.path: .*team' cannot be listed: Permission denied"),
        (
            "team",
            0o444,
            "SourceError: sources.path: .*team/.*' cannot be listed: Permission denied",
        ),
        ("team/01.md", 0o000, "deleted 0; .*quarantined team/01.md: cannot be read: Permission"),
    ],
)
def test_what_may_not_be_read_is_not_gone(
    index: Losing, docs: Path, place: str, mode: int, words: str
) -> None:
    usual = (docs / place).stat().st_mode
    (docs / place).chmod(mode)
    try:
        said = ingest_in_child(index, docs, sys.executable, "-c", AS_A_USER)
    finally:
        (docs / place).chmod(usual)
    assert re.match(words, said), said


FAULTS = {
    "the folder's disk is gone": (
        ("", "newfstatat", "ENOTCONN"),
        "SourceError: sources.path: .*docs' cannot be listed: Transport endpoint is not connected",
    ),
    "the folder's handle is stale": (
        ("", "openat", "ESTALE"),
        "SourceError: sources.path: .*docs' cannot be listed: Stale file handle",
    ),
    "the listing fails at once": (
        ("", "getdents64", "EIO"),
        "SourceError: sources.path: .*docs' cannot be listed: Input/output error",
    ),
    "the listing fails in its middle": (
        ("a", "getdents64", "EIO:when=2"),
        "SourceError: sources.path: .*a' cannot be listed: Input/output error",
    ),
    "a file cannot be opened": (
        ("a/07.md", "openat", "EIO"),
        "deleted 0; .*quarantined a/07.md: cannot be read: Input/output error",
    ),
    "a file fails while it is read": (
        ("a/07.md", "read", "EIO"),
        "deleted 0; .*quarantined a/07.md: cannot be read: Input/output error",
    ),
}


@pytest.fixture(scope="module")
def strace() -> str:
    """The program that makes system calls fail. Where it may not trace, the tests are skipped."""
    program = shutil.which("strace")
    if (
        program is None
        or subprocess.run([program, "-o", os.devnull, "true"], check=False).returncode
    ):
        pytest.skip("strace is not installed, or may not trace here")
    return program


@pytest.mark.parametrize("way", FAULTS)
def test_what_the_disk_fails_to_tell_is_not_gone(
    index: Losing, docs: Path, strace: str, way: str
) -> None:
    (place, call, fault), words = FAULTS[way]
    tracing = ["-f", "-qq", "-o", os.devnull, "-P", str(docs / place)]
    inject = ["-e", f"trace={call}", "-e", f"inject={call}:error={fault}"]
    said = ingest_in_child(index, docs, strace, *tracing, *inject, sys.executable)
    assert re.match(words, said), said
