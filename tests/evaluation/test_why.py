"""What `why` says of evidence, on a small corpus whose ranks are known by hand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
import yaml
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever

import rag_app
from rag_app.app import RagApp
from rag_app.config import load_config
from rag_app.errors import IndexStateError, UsageError
from rag_app.evaluation.results import Case, Cases, Evidence
from rag_app.evaluation.storing import to_json
from rag_app.evaluation.verdicts import Verdict
from rag_app.evaluation.why import explain, explain_all, make_case
from rag_app.evaluation.why.places import find_squeezed
from rag_app.evaluation.why.raw import look_into
from rag_app.retrieval import reorder
from tests.evaluation.command import Run, make_run, write_cases, write_config

DOCS = {
    "fish.md": "Herring swim in large shoals. The cod is a fish of the cold northern sea.",
    "birds.md": "The puffin nests on cliffs. A tern flies from pole to pole each year.",
    "copy.md": "As is well known, a tern flies from pole to pole each year. Nothing more.",
    "tools.md": "A hammer drives nails. The saw cuts boards. Pliers hold what is hot.",
    "ünï.md": "The oﬃcial ﬁgure was seventeen percent, they wrote.",
}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name, text in DOCS.items():
        (folder / name).write_text(text, "utf-8")
    return folder


def settings(docs: Path, **sections: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "name": "small",
        "sources": [{"kind": "files", "path": str(docs)}],
        "splitter": "none",
        "embeddings": {"kind": "hashing", "dimension": 4096},
        "vector_store": {"kind": "memory", "path": None},
        "retriever": {"kind": "bm25", "k": 1},
        "chain": "extractive",
        "index": {"path": str(docs.parent / "index")},
    }
    return usual | sections


def open_over(docs: Path, **sections: Any) -> RagApp:
    app = rag_app.load(settings(docs, **sections))
    app.ingest()
    return app


def test_an_index_that_is_empty_is_an_error(docs: Path) -> None:
    with rag_app.load(settings(docs)) as app, pytest.raises(IndexStateError, match="ingest"):
        explain(app, make_case("Where do terns fly?", "birds.md"))


def test_a_document_of_one_chunk_is_reached(docs: Path) -> None:
    with open_over(docs) as app:
        found = explain(
            app, make_case("Which tool cuts boards?", "tools.md", "The saw cuts boards.")
        )
    (verdict,) = found.verdicts
    assert (found.stage, verdict.ranks) == ("reached", {"bm25": 1})
    assert [hit.source for hit in found.hits] == ["tools.md"]
    assert list(verdict.chunks) == [found.hits[0].id]


def test_a_whole_document_is_held_by_any_chunk_of_it(docs: Path) -> None:
    splitter = {"kind": "sentences", "chunk_size": 8}
    with open_over(docs, splitter=splitter) as app:
        assert explain(app, make_case("nails hammer", "tools.md")).stage == "reached"
        lost = explain(app, make_case("nails hammer", "fish.md")).verdicts[0]
    assert lost.stage == "below_cut_bm25"
    assert lost.ranks == {"bm25": None}
    assert "shares no word" in lost.proof


def test_each_piece_of_evidence_has_its_verdict(docs: Path) -> None:
    pieces = (
        Evidence("tools.md", "A hammer drives nails."),
        Evidence("birds.md", "The puffin nests on cliffs."),
        Evidence("gone.md", "whatever it said"),
    )
    with open_over(docs) as app:
        found = explain(app, Case("three", "A hammer drives nails near a puffin", pieces))
    assert [each.stage for each in found.verdicts] == ["reached", "below_cut_bm25", "not_in_corpus"]
    assert [each.place for each in found.verdicts] == [0, 1, 2]
    assert found.stage == "not_in_corpus"
    assert found.verdicts[1].ranks["bm25"] == 2
    assert "retriever.k=2 keeps it" in found.verdicts[1].counterfactuals


def test_the_same_words_elsewhere_are_told(docs: Path) -> None:
    quote = "tern flies from pole to pole each year."
    with open_over(docs) as app:
        cases = {s: explain(app, make_case(quote, s, quote)) for s in ("birds.md", "copy.md")}
    lost = [found for found in cases.values() if found.stage != "reached"]
    assert len(lost) == 1
    (twin,) = set(cases) - {lost[0].case.evidence[0].source}
    assert lost[0].verdicts[0].note == f"the same words are found in {twin!r} at rank 1"


def test_the_pieces_of_a_split_sentence_reach_together(docs: Path) -> None:
    splitter = {"kind": "tokens", "chunk_size": 8, "chunk_overlap": 0}
    quote = "The saw cuts boards. Pliers hold"
    with open_over(docs, splitter=splitter, retriever={"kind": "bm25", "k": 3}) as app:
        both = explain(app, make_case("saw cuts boards pliers hold hot", "tools.md", quote))
        rows = [row.text for row in app.store.scan()]
    assert not any(quote in text for text in rows)
    assert both.stage == "reached"


def test_a_border_is_proved_by_a_chunk_without_it(docs: Path) -> None:
    text = "Oak ash elm. The saw cuts boards and beams of oak. Pine fir yew larch."
    (docs / "wood.md").write_text(text, "utf-8")
    quote = "cuts boards and beams"
    splitter = {"kind": "tokens", "chunk_size": 8, "chunk_overlap": 0}
    with open_over(docs, splitter=splitter, retriever={"kind": "dense", "k": 1}) as app:
        assert not any(quote in row.text for row in app.store.scan())
        (verdict,) = explain(app, make_case("cuts boards beams", "wood.md", quote)).verdicts
    assert verdict.stage == "split_by_splitter"
    assert "with a border" in verdict.proof
    assert len(verdict.chunks) == 2


def test_ligatures_and_white_space_do_not_hide_evidence(docs: Path) -> None:
    with open_over(docs) as app:
        found = explain(
            app, make_case("figure seventeen percent", "ünï.md", "official\n figure was")
        )
    assert found.stage == "reached"
    assert "otherwise" in found.verdicts[0].note
    text = DOCS["ünï.md"]
    assert [text[a:b] for a, b in find_squeezed("official figure was", text)] == [
        "oﬃcial ﬁgure was"
    ]


def test_no_quote_that_is_in_no_file_is_proved_not_to_be_there(docs: Path) -> None:
    case = make_case("What do whales eat?", "fish.md", "Whales eat a great deal of krill.")
    with open_over(docs) as app:
        (verdict,) = explain(app, case).verdicts
    assert verdict.stage == "not_in_corpus"
    assert "neither in its text nor anywhere in its file" in verdict.proof


def test_what_an_image_may_show_is_not_proved(docs: Path, data: Any) -> None:
    pdf = data("pdf-samples") / "py-pdf" / "pdflatex-image.pdf"
    (docs / "paper.pdf").write_bytes(pdf.read_bytes())
    with open_over(docs) as app:
        (verdict,) = explain(app, make_case("What?", "paper.pdf", "words in a picture")).verdicts
    assert verdict.proof == ""
    assert "image" in verdict.note


def test_a_link_to_nothing_and_a_pointer_are_not_in_the_corpus(docs: Path) -> None:
    (docs / "lost.md").symlink_to(docs / "nowhere.md")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    (docs / "big.md").write_text(pointer)
    with open_over(docs) as app:
        stages = {s: explain(app, make_case("What?", s)).verdicts[0] for s in ("lost.md", "big.md")}
    assert {each.stage for each in stages.values()} == {"not_in_corpus"}
    assert "Git LFS" in stages["big.md"].proof


def test_a_source_that_cannot_be_listed_proves_nothing(docs: Path, tmp_path: Path) -> None:
    away = {"kind": "files", "path": str(tmp_path / "share")}
    sources = [{"kind": "files", "path": str(docs)}, away]
    store = {"kind": "memory", "path": str(tmp_path / "vectors.sqlite")}
    with open_over(docs, vector_store=store):
        pass
    with rag_app.load(settings(docs, sources=sources, vector_store=store)) as app:
        (verdict,) = explain(app, make_case("What?", "bird.md", "It stands there.")).verdicts
    assert (verdict.stage, verdict.proved) == ("not_in_corpus", False)
    assert "a source cannot be listed" in verdict.note
    assert "Did you mean 'birds.md'?" in verdict.note


def test_a_near_name_is_suggested(docs: Path) -> None:
    with open_over(docs) as app:
        (verdict,) = explain(app, make_case("What?", "bird.md", "The puffin nests")).verdicts
    assert "Did you mean 'birds.md'?" in verdict.proof


def test_words_of_office_files_mail_and_json_are_found_in_their_bytes(data: Any) -> None:
    types = data("file-types")
    mail = b"MIME-Version: 1.0\nContent-Transfer-Encoding: base64\n\nRm9ydHkgdHdvIGhlcnJpbmdz\n"
    assert look_into("Forty two herrings", mail).found == "its part text/plain"
    assert "escapes" in look_into("Zwölf Möwen", rb'{"text": "Zw\u00f6lf M\u00f6wen"}').found
    assert "tags" in look_into("Fish & chips for all", b"<p>Fish &amp; <b>chips</b> for all").found
    docx = (types / "docx.docx").read_bytes()
    assert not look_into("a sentence that nobody wrote there", docx).found


def test_a_filter_comes_before_the_cut(docs: Path) -> None:
    case = make_case("pole pole tern", "fish.md", "Herring swim", {"source": "birds.md"})
    with open_over(docs) as app:
        (verdict,) = explain(app, case).verdicts
    assert verdict.stage == "excluded_by_filter"
    assert 'source is "fish.md"' in verdict.proof
    assert verdict.counterfactuals == ("without the filter it is not found either",)


class Hates(BaseDocumentCompressor):
    """A reranker that leaves one document out, and all but the first `k` others."""

    source: str
    k: int = 3

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Any = None
    ) -> list[Document]:
        kept = [each for each in documents if each.metadata["source"] != self.source]
        return reorder(kept, [1.0] * len(kept), "llm", self.k)


RANKED = {"reranker": {"kind": "llm", "k": 3}, "chat_model": "scripted"}


@pytest.fixture(scope="module")
def zebras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Many documents that dense search puts before `ev.md`, which BM25 has first."""
    folder = tmp_path_factory.mktemp("zebras") / "docs"
    folder.mkdir()
    (folder / "ev.md").write_text("zebra answer is here and nothing else of it")
    for number in range(30):
        (folder / f"d{number}.md").write_text(f"deposit rent month flat house number {number}")
        (folder / f"z{number}.md").write_text(f"zebra zebra {number}")
    return folder


def ask_zebras(zebras: Path, hated: str, question: str, **retriever: Any) -> tuple[Verdict, bool]:
    """The verdict on `ev.md`, and whether the search returns it."""
    store = {"kind": "memory", "path": str(zebras.parent / "vectors.sqlite")}
    sections = {"embeddings": "hashing", "vector_store": store, "retriever": retriever, **RANKED}
    with rag_app.load(settings(zebras, **sections)) as app:
        app.borrow("reranker", Hates(source=hated))
        app.ingest()
        case = make_case(question, "ev.md", "zebra answer is here")
        hits = app.search(question).hits
        return explain(app, case).verdicts[0], any(hit.source == "ev.md" for hit in hits)


QUESTIONS = ("deposit rent month flat answer", "zebra here zebra")


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("hated", ["ev.md", "d1.md"])
@pytest.mark.parametrize("kind", ["hybrid", "shallow", "dense", "similarity"])
def test_what_is_said_to_keep_it_does_so_behind_a_reranker(
    zebras: Path, kind: str, hated: str, question: str
) -> None:
    shapes: dict[str, dict[str, Any]] = {
        "hybrid": {"kind": "hybrid", "k": 5, "fetch_k": 40},
        "shallow": {"kind": "hybrid", "k": 5, "fetch_k": 5, "weights": {"dense": 1, "bm25": 0}},
        "dense": {"kind": "dense", "k": 5},
        "similarity": {"kind": "dense", "k": 60, "min_similarity": 0.6},
    }
    shape = shapes[kind]
    verdict, found = ask_zebras(zebras, hated, question, **shape)
    assert verdict.stage in ("lost_in_fusion", "below_cut_dense", "below_cut_bm25")
    assert not found
    assert verdict.counterfactuals
    for said in verdict.counterfactuals:
        cut = said.endswith(", but the reranker cuts it off again")
        wanted = re.match(r"retriever\.(\w+)=(.*?) (keeps|finds) it", said)
        if wanted is not None:
            assert cut == (wanted[3] == "finds")
            changed = {**shape, wanted[1]: yaml.safe_load(wanted[2])}
        else:
            other = {"BM25": "bm25", "dense": "dense", "hybrid": "hybrid"}[said.split()[0]]
            changed = {"kind": other, "k": shape["k"]}
        assert ask_zebras(zebras, hated, question, **changed)[1] is not cut, said
        assert cut or hated != "ev.md", said


def test_the_fused_rank_is_that_of_what_the_search_fuses(zebras: Path) -> None:
    deep = {"kind": "hybrid", "k": 5, "fetch_k": 40}
    verdict, _ = ask_zebras(zebras, "ev.md", QUESTIONS[0], **deep)
    store = {"kind": "memory", "path": str(zebras.parent / "vectors.sqlite")}
    retriever = {**deep, "k": 40}
    with open_over(zebras, embeddings="hashing", vector_store=store, retriever=retriever) as app:
        listed = [hit.source for hit in app.search(QUESTIONS[0]).hits]
    assert verdict.ranks["fused"] == listed.index("ev.md") + 1
    shallow = {"kind": "hybrid", "k": 5, "fetch_k": 5, "weights": {"dense": 1, "bm25": 0}}
    verdict, _ = ask_zebras(zebras, "d1.md", QUESTIONS[0], **shallow)
    assert verdict.ranks["fused"] is None
    assert verdict.ranks["dense"] is not None
    assert verdict.counterfactuals[0].startswith("retriever.k=")


def test_a_larger_overlap_is_tried_behind_the_reranker_too(docs: Path) -> None:
    text = "Oak ash elm fir yew larch and the saw cuts boards and beams of oak. Pine fir yew larch."
    (docs / "wood.md").write_text(text, "utf-8")
    splitter = {"kind": "tokens", "chunk_size": 12, "chunk_overlap": 0}
    case = make_case("cuts boards beams", "wood.md", "cuts boards and beams")
    shape = {"splitter": splitter, "retriever": {"kind": "dense", "k": 1}}
    told = {}
    for hated in ("wood.md", "fish.md"):
        with rag_app.load(settings(docs, **shape, **RANKED)) as app:
            app.borrow("reranker", Hates(source=hated))
            app.ingest()
            (verdict,) = explain(app, case).verdicts
        assert verdict.stage == "split_by_splitter"
        told[hated] = [verdict.proof, *verdict.counterfactuals]
    assert len(told["fish.md"]) > 1
    assert "keeps it whole, and finds it at rank 1" in told["fish.md"][-1]
    cut = [f"{said}, but the reranker cuts it off again" for said in told["fish.md"]]
    assert told["wood.md"] == cut


class Always(BaseRetriever):
    """A retriever of somebody else, which tells nothing of what it ranked."""

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [Document(DOCS["tools.md"], metadata={"source": "tools.md"})]


class WithAlways(RagApp):
    @cached_property
    def _first_stage(self) -> BaseRetriever:
        return Always()


def test_a_retriever_of_others_proves_nothing(docs: Path) -> None:
    with WithAlways(load_config(settings(docs), {})) as app:
        app.ingest()
        found = explain(app, make_case("Which tool?", "tools.md", "The saw cuts boards."))
        lost = explain(app, make_case("Which bird?", "birds.md", "The puffin nests"))
        with pytest.raises(UsageError, match="takes no filter"):
            explain(app, make_case("Which bird?", "birds.md", filter={"source": "birds.md"}))
    assert found.stage == "reached"
    assert lost.verdicts[0].proof == ""
    assert "does not tell" in lost.verdicts[0].note


def test_a_set_is_counted_by_stage(docs: Path) -> None:
    cases = (
        make_case("Which tool cuts boards?", "tools.md", "The saw cuts boards."),
        make_case("Who lives?", "gone.md", "Somebody does."),
        Case("none", "What is the meaning of it all?"),
    )
    with open_over(docs) as app:
        failures = explain_all(app, Cases(cases, "here", "0"))
        everything = explain_all(app, Cases(cases, "here", "0"), only_failures=False)
    assert {s: n for s, n in failures.lost.items() if n} == {"not_in_corpus": 1, "reached": 1}
    assert [each.stage for each in failures.explanations] == ["not_in_corpus"]
    assert [each.stage for each in everything.explanations] == ["reached", "not_in_corpus"]
    assert failures.notes == ("1 cases without evidence were left out: none of it can be lost",)
    assert to_json(failures)["lost"]["not_in_corpus"] == 1


# -- the command ------------------------------------------------------------------------------


@pytest.fixture
def run(docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    write_config(docs.parent / "rag-app.yaml", retriever={"kind": "bm25", "k": 1})
    made = make_run(docs.parent, monkeypatch, capsys)
    assert made("ingest").status == 0
    return made


def test_one_question_is_walked_through(run: Run) -> None:
    given = ["why", "A hammer near a puffin drives nails", "--source", "birds.md"]
    done = run(*given, "--quote", "The puffin nests")
    assert done.status == 0
    assert "✓ in the corpus" in done.stdout
    assert "✗ below the cut in BM25" in done.stdout
    assert "tried: retriever.k=2 keeps it" in done.stdout
    (verdict,) = run(*given, "--json").json["verdicts"]
    assert (verdict["stage"], verdict["ranks"]) == ("below_cut_bm25", {"bm25": 2})


def test_a_set_is_a_waterfall(run: Run, tmp_path: Path) -> None:
    evidence = [{"source": "tools.md", "quote": "The saw cuts boards."}]
    write_cases(
        tmp_path / "cases.jsonl",
        [
            {"id": "saw", "question": "Which tool cuts boards?", "evidence": evidence},
            {"id": "sea", "question": "Which tool cuts?", "evidence": [{"source": "sea.md"}]},
        ],
    )
    done = run("why", "--cases", "cases.jsonl")
    assert "1 of 2 cases lost evidence" in done.stdout
    assert "sea: Which tool cuts?" in done.stdout
    assert len(run("why", "--cases", "cases.jsonl", "--all", "--json").json["explanations"]) == 2
    assert "= reached the prompt" in run("why", "--cases", "cases.jsonl", "--id", "saw").stdout
    wrong = run("why", "--cases", "cases.jsonl", "--id", "sew")
    assert (wrong.status, "Did you mean 'saw'?" in wrong.stderr) == (2, True)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "neither a question nor --cases"),
        (["What?"], "--source NAME --quote TEXT"),
        (["What?", "--cases", "cases.jsonl"], "both are given"),
        (["--cases", "cases.jsonl", "--quote", "x"], "evidence of their own"),
        (["What?", "--source", "a.md", "--report", "r.html"], "written of a set"),
    ],
)
def test_what_cannot_be_asked_is_refused(run: Run, given: list[str], told: str) -> None:
    done = run("why", *given)
    assert done.status == 2
    assert told in done.stderr
