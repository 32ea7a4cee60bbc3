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
from openpyxl.styles import Font, PatternFill
from openpyxl.worksheet.formula import ArrayFormula
from openpyxl.worksheet.table import Table

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


def test_pptx_text_with_the_id_of_the_title_is_kept() -> None:
    deck = pptx.Presentation()
    slide = deck.slides.add_slide(deck.slide_layouts[5])
    slide.shapes.title.text = "Title"
    box = slide.shapes.add_textbox(0, 0, 9, 9)
    box.text_frame.text = "body"
    box.element.nvSpPr.cNvPr.set("id", str(slide.shapes.title.shape_id))
    assert only(pptx_parser.parse(save(deck), {})).text == "Title\n\nbody"


@pytest.mark.parametrize(
    ("choice", "fallback", "shown"),
    [("new", "old", "new"), (None, "old", "old"), ("new", None, "new")],
)
def test_pptx_alternatives_are_read_once_in_their_place(
    choice: str | None, fallback: str | None, shown: str
) -> None:
    namespace = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
    deck = pptx.Presentation()
    shapes = deck.slides.add_slide(deck.slide_layouts[6]).shapes
    tree = shapes.element
    both = tree.makeelement(f"{namespace}AlternateContent", {})
    for name, text in (("Choice", choice), ("Fallback", fallback)):
        branch = tree.makeelement(f"{namespace}{name}", {})
        both.append(branch)
        if text is not None:
            box = shapes.add_textbox(0, 0, 9, 9)
            box.text_frame.text = text
            branch.append(box.element)
    tree.append(both)
    shapes.add_textbox(0, 0, 9, 9).text_frame.text = "after"
    assert only(pptx_parser.parse(save(deck), {})).text == f"{shown}\n\nafter"


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


def test_xlsx_an_array_formula_without_its_result_is_its_text() -> None:
    book = openpyxl.Workbook()
    book.active["A1"] = "Total"
    book.active["B1"] = ArrayFormula("B1:B2", "=SUM(C1:C9*D1:D9)")
    assert only(xlsx.parse(save(book), {})).text == "Sheet\nTotal | =SUM(C1:C9*D1:D9)"


def fill_people(first: tuple[str, str]) -> openpyxl.Workbook:
    book = openpyxl.Workbook()
    for row in (first, ("Bob", "Rome"), ("Cy", "Oslo")):
        book.active.append(row)
    return book


def test_xlsx_a_first_row_like_the_others_is_no_header() -> None:
    piece = only(xlsx.parse(save(fill_people(("Alice", "Paris"))), {}))
    assert piece.text == "Sheet\nAlice | Paris\nBob | Rome\nCy | Oslo"


def make_bold(book: openpyxl.Workbook, rows: int = 1) -> None:
    for row in book.active.iter_rows(max_row=rows):
        for cell in row:
            cell.font = Font(bold=True)


def make_coloured(book: openpyxl.Workbook) -> None:
    for cell in book.active[1]:
        cell.fill = PatternFill("solid", fgColor="DDDDDD")


def make_filtered(book: openpyxl.Workbook) -> None:
    book.active.auto_filter.ref = "A1:B3"


def make_table(book: openpyxl.Workbook) -> None:
    book.active.add_table(Table(displayName="People", ref="A1:B3"))


@pytest.mark.parametrize("mark", [make_bold, make_coloured, make_filtered, make_table])
def test_xlsx_a_first_row_set_off_from_the_others_is_a_header(
    mark: Callable[[openpyxl.Workbook], None],
) -> None:
    book = fill_people(("Name", "City"))
    mark(book)
    piece = only(xlsx.parse(save(book), {}))
    assert piece.text == "Sheet\nName: Bob; City: Rome\nName: Cy; City: Oslo"


def test_xlsx_a_first_row_as_bold_as_the_next_is_no_header() -> None:
    book = fill_people(("Alice", "Paris"))
    make_bold(book, rows=3)
    assert "Alice | Paris\nBob | Rome" in only(xlsx.parse(save(book), {})).text


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
<spine><itemref idref="one"/><itemref idref="two"/><itemref idref="pic"/></spine></package>"""
ONE = """<html xmlns="http://www.w3.org/1999/xhtml"><head><title>no</title></head><body>
<h1>First <em>words</em></h1><p>A &#8220;well&#8221; is <b>deep</b>.</p>
<ul><li>one<p>inner</p></li><li>two</li></ul><pre>a
  b</pre><table><tr><td>x</td><td>1</td></tr></table><script>no()</script></body></html>"""
TWO = """<html xmlns="http://www.w3.org/1999/xhtml"><body>loose <div>boxed</div> tail<h2>Second</h2>
<p>End.</p></body></html>"""


def make_book(**changes: str | bytes | None) -> bytes:
    files: dict[str, str | bytes | None] = {
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
    ("page", "blocks"),
    [
        ("<html><p>caf&eacute; 5&nbsp;km &mdash; &lt;ok&gt;</p></html>", ["café 5 km — <ok>"]),
        ("<html><p>AT&T and R&D; a < b</p></html>", ["AT&T and R&D; a < b"]),
        ("<html><p>one<br/>two</p><pre>a<br/>b</pre></html>", ["one two", "a\nb"]),
        ("<html><body><p>1</p></body></html><html><body><p>2</p></body></html>", ["1", "2"]),
        ("<html><p>a<!-- no -->b</p><pre><![CDATA[x<y]]></pre></html>", ["ab", "x<y"]),
        ("<html><head><script src='x'/></head><body>a<div/>b</body></html>", ["a", "b"]),
        ('<?xml version="1.0" encoding="iso-8859-1"?><html><p>ü</p></html>', ["ü"]),
        ("", [""]),
    ],
)
def test_epub_chapters_are_read_as_a_reader_shows_them(page: str, blocks: list[str]) -> None:
    data = page.encode("latin-1" if "iso-8859-1" in page else "utf-8")
    changes: dict[str, str | bytes | None] = {
        "OEBPS/a.xhtml": data,
        "OEBPS/b two.xhtml": "<p>z</p>",
    }
    book = make_book(**changes)
    assert only(epub.parse(book, {})).text.split("\n\n") == [*filter(None, blocks), "z"]


@pytest.mark.parametrize("media_type", ["application/xml", "application/x-dtbook+xml"])
def test_epub_chapters_of_other_text_types_are_read(media_type: str) -> None:
    package = PACKAGE.replace("application/xhtml+xml", media_type)
    assert "First words" in only(epub.parse(make_book(**{"OEBPS/book.opf": package}), {})).text


@pytest.mark.parametrize(
    ("change", "part", "reason"),
    [
        ({"OEBPS/a.xhtml": None}, "OEBPS/a.xhtml", "not in the file"),
        ({"OEBPS/book.opf": PACKAGE.replace('id="one"', 'id="1"')}, "one", "no such item"),
        (
            {"OEBPS/book.opf": PACKAGE.replace("image/png", "application/pdf")},
            "OEBPS/p.png",
            "'application/pdf' cannot be read",
        ),
    ],
)
def test_epub_names_the_chapter_it_cannot_read(
    change: dict[str, str | None], part: str, reason: str
) -> None:
    piece, broken = epub.parse(make_book(**change), {})
    assert isinstance(piece, Parsed)
    assert "End." in piece.text
    assert isinstance(broken, Broken)
    assert broken.part == part
    assert reason in broken.reason


def test_epub_reads_the_fallback_of_a_type_it_cannot_read() -> None:
    package = PACKAGE.replace("image/png", "application/pdf").replace(
        'id="pic"', 'id="pic" fallback="two"'
    )
    piece = only(epub.parse(make_book(**{"OEBPS/book.opf": package}), {}))
    assert piece.text.count("End.") == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (b"PK\x03\x04 no zip", "not a readable EPUB"),
        (make_book(**{"META-INF/container.xml": None}), "container.xml"),
        (make_book(**{"OEBPS/a.xhtml": None, "OEBPS/b two.xhtml": None}), "a.xhtml.*b two.xhtml"),
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


TEXT = "Content-Type: text/plain\n\nhello"
HTML = "Content-Type: text/html\n\n<p>marked up</p>"
CSV = """Content-Type: text/csv; name="x.csv"
Content-Disposition: attachment; filename="x.csv"

a,b
1,2
"""
FOOTER = "Content-Type: text/plain\n\nfooter"


def nest(kind: str, *parts: str) -> str:
    boundary = f"b{sum(map(len, parts))}"
    inner = "".join(f"--{boundary}\n{part}\n" for part in parts)
    return f'Content-Type: multipart/{kind}; boundary="{boundary}"\n\n{inner}--{boundary}--\n'


@pytest.mark.parametrize(
    ("content", "body"),
    [
        (CSV, ""),
        (nest("alternative", TEXT, nest("mixed", HTML, CSV)), "hello"),
        (nest("mixed", nest("alternative", TEXT, nest("mixed", HTML, CSV))), "hello"),
        (nest("mixed", nest("related", HTML, CSV)), "marked up"),
        (nest("related", HTML, CSV), "marked up"),
        (nest("mixed", nest("mixed", TEXT, CSV), FOOTER), "hello\n\nfooter"),
        (
            nest("alternative", "Content-Type: text/plain\n\n ", nest("mixed", HTML, CSV)),
            "marked up",
        ),
        (nest("mixed", CSV, TEXT.replace("plain", 'plain; name="body"')), "hello"),
    ],
)
def test_eml_attachments_are_found_wherever_they_are_nested(content: str, body: str) -> None:
    message, *rows = eml.parse(f"Subject: s\nMIME-Version: 1.0\n{content}".encode(), {})
    assert isinstance(message, Parsed)
    assert message.text == f"Subject: s\n\n{body}".strip()
    assert message.metadata["attachments"] == ["x.csv"]
    assert [(row.part, row.text) for row in rows if isinstance(row, Parsed)] == [
        ("x.csv#row=2", "a: 1\nb: 2")
    ]


def test_eml_forwarded_messages_keep_their_own_parts() -> None:
    inner = f"Content-Type: message/rfc822\n\nSubject: inner\n{nest('mixed', TEXT, CSV)}"
    outer = f"Subject: s\n{nest('mixed', FOOTER, inner)}"
    message, *pieces = eml.parse(outer.encode(), {})
    assert isinstance(message, Parsed)
    assert message.text == "Subject: s\n\nfooter"
    assert message.metadata["attachments"] == ["attachment 1.eml"]
    assert [piece.part for piece in pieces] == [
        "attachment 1.eml",
        "attachment 1.eml#x.csv#row=2",
    ]


@pytest.mark.parametrize("charset", ["utf-8", "us-ascii", "x-unknown"])
def test_eml_bytes_outside_the_stated_encoding_are_told_from_the_text(charset: str) -> None:
    words = "Die Brücke über den Fluß wurde im März für größere Fahrzeuge geöffnet. " * 4
    head = f"Subject: s\nContent-Type: text/plain; charset={charset}\n"
    mail = f"{head}Content-Transfer-Encoding: 8bit\n\n".encode() + words.encode("cp1252")
    piece = only(eml.parse(mail, {}))
    assert piece.text == f"Subject: s\n\n{words.strip()}"
    assert piece.metadata["encoding"].startswith("cp125")  # told as a guess


def test_eml_attached_text_is_in_the_encoding_its_header_states() -> None:
    csv = CSV.replace("text/csv;", "text/csv; charset=koi8-r;").replace("1,2", "щи,2")
    mail = f"Subject: s\n{nest('mixed', TEXT, csv)}".encode("koi8-r")
    _, row = eml.parse(mail, {})
    assert isinstance(row, Parsed)
    assert row.text == "a: щи\nb: 2"


@pytest.mark.data
def test_eml_of_another_program(data: Data) -> None:
    piece = only(eml.parse((data("file-types") / "eml.eml").read_bytes(), {}))
    assert "Revenue targets increased by 15%" in piece.text
    assert piece.metadata["title"] == "Meeting Summary - Q4 Planning"


def test_eml_of_a_subject_alone_is_read_and_what_is_no_mail_refused() -> None:
    assert only(eml.parse(b"Subject: x\n\n  \n", {})).text == "Subject: x"
    with pytest.raises(ParseError, match="no header"):
        list(eml.parse(b"no mail at all", {}))
