"""File bytes to text with structure: one format a file, run in a child process (`child`)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Format:
    """A file format: the module of this package that parses it, and its media type."""

    module: str
    media_type: str


FORMATS: dict[str, Format] = {
    ".csv": Format("csv_rows", "text/csv"),
    ".docx": Format(
        "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    ),
    ".eml": Format("eml", "message/rfc822"),
    ".epub": Format("epub", "application/epub+zip"),
    ".htm": Format("html", "text/html"),
    ".html": Format("html", "text/html"),
    ".jsonl": Format("jsonl", "application/jsonl"),
    ".jsonl.gz": Format("jsonl", "application/jsonl"),
    ".markdown": Format("markdown", "text/markdown"),
    ".md": Format("markdown", "text/markdown"),
    ".ndjson": Format("jsonl", "application/jsonl"),
    ".pdf": Format("pdf", "application/pdf"),
    ".pptx": Format(
        "pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"
    ),
    ".rst": Format("rst", "text/x-rst"),
    ".text": Format("text", "text/plain"),
    ".tsv": Format("csv_rows", "text/tab-separated-values"),
    ".txt": Format("text", "text/plain"),
    ".xhtml": Format("html", "application/xhtml+xml"),
    ".xlsx": Format("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
}
"""Ending of a file's name, lower case -> how it is parsed. The one place that lists them."""


def find_format(name: str) -> Format | None:
    """The format of a file called `name`, or None when its ending is not in the table."""
    lower = name.lower()
    return next((FORMATS[ending] for ending in _ENDINGS if lower.endswith(ending)), None)


_ENDINGS = sorted(FORMATS, key=len, reverse=True)
