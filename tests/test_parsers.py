"""Each format's text, headings, pages, code and dates, against what the files are known to hold."""

from __future__ import annotations

import datetime
import gzip
import io
import json
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import docx
import pytest

from rag_app.parsers import csv_rows, html, jsonl, markdown, pdf, rst, text
from rag_app.parsers import docx as docx_parser
from rag_app.parsers.parsed import Broken, Parsed, ParseError

Data = Callable[[str], Path]
LINES = {"text": ["title", "text"], "id": None, "title": "title"}


def only(pieces: Any) -> Parsed:
    (piece,) = pieces
    assert isinstance(piece, Parsed)
    return piece


def headings(piece: Parsed) -> list[tuple[int, str]]:
    return [(level, title) for _, level, title in piece.metadata["_headings"]]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("naïve café".encode(), "naïve café"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("UTF-16 text".encode("utf-16"), "UTF-16 text"),
        ("UTF-32 text".encode("utf-32"), "UTF-32 text"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
    ],
)
def test_text_is_decoded_as_written(data: bytes, expected: str) -> None:
    assert only(text.parse(data, {})) == Parsed(expected)


@pytest.mark.parametrize("encoding", ["cp1252", "gb18030", "shift_jis", "windows-1251"])
def test_text_that_is_not_utf8_names_the_encoding_it_was_taken_for(encoding: str) -> None:
    words = {
        "cp1252": "Der Übermut der Köche führt häufig zu größeren Überraschungen im Menü. ",
        "gb18030": "中华人民共和国的首都是北京，这座城市有三千多年的历史。",
        "shift_jis": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。",
        "windows-1251": "Все счастливые семьи похожи друг на друга, каждая несчастлива. ",
    }[encoding]
    given = words * 20
    piece = only(text.parse(given.encode(encoding), {}))
    assert piece.text == given
    assert piece.metadata["encoding"]


def test_a_charset_that_came_with_the_text_goes_before_guessing() -> None:
    assert only(text.parse("größe".encode("latin-1"), {"charset": "iso-8859-1"})).text == "größe"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x7fELF\x00\x00\x01", "binary"),
        (b"  \n\t\n", "no text"),
        (b"\xff\xfea", "utf-16"),
    ],
)
def test_what_is_no_text_is_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        only(text.parse(data, {}))


MARKDOWN = """---
title: The manual
date: 2024-03-01
tags: [a, b]
---
# First *steps* { #first-steps }

Words.

```python
# not a heading
x = 1
```

Setext `code`
-------------

> # quoted, not a section

    # indented code

### Third ###
"""


def test_markdown_headings_and_code_stand_where_the_file_has_them() -> None:
    piece = only(markdown.parse(MARKDOWN.encode(), {}))
    assert piece.text == MARKDOWN
    assert headings(piece) == [(1, "First steps"), (2, "Setext code"), (3, "Third")]
    starts = [piece.text[at:].split("\n")[0] for at, _, _ in piece.metadata["_headings"]]
    assert starts == ["# First *steps* { #first-steps }", "Setext `code`", "### Third ###"]
    code = [piece.text[start:end] for start, end in piece.metadata["_code"]]
    assert code == ["```python\n# not a heading\nx = 1\n```", "    # indented code"]
    assert piece.metadata["title"] == "The manual"
    assert piece.metadata["created"] == "2024-03-01"


def test_a_rule_at_the_top_is_not_front_matter() -> None:
    piece = only(markdown.parse(b"---\n\n# One\n\n---\n\n# Two\n", {}))
    assert headings(piece) == [(1, "One"), (1, "Two")]


def test_every_heading_of_the_fastapi_docs_is_a_heading_line(data: Data) -> None:
    """Independent reading: lines that begin with # outside of ``` fences."""
    for path in sorted(data("fastapi-docs").rglob("*.md"))[::7]:
        piece = only(markdown.parse(path.read_bytes(), {}))
        assert piece.text == path.read_text(encoding="utf-8")
        marked = {at for at, _, _ in piece.metadata.get("_headings", [])}
        assert marked == find_hash_lines(piece.text), path.name
        assert not any("{ #" in title for _, title in headings(piece) if marked)


def find_hash_lines(given: str) -> set[int]:
    found, at, fence = set(), 0, ""
    for line in given.split("\n"):
        opened = re.match(r" *(`{3,}|~{3,})", line)
        if fence and opened and opened[1].startswith(fence) and line.strip() == opened[1]:
            fence = ""
        elif not fence and opened:
            fence = opened[1]
        elif not fence and re.match(r"#{1,6} +\S", line):
            found.add(at)
        at += len(line) + 1
    return found


RST = """####
Over
####

:date: 2023-05-06

Sub *one*
=========

Example::

    code here

.. code-block:: python

    x = 1

    y = 2

After.

.. unknown-directive:: x

Sub two
=======

Deep
----
"""


def test_rst_headings_and_code_stand_where_the_file_has_them() -> None:
    piece = only(rst.parse(RST.encode(), {}))
    assert piece.text == RST
    assert headings(piece) == [(1, "Over"), (2, "Sub one"), (2, "Sub two"), (3, "Deep")]
    starts = [piece.text[at:].split("\n")[0] for at, _, _ in piece.metadata["_headings"]]
    assert starts == ["####", "Sub *one*", "Sub two", "Deep"]
    code = [piece.text[start:end] for start, end in piece.metadata["_code"]]
    assert code == ["    code here", "    x = 1\n\n    y = 2"]
    assert piece.metadata["title"] == "Over"
    assert piece.metadata["created"] == "2023-05-06"


def test_rst_reads_no_other_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("Title\n=====\n")
    piece = only(rst.parse(f"Top\n===\n\n.. include:: {secret}\n".encode(), {}))
    assert headings(piece) == [(1, "Top")]


ARTICLE = "The council met on Tuesday and agreed on the new rules for the harbour. "
PAGE = f"""<html><head><title>Harbour rules - The Post</title>
<meta charset="iso-8859-1"><meta property="og:title" content="Harbour rules">
<meta property="article:published_time" content="2024-05-04T10:00:00+00:00"></head>
<body><nav><a href="/">Home</a> <a href="/s">Subscribe now to our letters</a></nav>
<article><h1>Harbour rules</h1><p>{ARTICLE * 4}Straße.</p><h2>What changes</h2>
<p>{ARTICLE * 3}</p><pre><code>berth = 12
crane = 3</code></pre><p>{ARTICLE * 3}</p></article>
<footer>Copyright, imprint, cookies</footer><script>var tracked = 1</script></body></html>"""


def test_html_gives_the_article_without_navigation() -> None:
    piece = only(html.parse(PAGE.encode("latin-1"), {}))
    assert piece.text.count("The council met on Tuesday") == 10
    assert "Straße." in piece.text
    for noise in ("Subscribe", "cookies", "tracked"):
        assert noise not in piece.text
    assert (2, "What changes") in headings(piece)
    assert piece.metadata["title"] == "Harbour rules"
    assert piece.metadata["created"].startswith("2024-05-04")
    assert "extraction" not in piece.metadata
    assert any("berth = 12" in piece.text[a:b] for a, b in piece.metadata["_code"])


def test_html_without_an_article_gives_the_whole_page_and_says_so() -> None:
    piece = only(html.parse(b"<html><body><footer>Berth 12</footer></body></html>", {}))
    assert piece.text == "Berth 12"
    assert piece.metadata["extraction"] == "whole page"


@pytest.mark.parametrize(
    "page", [b"<html></html>", b"<body><script>x</script></body>", b"<!-- -->"]
)
def test_html_without_a_word_is_refused(page: bytes) -> None:
    with pytest.raises(ParseError, match="no text"):
        only(html.parse(page, {}))


def test_pdf_pages_are_those_its_publisher_lists(data: Data) -> None:
    folder = data("pdf-samples") / "py-pdf"
    listed = {
        Path(each["path"]).name: each
        for each in json.loads((folder / "files.json").read_text())["data"]
    }
    read, refused = 0, {}
    for path in sorted(folder.glob("*.pdf")):
        facts = listed[path.name]
        try:
            pieces = list(pdf.parse(path.read_bytes(), {}))
        except ParseError as error:
            refused[path.name] = str(error)
            continue
        whole = pieces[0]
        assert isinstance(whole, Parsed)
        assert len(whole.metadata["_pages"]) == facts["pages"], path.name
        if facts.get("creation_date"):
            assert whole.metadata["created"][:10] == facts["creation_date"][:10]
        read += 1
    assert read >= 20
    assert {name for name, why in refused.items() if "password" in why} == {
        name for name in refused if listed[name]["encrypted"]
    }


def test_pdf_text_has_the_words_of_the_paper(data: Data) -> None:
    paper = data("pdf-samples") / "pdfjs" / "tracemonkey.pdf"
    piece = only(pdf.parse(paper.read_bytes(), {}))
    starts = piece.metadata["_pages"]
    assert len(starts) == 14
    first = piece.text[: starts[1]]
    assert "Trace-based Just-in-Time Type Specialization for Dynamic" in first
    assert "Dynamic languages such as JavaScript are more difficult to com" in first
    assert "compilers" in first
    assert not re.search("[\x00-\x08\x0e-\x1f\ufffe\u00ad]", piece.text)
    references = piece.text.index("\nReferences\n")
    assert starts[12] <= references


def test_pdf_outline_entries_stand_on_their_title(data: Data) -> None:
    book = data("pdf-samples") / "py-pdf" / "GeoTopo-komprimiert.pdf"
    piece = only(pdf.parse(book.read_bytes(), {}))
    marks = piece.metadata["_headings"]
    assert all(left[0] <= right[0] for left, right in pairwise(marks))
    assert "1 Topologische Grundbegriffe" in [title for _, _, title in marks]
    on_title = [" ".join(piece.text[at : at + 99].split()).startswith(t) for at, _, t in marks]
    assert sum(on_title) >= 0.9 * len(on_title)


def make_pdf(*pages: str) -> bytes:
    """A small PDF by hand, a line of text a page, per ISO 32000."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * n} 0 R" for n in range(count))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {count}>>"]
    for n, line in enumerate(pages):
        stream = f"BT /F 12 Tf 20 100 Td ({line}) Tj ET"
        font = "<</Font<</F<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>"
        size = f"/MediaBox[0 0 9000 200]/Contents {4 + 2 * n} 0 R"
        objects.append(f"<</Type/Page/Parent 2 0 R/Resources{font}{size}>>")
        objects.append(f"<</Length {len(stream)}>>stream\n{stream}\nendstream")
    out = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj{body}endobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    size, at = len(objects) + 1, len(out)
    trailer = f"trailer<</Size {size}/Root 1 0 R>>\nstartxref\n{at}\n%%EOF"
    return out + end.encode() + trailer.encode()


def test_pdf_pages_start_where_they_are_marked() -> None:
    piece = only(pdf.parse(make_pdf("First page", "", "Third page"), {}))
    starts = [*piece.metadata["_pages"], len(piece.text)]
    pages = [piece.text[a:b].strip() for a, b in pairwise(starts)]
    assert pages == ["First page", "", "Third page"]


def test_pdf_whose_words_run_together_is_refused() -> None:
    glued = " ".join(["Coredevelopmentmailinglists", "andtherestofthissentence"] * 40)
    with pytest.raises(ParseError, match="run together"):
        only(pdf.parse(make_pdf(glued), {}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("py-pdf/libreoffice-writer-password.pdf", "password"),
        ("py-pdf/imagemagick-lzw.pdf", "no text layer"),
        ("pdfjs/REDHAT-1531897-0.pdf", "not a readable PDF"),
        ("pdfjs/poppler-937-0-fuzzed.pdf", "page 1 cannot be read"),
    ],
)
def test_pdf_that_cannot_be_read_says_why(data: Data, name: str, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        list(pdf.parse((data("pdf-samples") / name).read_bytes(), {}))


def test_pdf_names_its_scanned_pages(data: Data) -> None:
    path = data("pdf-samples") / "py-pdf" / "imagemagick-images.pdf"
    whole, *broken = pdf.parse(path.read_bytes(), {})
    assert isinstance(whole, Parsed)
    assert broken == [
        Broken("page=4", "no text layer (a scanned page?)"),
        Broken("page=5", "no text layer (a scanned page?)"),
    ]


def make_docx() -> bytes:
    document = docx.Document()
    document.core_properties.title = "Harbour"
    document.core_properties.author = "A. Pilot"
    document.core_properties.created = datetime.datetime(2024, 1, 2, 3, 4, 5)
    document.add_heading("Rules", 1)
    document.add_paragraph("Ships keep right.")
    table = document.add_table(rows=2, cols=3)
    for cell, words in zip(table.rows[0].cells, ["berth", "ship", "from"], strict=True):
        cell.text = words
    table.cell(1, 0).merge(table.cell(1, 1)).text = "12 Ariadne"
    table.cell(1, 2).text = "May"
    document.add_heading("Cranes", 2)
    document.add_paragraph("Two of them.")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def test_docx_keeps_the_order_of_paragraphs_and_tables() -> None:
    piece = only(docx_parser.parse(make_docx(), {}))
    rows = "berth | ship | from\n12 Ariadne | May"
    assert piece.text == f"Rules\n\nShips keep right.\n\n{rows}\n\nCranes\n\nTwo of them."
    assert headings(piece) == [(1, "Rules"), (2, "Cranes")]
    assert [piece.text[at:][: len(t)] for at, _, t in piece.metadata["_headings"]] == [
        "Rules",
        "Cranes",
    ]
    assert piece.metadata["title"] == "Harbour"
    assert piece.metadata["author"] == "A. Pilot"
    assert piece.metadata["created"] == "2024-01-02T03:04:05+00:00"


def make_zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("hello.txt", "not a document")
    return out.getvalue()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"not a zip", "not a readable DOCX"),
        (make_docx()[:2000], "not a readable DOCX"),
        (make_zip(), "not a readable DOCX"),
        (b"\xd0\xcf\x11\xe0" + bytes(600), "password"),
    ],
)
def test_docx_that_cannot_be_read_says_why(given: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        only(docx_parser.parse(given, {}))


CSV = (
    'id,name,year,code,price,text\n7,"Smith, J.",2024,007,1.50,"two\nlines"\n'
    '8,Lee,2025,12,,"say ""hi"""\n'
)


def test_csv_rows_are_documents_with_typed_columns() -> None:
    first, second = csv_rows.parse(CSV.encode(), {})
    assert isinstance(first, Parsed)
    assert isinstance(second, Parsed)
    assert first.part == "row=2"
    assert first.text == (
        "id: 7\nname: Smith, J.\nyear: 2024\ncode: 007\nprice: 1.50\ntext: two\nlines"
    )
    assert first.metadata == {
        **{"id": 7, "name": "Smith, J.", "year": 2024},
        **{"code": "007", "price": 1.5, "text": "two\nlines"},
    }
    assert second.metadata["code"] == "12"
    assert "price" not in second.metadata
    assert second.text.endswith('text: say "hi"')


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_delimiter_is_told_from_the_file(delimiter: str) -> None:
    rows = [["a", "b", "c"], ["1,5", "x;y" if delimiter != ";" else "xy", "z"], ["2,5", "u", "v"]]
    rows = rows if delimiter != "," else [["a", "b", "c"], ["1", "x", "z"]]
    piece = next(iter(csv_rows.parse("\n".join(map(delimiter.join, rows)).encode(), {})))
    assert isinstance(piece, Parsed)
    assert set(piece.metadata) == {"a", "b", "c"}


def test_csv_options_choose_text_id_and_title() -> None:
    options = {"text": ["text"], "id": "id", "title": "name"}
    first, _ = csv_rows.parse(CSV.encode(), options)
    assert isinstance(first, Parsed)
    assert (first.part, first.text, first.metadata["title"]) == (
        "7",
        "text: two\nlines",
        "Smith, J.",
    )


def test_csv_names_rows_that_are_broken() -> None:
    pieces = list(csv_rows.parse(b"id,text\n1,a\n1,b\n2,c,d\n,e\n", {"id": "id"}))
    assert pieces[1:] == [
        Broken("row=3", "repeats the id '1'"),
        Broken("row=4", "has 3 cells, the header has 2"),
        Broken("row=5", "has no 'id'"),
    ]


def test_csv_columns_with_a_meaning_of_our_own_are_renamed() -> None:
    (piece,) = csv_rows.parse(b"source,_x,a,a\n1,2,3,4\n", {})
    assert isinstance(piece, Parsed)
    assert piece.metadata == {"column_source": 1, "column__x": 2, "a": 3, "a (2)": 4}


def test_csv_option_that_names_no_column_is_refused() -> None:
    with pytest.raises(ParseError, match="no column 'nme'; its columns are id, name"):
        list(csv_rows.parse(b"id,name\n1,x\n", {"id": "nme"}))


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ('"unclosed', 3),
        ('"unclosed\n\n', 3),
        ('"two\nlines","unclosed', 3),
        ('"closed\nby the next one\n9,"x"', 3),
    ],
)
@pytest.mark.parametrize("rest", ["", "\n", "\n4,d\n5,e\n", "\n4,d\r\n5,e"])
def test_csv_with_a_quote_that_is_not_closed_loses_no_row_silently(
    cell: str, line: int, rest: str
) -> None:
    with pytest.raises(ParseError, match=f"row that begins on line {line} has a quote"):
        list(csv_rows.parse(f"id,text\n2,b\n3,{cell}{rest}".encode(), {"delimiter": ","}))


@pytest.mark.parametrize(
    ("cell", "read_as"),
    [
        ('5" screen', '5" screen'),
        ('"5" screen', "5 screen"),
        ('a "b', 'a "b'),
        ('"closed"', "closed"),
        ('"two\n\nlines, ""quoted"""', 'two\n\nlines, "quoted"'),
    ],
)
@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_csv_quotes_that_swallow_nothing_are_read(cell: str, read_as: str, end: str) -> None:
    pieces = list(csv_rows.parse(f"id,text\n1,a\n2,{cell}{end}".encode(), {"delimiter": ","}))
    read = [piece.metadata["text"] for piece in pieces if isinstance(piece, Parsed)]
    assert read == ["a", read_as]


@pytest.mark.parametrize("given", [b"a,b\n", b"\n\n"])
def test_csv_without_rows_is_refused(given: bytes) -> None:
    with pytest.raises(ParseError, match="no text"):
        list(csv_rows.parse(given, {}))


def test_jsonl_lines_are_documents_and_bad_ones_are_named() -> None:
    lines = [
        b'{"_id": "a", "title": "T", "text": "Body", "metadata": {"url": "u"}, "end": 3}',
        b'{"_id": "b", "text": ',
        b"",
        b'{"_id": "a", "text": "again"}',
        b"[1]",
        b'{"_id": "c", "title": "", "text": " "}',
        b'{"body": "x"}',
        b'{"text": "no id"}',
        b'{"text": "\xff"}',
        b'{"text": "x", "n": NaN}',
    ]
    first, *rest = jsonl.parse(b"\n".join(lines), LINES)
    assert first == Parsed(
        "T\nBody", {"title": "T", "metadata": {"url": "u"}, "column_end": 3}, "a"
    )
    assert [(p.part, p.reason) if isinstance(p, Broken) else p.part for p in rest] == [
        ("line=2", "is not JSON: Expecting value at column 21"),
        ("line=4", "repeats the id 'a' of line 1"),
        ("line=5", "holds a JSON list, not an object"),
        ("c", "no text"),
        ("line=7", "has none of the text fields 'title', 'text'; its fields are body"),
        "line=8",
        ("line=9", "is not UTF-8: invalid start byte at byte 10"),
        ("line=10", "its field 'n': nan is not a JSON number"),
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("1e999", "its field 'x': inf is not a JSON number"),
        ("[1, -1e999]", "its field 'x[1]': -inf is not a JSON number"),
        ("NaN", "its field 'x': nan is not a JSON number"),
        ('{"y": Infinity}', "its field 'x.y': inf is not a JSON number"),
        ("[" * 70 + "]" * 70, "is nested deeper than 64 levels"),
    ],
)
def test_jsonl_record_that_is_no_json_is_named_by_its_id(value: str, reason: str) -> None:
    lines = f'{{"id": "p", "text": "t", "x": {value}}}\n{{"id": "q", "text": "fine"}}\n'
    broken, fine = jsonl.parse(lines.encode(), LINES)
    assert isinstance(broken, Broken)
    assert broken.part == "p"
    assert broken.reason.endswith(reason)
    assert fine == Parsed("fine", {"id": "q"}, "q")


def test_jsonl_record_too_deep_to_be_read_is_named_by_its_line() -> None:
    deep = '{"id": "p", "text": "t", "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (broken,) = jsonl.parse(deep.encode(), LINES)
    assert broken == Broken("line=1", "is nested too deeply")


def test_jsonl_reads_gzip_and_says_when_it_is_damaged() -> None:
    whole = gzip.compress(b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n')
    assert [p.part for p in jsonl.parse(whole, LINES)] == ["1", "2"]
    with pytest.raises(ParseError, match="gzip stream is damaged"):
        list(jsonl.parse(whole[:-12], LINES))


def test_jsonl_reads_a_beir_corpus_whole(data: Data) -> None:
    found = next(iter(sorted(data("scifact").rglob("corpus.jsonl*"))), None)
    assert found is not None
    pieces = list(jsonl.parse(found.read_bytes(), LINES))
    assert len(pieces) == 5183
    assert all(isinstance(piece, Parsed) for piece in pieces)
    assert len({piece.part for piece in pieces}) == 5183
