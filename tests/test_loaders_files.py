"""The files loader: what it lists, what it names as unreadable, its child processes' limits."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.config import load_config
from rag_app.errors import ConfigError, SourceError
from rag_app.loaders._globs import compile_glob
from rag_app.loaders.files import Config, Files, build
from rag_app.parsers import FORMATS
from rag_app.types import Origin, Unreadable

if TYPE_CHECKING:
    from langchain_core.documents import Document

    from rag_app.loaders._source import SourceLoader

Data = Callable[[str], Path]


@pytest.fixture
def load() -> Iterator[Callable[..., SourceLoader]]:
    """`load(path, **options)` is a loader whose child processes end with the test."""
    made: list[SourceLoader] = []

    def make(path: Path, **options: Any) -> SourceLoader:
        made.append(build(Config.model_validate({"path": path, **options})))
        return made[-1]

    yield make
    for each in made:
        each.close()


def read(origin: Origin) -> tuple[list[Document], list[str]]:
    """The documents of an origin, and the reasons for what could not be read of it."""
    documents, reasons = [], []
    try:
        for loaded in origin.load():
            if isinstance(loaded, Unreadable):
                reasons.append(loaded.reason)
            else:
                documents.append(loaded)
    except SourceError as error:
        reasons.append(error.wrong)
    return documents, reasons


def fill(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def test_files_are_listed_sorted_with_their_sha256(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"b/c.md": "# C", "a.txt": "A", "b.txt": "B"})
    origins = list(load(tmp_path).origins())
    assert [origin.source for origin in origins] == ["a.txt", "b.txt", "b/c.md"]
    assert [o.fingerprint for o in origins] == [
        hashlib.sha256(t).hexdigest() for t in (b"A", b"B", b"# C")
    ]
    os.utime(tmp_path / "a.txt", (1, 1))
    assert next(load(tmp_path).origins()).fingerprint == origins[0].fingerprint


def test_a_document_is_the_whole_file_with_what_is_known_of_it(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"guide.md": "# Guide\r\n\r\nWords.\r\n"})
    os.utime(tmp_path / "guide.md", (1_700_000_000, 1_700_000_000))
    (document,) = load(tmp_path).lazy_load()
    assert document.page_content == (tmp_path / "guide.md").read_text()
    assert document.metadata == {
        "source": "guide.md",
        "title": "Guide",
        "modified": "2023-11-14T22:13:20+00:00",
        "media_type": "text/markdown",
        "_headings": [[0, 1, "Guide"]],
    }


def test_rows_and_lines_are_documents_with_sources_of_their_own(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"t.csv": "k,v\na,1\nb,2\n", "r.jsonl": '{"_id": "x", "body": "text"}\n[]\n'})
    loader = load(tmp_path, jsonl={"text": ["body"]}, csv={"id": "k"}, prefix="data/")
    records, table = loader.origins()
    assert [d.metadata["source"] for d in read(table)[0]] == ["data/t.csv#a", "data/t.csv#b"]
    documents, reasons = read(records)
    assert [d.metadata["source"] for d in documents] == ["data/r.jsonl#x"]
    assert reasons == ["holds a JSON list, not an object"]


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("**/*.md", "a.md", True),
        ("**/*.md", "x/y/a.md", True),
        ("*.md", "x/a.md", False),
        ("docs/**", "docs/x/a.md", True),
        ("docs/", "docs/a.md", True),
        ("docs/**/a.md", "docs/a.md", True),
        ("a?.md", "ab.md", True),
        ("a?.md", "a/.md", False),
        ("[ab].md", "b.md", True),
        ("[!ab].md", "b.md", False),
        ("a.md", "aXmd", False),
        ("./a.md", "a.md", True),
        ("[[a&&b~~c||]*.md", "[.md", True),
        ("[a&&b~~c||]*.md", "|.md", True),
        ("[^a]*.md", "^.md", True),
        ("[]]*.md", "].md", True),
        ("[z-a.md", "[z-a.md", True),
    ],
)
def test_globs(pattern: str, path: str, matches: bool) -> None:
    assert bool(compile_glob(pattern).fullmatch(path)) is matches


@pytest.mark.parametrize("option", ["include", "exclude"])
@pytest.mark.parametrize("pattern", ["[z-a]*.md", "docs/[!9-0].md"])
def test_a_pattern_that_is_no_glob_is_named_before_anything_is_read(
    option: str, pattern: str
) -> None:
    source = {"kind": "files", "path": "docs", option: ["*.md", pattern]}
    with pytest.raises(ConfigError, match=rf"sources\[0\]\.{option}\[1\]: .* is not a glob"):
        load_config({"sources": [source]})


def test_what_the_user_leaves_out_is_excluded_with_a_reason(tmp_path: Path, load: Any) -> None:
    names = ["a.md", "b.txt", "drafts/c.md", ".git/config", ".env"]
    folder = fill(tmp_path / "in", **{name: "text" for name in names})
    outside = fill(tmp_path / "out", **{"secret.md": "secret"})
    (folder / "leak.md").symlink_to(outside / "secret.md")
    (folder / "leaks").symlink_to(outside)
    (folder / "alias.md").symlink_to(folder / "a.md")
    loader = load(folder, include=["**/*.md"], exclude=["drafts/"])
    reasons = {origin.source: origin.excluded for origin in loader.origins()}
    assert reasons == {
        ".env": "hidden: its name begins with a dot",
        ".git": "hidden: its name begins with a dot",
        "a.md": None,
        "alias.md": None,
        "b.txt": "matches no `include` pattern",
        "drafts/c.md": "matches an `exclude` pattern",
        "leak.md": "a link out of the folder, which is not followed",
        "leaks": "a link to a folder, which is not followed",
    }
    sources = [document.metadata["source"] for document in loader.lazy_load()]
    assert sources == ["a.md", "alias.md"]


def test_hidden_files_are_read_when_asked(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{".notes/a.md": "text"})
    (origin,) = load(tmp_path, hidden=True).origins()
    assert (origin.source, origin.excluded) == (".notes/a.md", None)


def test_nothing_to_read_is_an_error_never_an_empty_success(tmp_path: Path, load: Any) -> None:
    with pytest.raises(SourceError, match="does not exist") as missing:
        load(tmp_path / "gone").origins()
    assert "gone" in str(missing.value)
    with pytest.raises(SourceError, match="is an empty folder"):
        load(tmp_path).origins()
    fill(tmp_path, **{"a.md": "text"})
    with pytest.raises(SourceError, match=r"'\*\*/\*\.mdd' matches none of the 1 entries"):
        load(tmp_path, include=["**/*.mdd"]).origins()


def test_a_single_file_is_its_own_source(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"a.md": "text", "b.md": "text"})
    (document,) = load(tmp_path / "a.md").lazy_load()
    assert document.metadata["source"] == "a.md"


def test_names_are_composed_and_stay_apart(tmp_path: Path, load: Any) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "ü.txt")).write_text("text")
    sources = [origin.source for origin in load(tmp_path).origins()]
    assert set(sources) == {unicodedata.normalize(form, "ü.txt") for form in ("NFC", "NFD")}


def test_a_name_in_no_encoding_is_still_a_name(tmp_path: Path, load: Any) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.txt")).write_text("text")
    (document,) = load(tmp_path).lazy_load()
    assert document.metadata["source"] == "caf\\xe9.txt"


def test_broken_files_are_named_with_the_reason_and_the_rest_goes_on(
    tmp_path: Path, load: Any
) -> None:
    fill(
        tmp_path,
        **{"a.md": "text", "empty.md": b"", "blank.txt": " \n", "x.pdf": b"%PDF-1.4 broken"},
    )
    fill(
        tmp_path, **{"pic.png": b"\x89PNG", "LICENSE": "text", "b.txt": b"\x00\x01", "z.md": "text"}
    )
    (tmp_path / "dangling.md").symlink_to(tmp_path / "gone.md")
    os.mkfifo(tmp_path / "pipe.md")
    loader = load(tmp_path)
    reasons = {origin.source: read(origin)[1] for origin in loader.origins()}
    assert reasons == {
        "LICENSE": ["its name has no ending"],
        "a.md": [],
        "b.txt": ["holds binary data, not text"],
        "blank.txt": ["no text"],
        "dangling.md": ["is a link to nothing"],
        "empty.md": ["is empty"],
        "pic.png": ["files ending in '.png' cannot be read"],
        "pipe.md": ["is not a regular file"],
        "x.pdf": ["is not a readable PDF (Data format error)"],
        "z.md": [],
    }
    with pytest.raises(SourceError, match=r"8 could not be read: LICENSE .*x\.pdf"):
        list(loader.lazy_load())


def test_an_unknown_ending_lists_those_that_are_read(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"pic.png": b"\x89PNG"})
    (origin,) = load(tmp_path).origins()
    with pytest.raises(SourceError) as error:
        list(origin.load())
    assert all(ending in str(error.value) for ending in FORMATS)


def test_a_file_that_changes_before_it_is_parsed_is_not_taken_for_the_one_hashed(
    tmp_path: Path, load: Any
) -> None:
    fill(tmp_path, **{"a.md": "one"})
    (origin,) = load(tmp_path).origins()
    fill(tmp_path, **{"a.md": "two"})
    assert read(origin) == ([], ["was changed while it was being read; ingest again"])


def test_real_folders_are_read_whole_and_every_failure_has_a_reason(data: Data, load: Any) -> None:
    for name, readable in (("pdf-samples", 37), ("file-types", 10)):
        seen = good = 0
        for origin in load(data(name)).origins():
            documents, reasons = read(origin)
            seen += 1
            good += bool(documents)
            assert documents or all(len(reason) > 6 for reason in reasons), origin.source
            assert documents or reasons, origin.source
        assert seen == sum(path.is_file() for path in data(name).rglob("*"))
        assert good >= readable - 2


def slow_rst() -> str:
    """Sound reStructuredText that docutils takes far longer than any limit used here to read."""
    return "".join(
        f"Title {n}\n==========\n\nSome *text* and `link <x>`_.\n\n" for n in range(60000)
    )


def test_a_file_that_takes_too_long_is_named_and_the_next_one_is_read(
    tmp_path: Path, load: Any
) -> None:
    fill(tmp_path, **{"a.rst": slow_rst(), "b.md": "text"})
    slow, quick = load(tmp_path, max_seconds=2).origins()
    assert read(slow) == ([], ["took over 2 s to parse"])
    assert read(quick)[0][0].page_content == "text"


def make_bomb() -> bytes:
    """A DOCX of a few hundred kB whose one part is 200 MB."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", b" " * 200_000_000)
    return out.getvalue()


def test_a_file_that_needs_too_much_memory_is_named_and_the_next_one_is_read(
    tmp_path: Path, load: Any
) -> None:
    rows = "".join(f"{n},{n},{n},{n},{n},{n}\n" for n in range(150_000))
    fill(tmp_path, **{"a.csv": "a,b,c,d,e,f\n" + rows, "b.docx": make_bomb(), "c.md": "text"})
    table, bomb, good = load(tmp_path, max_memory_mb=128).origins()
    assert read(table) == ([], ["needed over 128 MiB to parse"])
    assert read(bomb) == ([], ["needed over 128 MiB to parse"])
    assert read(good)[0][0].page_content == "text"


def find_children(of: int) -> set[int]:
    """The processes whose parent is `of`, by /proc."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == of and fields[0] != "Z":
            found.add(int(status.parent.name))
    return found


def test_a_parser_that_crashes_is_named_and_the_next_file_is_read(
    tmp_path: Path, load: Any
) -> None:
    lines = "".join(json.dumps({"text": f"line {n} " * 200}) + "\n" for n in range(3000))
    fill(tmp_path, **{"a.jsonl": lines, "b.md": "text"})
    before = find_children(os.getpid())
    crashing, good = load(tmp_path).origins()
    documents = iter(crashing.load())
    next(iter(documents))
    (child,) = find_children(os.getpid()) - before
    os.kill(child, signal.SIGSEGV)
    with pytest.raises(SourceError, match=r"the parser crashed \(signal 11\)"):
        list(documents)
    assert read(good)[0][0].page_content == "text"


def test_no_child_outlives_its_loader(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"a.md": "text"})
    before = find_children(os.getpid())
    loader = load(tmp_path)
    assert len(list(loader.lazy_load())) == 1
    assert find_children(os.getpid()) == before
    (origin,) = loader.origins()
    read(origin)
    assert len(find_children(os.getpid()) - before) == 1
    loader.close()
    assert find_children(os.getpid()) == before


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
SCRIPT = """
import sys
from rag_app.loaders.files import Config, build
loader = build(Config(path=sys.argv[1]))
origins = list(loader.origins())
list(origins[0].load())
print("ready", flush=True)
list(origins[1].load())
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_ending_the_process_ends_a_busy_child(tmp_path: Path, how: signal.Signals) -> None:
    fill(tmp_path, **{"a.md": "text", "b.rst": slow_rst()})
    path = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    running = subprocess.Popen(command, env=path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"ready\n"
        (child,) = find_children(running.pid)
        running.send_signal(how)
        running.wait(timeout=60)
    wait_until_gone(child)


def wait_until_gone(pid: int) -> None:
    """Returns when `pid` is gone or dead; the test's own time limit ends a child that stays."""
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return


WITHOUT_PACKAGES = """
import sys
import rag_app.loaders._source
from rag_app.errors import MissingPackageError
from rag_app.loaders.files import Config, build
sys.path[:] = [place for place in sys.path if "site-packages" not in place]
loader = build(Config(path=sys.argv[1]))
try:
    list(loader.lazy_load())
except MissingPackageError as error:
    print(error)
finally:
    loader.close()
"""


def test_a_missing_package_stops_everything_and_names_the_extra(tmp_path: Path) -> None:
    fill(tmp_path, **{"a.rst": "text"})
    command = [sys.executable, "-c", WITHOUT_PACKAGES, str(tmp_path)]
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == (
        "a.rst: needs the package 'docutils', which is not installed. "
        'Run: pip install "rag-app[files]", or leave such files out with `exclude`.\n'
    )


def test_several_files_can_be_parsed_at_the_same_time(tmp_path: Path, load: Any) -> None:
    lines = "".join(json.dumps({"text": f"line {n}"}) + "\n" for n in range(500))
    fill(tmp_path, **{"a.jsonl": lines, "b.jsonl": lines})
    first, second = (origin.load() for origin in load(tmp_path).origins())
    pairs = list(zip(first, second, strict=True))
    assert len(pairs) == 500
    assert all(a.page_content == b.page_content for a, b in pairs)


def test_a_long_document_comes_over_whole(tmp_path: Path, load: Any) -> None:
    given = "中文 and English, " * 300_000
    fill(tmp_path, **{"a.txt": given})
    (document,) = load(tmp_path).lazy_load()
    assert document.page_content == given


def test_what_is_not_unicode_text_is_replaced(tmp_path: Path, load: Any) -> None:
    fill(
        tmp_path,
        **{
            "a.jsonl": '{"text": "lone \\\\ud800 half", "more": {"x": ["\\\\udfff"]}}'.replace(
                "\\\\", "\\"
            )
        },
    )
    (document,) = load(tmp_path).lazy_load()
    assert document.page_content == "lone \ufffd half"
    assert document.metadata["more"] == {"x": ["\ufffd"]}


def test_the_identity_leaves_out_paths_and_limits() -> None:
    one = Files(Config(path=Path("a"), max_seconds=1)).config.identity()
    assert one == Files(Config(path=Path("b"), include=["*.md"])).config.identity()
    assert one != Config.model_validate({"path": "a", "jsonl": {"text": ["body"]}}).identity()


def test_a_link_to_itself_is_named_and_the_rest_is_read(tmp_path: Path, load: Any) -> None:
    fill(tmp_path, **{"a.md": "text"})
    (tmp_path / "loop").symlink_to("loop")
    (document,) = [
        each
        for origin in load(tmp_path).origins()
        if origin.source == "a.md"
        for each in origin.load()
    ]
    assert document.page_content == "text"
    loop = next(each for each in load(tmp_path).origins() if each.source == "loop")
    assert loop.excluded or pytest.raises(SourceError, lambda: list(loop.load()))
