"""Failures made on purpose before the search: corpus, loader, splitter, embedding model."""

from __future__ import annotations

import html
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import rag_app
from rag_app.app import RagApp
from rag_app.config import load_config
from rag_app.evaluation.results import Case, Evidence
from rag_app.evaluation.why import explain
from tests.evaluation.provoked_failures import (
    Bench,
    Provoked,
    Sentence,
    WithLosingLoader,
    ask,
    make_config,
)


def shown(app: RagApp, source: str) -> str:
    """All that the index holds of a document, with single spaces."""
    rows = [row for row in app.store.scan() if row.metadata["source"] == source]
    rows.sort(key=lambda row: row.metadata["start"])
    return " ".join(" ".join(row.text.split()) for row in rows)


def pick(bench: Bench, wanted: int) -> list[Sentence]:
    """Sentences, each of another document, that the pipeline finds while nothing is wrong."""
    picked: dict[str, Sentence] = {}
    with bench.open() as app:
        for sentence in bench.sentences:
            if sentence.source not in picked and bench.searched(app, sentence):
                picked[sentence.source] = sentence
            if len(picked) == wanted:
                break
    assert len(picked) == wanted
    return list(picked.values())


def leave_out(bench: Bench, folder: Path) -> Iterator[Provoked]:
    """Documents that were removed, left out by a pattern, added or changed after the ingest."""
    removed, excluded, late, edited = split_up(pick(bench, 14), 5, 4, 3, 2)
    docs = folder / "docs"
    shutil.copytree(bench.folder, docs)
    for sentence in (*removed, *late):
        (docs / sentence.source).unlink()
    for sentence in edited:
        file = docs / sentence.source
        file.write_text(file.read_text("utf-8").replace(sentence.text, ""), "utf-8")
    source = {"kind": "files", "path": str(docs), "exclude": [s.source for s in excluded]}
    with rag_app.load(make_config(docs, sources=[source])) as app:
        app.ingest()
        for sentence in (*late, *edited):
            shutil.copy(bench.folder / sentence.source, docs / sentence.source)
        for how, sentences in (
            ("removed", removed),
            ("excluded", excluded),
            ("added later", late),
            ("changed later", edited),
        ):
            for sentence in sentences:
                assert not bench.searched(app, sentence)
                yield Provoked("not_in_corpus", how, explain(app, sentence.case()))


def split_up(sentences: list[Sentence], *sizes: int) -> list[list[Sentence]]:
    rest = iter(sentences)
    return [list(islice(rest, size)) for size in sizes]


def refuse(bench: Bench, folder: Path, pdfs: Path, types: Path) -> Iterator[Provoked]:
    """Files that are there and cannot be read: of no known format, damaged, encrypted."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    shutil.copy(bench.folder / "index.md", docs / "index.md")
    cases = []
    for sentence in pick(bench, 2):
        name = sentence.source.replace("/", "-").replace(".md", ".wiki")
        shutil.copy(bench.folder / sentence.source, docs / name)
        cases.append(Sentence(name, sentence.text, sentence.question))
    shutil.copy(types / "odt.odt", docs / "report.odt")
    shutil.copy(pdfs / "py-pdf" / "libreoffice-writer-password.pdf", docs / "secret.pdf")
    (docs / "torn.docx").write_bytes((types / "docx.docx").read_bytes()[:2000])
    cases += [Sentence(n, "Anything it says.", "What?") for n in ("report.odt", "secret.pdf")]
    cases.append(Sentence("torn.docx", "Anything it says.", "What?"))
    with rag_app.load(make_config(docs)) as app:
        report = app.ingest()
        assert {each.source for each in report.quarantine} == {c.source for c in cases}
        for sentence in cases:
            yield Provoked("lost_by_loader", "quarantined", explain(app, sentence.case()))


def drop_parts(bench: Bench, folder: Path) -> Iterator[Provoked]:
    """Documents of which a loader forgets a part."""
    with bench.open() as whole:
        docs = folder / "docs"
        shutil.copytree(bench.folder, docs)
        with WithLosingLoader(load_config(make_config(docs), {})) as app:
            app.ingest()
            found = (
                Provoked("lost_by_loader", "a part dropped", explain(app, sentence.case()))
                for sentence in bench.sentences
                if bench.searched(whole, sentence)
                and sentence.text not in shown(app, sentence.source)
            )
            yield from islice(found, 5)


def drop_pages(folder: Path, pdfs: Path) -> Iterator[Provoked]:
    """PDFs of which a loader forgets pages."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    names = ["pdfjs/tracemonkey.pdf", "py-pdf/GeoTopo-komprimiert.pdf"]
    for name in names:
        shutil.copy(pdfs / name, docs / Path(name).name)
    settings = make_config(docs, name="whole")
    with rag_app.load(settings) as whole:
        whole.ingest()
        texts = {Path(name).name: shown(whole, Path(name).name) for name in names}
    with WithLosingLoader(load_config(make_config(docs), {})) as app:
        app.ingest()
        for source, text in texts.items():
            quote = text[int(len(text) * 0.37) :][:90].strip()
            assert quote not in shown(app, source)
            case = Case(source, ask(quote), (Evidence(source, quote),))
            yield Provoked("lost_by_loader", "pages dropped", explain(app, case))


def hide_in_html(bench: Bench, folder: Path) -> Iterator[Provoked]:
    """Web pages with the sentence where no reader looks."""
    docs = folder / "docs"
    docs.mkdir(parents=True)
    places = (
        "<!-- {} -->",
        "<script type='text/plain'>{}</script>",
        "<noscript>{}</noscript>",
        "<template><p>{}</p></template>",
    )
    sentences = pick(bench, 4)
    cases = []
    for number, (place, sentence) in enumerate(zip(places, sentences, strict=True)):
        text = (bench.folder / sentence.source).read_text("utf-8").replace(sentence.text, "")
        body = "".join(f"<p>{html.escape(part)}</p>" for part in text.split("\n\n"))
        hidden = place.format(html.escape(sentence.text))
        page = f"<html><body><article>{body}</article>{hidden}</body></html>"
        (docs / f"page{number}.html").write_text(page, "utf-8")
        cases.append(Sentence(f"page{number}.html", sentence.text, sentence.question))
    with rag_app.load(make_config(docs)) as app:
        app.ingest()
        for sentence in cases:
            assert sentence.text not in shown(app, sentence.source)
            yield Provoked("lost_by_loader", "hidden in HTML", explain(app, sentence.case()))


def cut_through(bench: Bench, folder: Path) -> Iterator[Provoked]:
    """A border goes through the sentence; with more overlap it was whole, and found."""
    docs = folder / "docs"
    shutil.copytree(bench.folder, docs)

    def open_with(overlap: int) -> RagApp:
        sections: dict[str, Any] = {
            "name": f"overlap{overlap}",
            "splitter": {"kind": "tokens", "chunk_size": 60, "chunk_overlap": overlap},
            "vector_store": {"kind": "memory", "path": None},
            "retriever": {"kind": "dense", "k": 2},
        }
        return rag_app.load(make_config(docs, **sections))

    def lost() -> Iterator[Provoked]:
        for sentence in bench.sentences:
            rows = [
                row.text for row in cut.store.scan() if row.metadata["source"] == sentence.source
            ]
            if sentence.is_in(rows) or not bench.searched(whole, sentence):
                continue
            hits = [h for h in cut.search(sentence.question).hits if h.source == sentence.source]
            hits.sort(key=lambda hit: hit.start)
            if sentence.is_in([" ".join(hit.text for hit in hits)]):
                continue
            yield Provoked("split_by_splitter", "a border", explain(cut, sentence.case()))

    with open_with(40) as whole, open_with(0) as cut:
        whole.ingest()
        cut.ingest()
        yield from islice(lost(), 10)


def truncate(bench: Bench, folder: Path) -> Iterator[Provoked]:
    """Documents of which the model sees the first 256 tokens: the same words, the sentence first
    and then last."""
    sentences = pick(bench, 14)
    fillers = [sentence.source for sentence in reversed(sentences)]
    for order in ("first", "last"):
        (folder / order / "docs").mkdir(parents=True)
        for sentence, filler in zip(sentences, fillers, strict=True):
            text = (bench.folder / filler).read_text("utf-8").replace(sentence.text, "")
            others = " ".join(text.split()[:330])
            parts = (sentence.text, others)
            whole = "\n\n".join(parts if order == "first" else parts[::-1])
            place = folder / order / "docs" / sentence.source.replace("/", "-")
            place.write_text(whole, "utf-8")
    apps = [
        rag_app.load(
            make_config(
                folder / order / "docs",
                embeddings="minilm",
                splitter="none",
                vector_store={"kind": "memory", "path": None},
                retriever={"kind": "dense", "k": 2},
            )
        )
        for order in ("first", "last")
    ]
    with apps[0] as before, apps[1] as after:
        before.ingest()
        after.ingest()
        for sentence in sentences:
            moved = Sentence(sentence.source.replace("/", "-"), sentence.text, sentence.question)
            if bench.searched(before, moved) and not bench.searched(after, moved):
                yield Provoked("truncated_by_embedder", "moved back", explain(after, moved.case()))
