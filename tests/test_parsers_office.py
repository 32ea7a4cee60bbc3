"""PPTX, XLSX, EPUB and e-mail: against files written here by other means, and published ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import docx
import openpyxl
import pptx
import pytest

from rag_app.parsers import eml, epub, xlsx
from rag_app.parsers import pptx as pptx_parser
from rag_app.parsers.parsed import Broken, Parsed, ParseError

Data = Callable[[str], Path]
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\x00" * 600


def only(pieces: Any) -> Parsed:
    (piece,) = pieces
    assert isinstance(piece, Parsed)
    return piece


def save(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


# -- PPTX -----------------------------------------------------------------------------------------


def make_slides() -> bytes:
    deck = pptx.Presentation()
    deck.core_properties.author = "Ann"
    first = deck.slides.add_slide(deck.slide_layouts[1])
    first.shapes.title.text = "Plan  of\x0bwork"
    first.placeholders[1].text = "Buy bricks\nLay bricks"
    first.notes_slide.notes_text_frame.text = "Say hello first."
    second = deck.slides.add_slide(deck.slide_layouts[6])
    table = second.shapes.add_table(2, 2, 0, 0, 100, 100).table
    for row, cells in enumerate((("Brick", "Price"), ("red", "3"))):
        for column, cell in enumerate(cells):
            table.cell(row, column).text = cell
    group = second.shapes.add_group_shape()
    group.shapes.add_textbox(0, 0, 10, 10).text_frame.text = "inside a group"
    deck.slides.add_slide(deck.slide_layouts[6])  # empty
    last = deck.slides.add_slide(deck.slide_layouts[5])
    last.shapes.title.text = "The end"
    return save(deck)


def test_pptx_slides_are_pages_with_their_titles_tables_and_notes() -> None:
    piece = only(pptx_parser.parse(make_slides(), {}))
    pages = piece.metadata["_pages"]
    cut = [piece.text[a:b].strip() for a, b in zip(pages, [*pages[1:], None], strict=True)]
    assert cut == [
        "Plan of work\n\nBuy bricks\nLay bricks\n\nNotes: Say hello first.",
        "Brick | Price\nred | 3\n\ninside a group",
        "",
        "The end",
    ]
    assert [
        (piece.text[at:].partition("\n")[0], title) for at, _, title in piece.metadata["_headings"]
    ] == [
        ("Plan of work", "Plan of work"),
        ("The end", "The end"),
    ]
    assert (piece.metadata["title"], piece.metadata["author"]) == ("Plan of work", "Ann")


@pytest.mark.data
def test_pptx_of_another_program(data: Data) -> None:
    piece = only(pptx_parser.parse((data("file-types") / "pptx.pptx").read_bytes(), {}))
    assert "You can print out PPT files as handouts" in piece.text
    assert len(piece.metadata["_pages"]) == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [(OLE, "password|old .ppt"), (b"PK\x03\x04 no zip", "not a readable PPTX"), (b"x", "PPTX")],
)
def test_pptx_that_cannot_be_read_says_why(given: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        list(pptx_parser.parse(given, {}))


def test_pptx_without_a_word_is_refused() -> None:
    with pytest.raises(ParseError, match="no text"):
        list(pptx_parser.parse(save(pptx.Presentation()), {}))


# -- XLSX -----------------------------------------------------------------------------------------


def test_xlsx_rows_stand_on_their_own_where_the_columns_have_names() -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Stock"
    sheet.append(["Part", "Count", "Since", "Sold out"])
    sheet.append(["Bolt", 0.0, datetime(2024, 5, 1), False])
    sheet.append([])
    sheet.append(["Nut", 12, datetime(2024, 5, 1, 13, 30), True])
    plain = book.create_sheet("Notes")
    plain.append([1, 2, 3])
    plain.append(["one", None, "three"])
    book.create_sheet("Empty")
    piece = only(xlsx.parse(save(book), {}))
    assert piece.text.splitlines() == [
        "Stock",
        "Part: Bolt; Count: 0; Since: 2024-05-01; Sold out: false",
        "Part: Nut; Count: 12; Since: 2024-05-01 13:30:00; Sold out: true",
        "",
        "Notes",
        "1 | 2 | 3",
        "one |  | three",
        "",
        "Empty",
    ]
    named = [
        (piece.text[at:].partition("\n")[0], title) for at, _, title in piece.metadata["_headings"]
    ]
    assert named == [("Stock", "Stock"), ("Notes", "Notes"), ("Empty", "Empty")]


def test_xlsx_a_formula_without_its_result_is_not_lost() -> None:
    book = openpyxl.Workbook()
    book.active.append(["Total", "=SUM(B2:B9)"])
    assert "=SUM(B2:B9)" in only(xlsx.parse(save(book), {})).text


@pytest.mark.data
def test_xlsx_of_another_program_has_every_cell(data: Data) -> None:
    file = data("file-types") / "xlsx.xlsx"
    piece = only(xlsx.parse(file.read_bytes(), {}))
    cells = [
        str(cell)
        for row in openpyxl.load_workbook(file, data_only=True).active.iter_rows(values_only=True)
        for cell in row
        if cell is not None
    ]
    assert len(cells) > 50
    assert all(cell in piece.text for cell in cells)


@pytest.mark.parametrize(
    ("given", "reason"),
    [(OLE, "password|old .xls"), (b"PK\x03\x04 no zip", "not a readable XLSX")],
)
def test_xlsx_that_cannot_be_read_says_why(given: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        list(xlsx.parse(given, {}))


def test_xlsx_without_a_cell_is_refused() -> None:
    with pytest.raises(ParseError, match="no text"):
        list(xlsx.parse(save(openpyxl.Workbook()), {}))


# -- EPUB -----------------------------------------------------------------------------------------

CONTAINER = """<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book.opf"/></rootfiles></container>"""
PACKAGE = """<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
<metadata><dc:title>The  Well</dc:title><dc:creator>Ann</dc:creator></metadata>
<manifest><item id="two" href="b%20two.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="a.xhtml" media-type="application/xhtml+xml"/>
<item id="pic" href="p.png" media-type="image/png"/></manifest>
<spine><itemref idref="one"/><itemref idref="two"/><itemref idref="pic"/><itemref idref="gone"/>
</spine></package>"""
ONE = """<html xmlns="http://www.w3.org/1999/xhtml"><head><title>no</title></head><body>
<h1>First <em>words</em></h1><p>A &#8220;well&#8221; is <b>deep</b>.</p>
<ul><li>one<p>inner</p></li><li>two</li></ul><pre>a
  b</pre><table><tr><td>x</td><td>1</td></tr></table><script>no()</script></body></html>"""
TWO = """<html xmlns="http://www.w3.org/1999/xhtml"><body>loose <div>boxed</div> tail<h2>Second</h2>
<p>End.</p></body></html>"""


def make_book(**changes: str | None) -> bytes:
    files = {
        "mimetype": "application/epub+zip",
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": PACKAGE,
        "OEBPS/a.xhtml": ONE,
        "OEBPS/b two.xhtml": TWO,
        **changes,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as book:
        for name, content in files.items():
            if content is not None:
                book.writestr(name, content)
    return buffer.getvalue()


def test_epub_chapters_come_in_the_order_they_are_read() -> None:
    piece = only(epub.parse(make_book(), {}))
    assert piece.text.split("\n\n") == [
        "First words",
        "A “well” is deep.",
        "one",
        "inner",
        "two",
        "a\n  b",
        "x | 1",
        "loose",
        "boxed",
        "tail",
        "Second",
        "End.",
    ]
    marked = [
        (level, piece.text[at : at + len(title)])
        for at, level, title in piece.metadata["_headings"]
    ]
    assert marked == [(1, "First words"), (2, "Second")]
    assert (piece.metadata["title"], piece.metadata["author"]) == ("The Well", "Ann")


def test_epub_cannot_reach_out() -> None:
    hostile = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]><html><p>a&e;b</p></html>'
    piece = only(epub.parse(make_book(**{"OEBPS/a.xhtml": hostile}), {}))
    assert "root:" not in piece.text


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"PK\x03\x04 no zip", "not a readable EPUB"),
        (make_book(**{"META-INF/container.xml": None}), "container.xml"),
        (make_book(**{"OEBPS/a.xhtml": None}), "a.xhtml"),
        (make_book(**{"OEBPS/a.xhtml": "<p> </p>", "OEBPS/b two.xhtml": "<p/>"}), "no text"),
        (
            make_book(
                **{
                    "META-INF/encryption.xml": "<encryption><CipherReference URI='OEBPS/a.xhtml'/>"
                    "</encryption>"
                }
            ),
            "encrypted",
        ),
    ],
)
def test_epub_that_cannot_be_read_says_why(given: bytes, reason: str) -> None:
    with pytest.raises(ParseError, match=reason):
        list(epub.parse(given, {}))


@pytest.mark.data
def test_epub_of_a_publisher(data: Data) -> None:
    piece = only(epub.parse((data("file-types") / "epub.epub").read_bytes(), {}))
    assert piece.metadata["title"].startswith("The Geography of Bliss")
    assert (
        "All rights reserved. Except as permitted under the U.S. Copyright Act of 1976"
        in piece.text
    )


# -- e-mail ---------------------------------------------------------------------------------------


def make_mail() -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"] = "Änne <ann@example.org>", "bob@example.org"
    mail["Subject"], mail["Date"] = "Prices für May", "Wed, 01 May 2024 10:00:00 +0200"
    mail.set_content("Dear Bob,\n\nsee the paper.\n")
    mail.add_alternative("<p>Dear Bob, <b>not this</b></p>", subtype="html")
    return mail


def test_eml_is_headers_and_plain_body() -> None:
    piece = only(eml.parse(bytes(make_mail()), {}))
    assert piece.text == (
        "From: Änne <ann@example.org>\nTo: bob@example.org\n"
        "Date: Wed, 01 May 2024 10:00:00 +0200\nSubject: Prices für May\n\n"
        "Dear Bob,\n\nsee the paper."
    )
    assert piece.metadata["title"] == "Prices für May"
    assert piece.metadata["created"] == "2024-05-01T10:00:00+02:00"


def test_eml_with_html_alone_gives_its_text() -> None:
    mail = EmailMessage()
    mail["Subject"] = "x"
    mail.set_content(
        "<html><body><p>Only <b>marked</b> up words here.</p></body></html>", subtype="html"
    )
    assert "marked" in only(eml.parse(bytes(mail), {})).text
    assert "<" not in only(eml.parse(bytes(mail), {})).text


def test_eml_attachments_are_documents_and_unreadable_ones_are_named() -> None:
    mail, inner = make_mail(), make_mail()
    paper = docx.Document()
    paper.add_paragraph("Bricks cost three.")
    mail.add_attachment(save(paper), maintype="application", subtype="x", filename="prices.docx")
    mail.add_attachment("a,b\n1,2\n", subtype="csv", filename="t.csv")
    mail.add_attachment(b"\x00\x01", maintype="application", subtype="x", filename="t.bin")
    mail.add_attachment(b"no pdf", maintype="application", subtype="pdf", filename="bad.pdf")
    mail.add_attachment(
        b"\x89PNG", maintype="image", subtype="png", filename="logo.png", disposition="inline"
    )
    mail.add_attachment(inner)
    body, *pieces = eml.parse(bytes(mail), {})
    assert isinstance(body, Parsed)
    assert body.metadata["attachments"][:2] == ["prices.docx", "t.csv"]
    found = {piece.part: piece for piece in pieces}
    assert found["prices.docx"].text == "Bricks cost three."  # type: ignore[union-attr]
    assert "a: 1" in found["t.csv#row=2"].text  # type: ignore[union-attr]
    assert isinstance(found["t.bin"], Broken)
    assert isinstance(found["bad.pdf"], Broken)
    assert "logo.png" not in found
    (forwarded,) = (piece for part, piece in found.items() if part and part.endswith(".eml"))
    assert "see the paper." in forwarded.text  # type: ignore[union-attr]


@pytest.mark.data
def test_eml_of_another_program(data: Data) -> None:
    piece = only(eml.parse((data("file-types") / "eml.eml").read_bytes(), {}))
    assert "Revenue targets increased by 15%" in piece.text
    assert piece.metadata["title"] == "Meeting Summary - Q4 Planning"


def test_eml_of_a_subject_alone_is_read_and_what_is_no_mail_refused() -> None:
    assert only(eml.parse(b"Subject: x\n\n  \n", {})).text == "Subject: x"
    with pytest.raises(ParseError, match="no header"):
        list(eml.parse(b"no mail at all", {}))
