"""PPTX: the slides in order, each with its title as a heading, its tables and notes (python-pptx).

A slide is a page. Charts, pictures and what only a layout shows are left out.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final
from zipfile import BadZipFile

from rag_app.parsers.docx import COMPOUND
from rag_app.parsers.parsed import Broken, Parsed, ParseError, refuse_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_COMPATIBILITY: Final = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SHAPES: Final = [
    f"{{http://schemas.openxmlformats.org/presentationml/2006/main}}{name}"
    for name in ("sp", "grpSp", "graphicFrame", "cxnSp", "pic")
]


def parse(data: bytes, _options: Mapping[str, Any]) -> Iterator[Parsed | Broken]:
    """The whole file as one document.

    Raises:
        ParseError: it is protected, damaged, or no PPTX.
    """
    presentation = _open(data)
    text, pages, headings = "", list[int](), list[tuple[int, int, str]]()
    for slide in presentation.slides:
        pages.append(len(text))
        title, parts = _read_slide(slide)
        if title:
            headings.append((len(text), 2, title))
        text += "\n\n".join(parts) + "\n\n"
    whole = refuse_empty(text.rstrip())
    marks = {"_pages": pages, **({"_headings": headings} if headings else {})}
    yield Parsed(whole, {**_read_properties(presentation, headings), **marks})


def _open(data: bytes) -> Any:
    import pptx
    from pptx.exc import PackageNotFoundError

    if data.startswith(COMPOUND):
        raise ParseError("is protected by a password, or an old .ppt by another name")
    try:
        return pptx.Presentation(io.BytesIO(data))
    except (BadZipFile, PackageNotFoundError, KeyError, ValueError) as error:
        raise ParseError(f"is not a readable PPTX ({error})") from error


def _read_slide(slide: Any) -> tuple[str, list[str]]:
    """The title, "" for none, and the texts: the title first, the speaker's notes last."""
    _unfold(slide.shapes.element)
    holder = slide.shapes.title
    title = " ".join(holder.text_frame.text.split()) if holder is not None else ""
    parts = [title] if title else []
    for shape in slide.shapes:
        if holder is None or shape.element is not holder.element:  # ids are not always unique
            parts += _read_shape(shape)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        notes = _clean(slide.notes_slide.notes_text_frame.text)
        parts += [f"Notes: {notes}"] if notes else []
    return title, parts


def _unfold(tree: Any) -> None:
    """Put in place of each alternative its first choice with a shape, else its fallback.

    python-pptx does not see what stands inside one. ECMA-376, part 3, section 7.6.
    """
    while (found := next(tree.iter(f"{_COMPATIBILITY}AlternateContent"), None)) is not None:
        branches = [*found.iterchildren(f"{_COMPATIBILITY}Choice")]
        branches += found.iterchildren(f"{_COMPATIBILITY}Fallback")
        chosen = next((each for each in branches if _has_shape(each)), None)
        for element in list(chosen) if chosen is not None else []:
            found.addprevious(element)
        found.getparent().remove(found)


def _has_shape(branch: Any) -> bool:
    return next(branch.iter(*_SHAPES), None) is not None


def _read_shape(shape: Any) -> Iterator[str]:
    if hasattr(shape, "shapes"):  # a group
        for inner in shape.shapes:
            yield from _read_shape(inner)
    elif getattr(shape, "has_table", False):
        rows = (" | ".join(" ".join(c.text.split()) for c in row.cells) for row in shape.table.rows)
        if lines := [row for row in rows if row.strip(" |")]:
            yield "\n".join(lines)
    elif shape.has_text_frame and (text := _clean(shape.text_frame.text)):
        yield text


def _clean(text: str) -> str:
    """Lines without white space around them; a vertical tab is PowerPoint's soft line break."""
    lines = (line.strip() for line in text.replace("\x0b", "\n").splitlines())
    return "\n".join(line for line in lines if line)


def _read_properties(presentation: Any, headings: list[tuple[int, int, str]]) -> dict[str, Any]:
    given = presentation.core_properties
    found = {
        "title": (given.title or "").strip() or (headings[0][2] if headings else ""),
        "author": (given.author or "").strip(),
        "created": given.created.isoformat() if given.created else "",
        "modified": given.modified.isoformat() if given.modified else "",
    }
    return {name: value for name, value in found.items() if value}
