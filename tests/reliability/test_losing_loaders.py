"""Loaders of langchain-community that end early: what they do not give is not deleted for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rag_app.errors import IndexStateError
from tests.http_server import Answer, Hangup, HttpServer, Refusal, Request, Stream
from tests.reliability.losing import Losing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def make_vault(folder: Path, *, collect_metadata: bool = False) -> Losing:
    """Thirty notes that ObsidianLoader reads one after the other."""
    vault = folder / "vault"
    vault.mkdir()
    for number in range(30):
        (vault / f"{number:02}.md").write_text(f"The note {number} tells of {number}.\n")
    options = {"path": str(vault), "collect_metadata": collect_metadata}
    index = Losing(folder, {"kind": "community", "loader": "ObsidianLoader", "options": options})
    assert index.ingest().indexed == 30
    return index


def test_a_loader_that_fails_half_way_keeps_all_documents(tmp_path: Path) -> None:
    index = make_vault(tmp_path)
    for number in range(30):
        if number % 3 == 0:
            (tmp_path / "vault" / f"{number:02}.md").write_bytes(b"\xff\xfe\xff")
    (name,) = index.quarantine("the loader failed: UnicodeDecodeError")
    assert name.startswith("community:ObsidianLoader")


def test_a_loader_that_gives_nothing_keeps_all_documents(tmp_path: Path) -> None:
    index = make_vault(tmp_path)
    for path in (tmp_path / "vault").iterdir():
        path.unlink()
    index.quarantine("the loader gave no documents")
    (tmp_path / "vault").rmdir()
    index.quarantine("the loader gave no documents")


def test_a_loader_that_warns_and_goes_on_keeps_all_documents(tmp_path: Path) -> None:
    index = make_vault(tmp_path, collect_metadata=True)
    (tmp_path / "vault" / "07.md").unlink()
    (tmp_path / "vault" / "08.md").write_text("---\nwrong: [\n---\nThe note 8 tells of 8.\n")
    index.quarantine("the loader went on after a warning: Encountered non-yaml frontmatter")


def test_a_loader_that_fails_under_other_options_keeps_all_documents(tmp_path: Path) -> None:
    index = make_vault(tmp_path)
    (tmp_path / "vault" / "07.md").write_bytes(b"\xff\xfe\xff")
    index.sources[0]["options"]["collect_metadata"] = True
    index.refuse(IndexStateError, "community:ObsidianLoader:.* could not be read whole")


def test_what_a_loader_leaves_out_in_silence_is_a_deletion(tmp_path: Path) -> None:
    index = make_vault(tmp_path)
    (tmp_path / "vault" / "07.md").unlink()
    report = index.ingest()
    assert (report.deleted, report.unchanged + report.indexed, report.quarantined) == (1, 29, 0)


class Site(HttpServer):
    """A page with links to six others; `lost` are those that fail."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: dict[str, Answer] = {}

    def answer(self, method: str, request: Request) -> Answer:
        if request.path in self.lost:
            return self.lost[request.path]
        if request.path == "/sitemap.xml":
            urls = "".join(f"<url><loc>{self.url}/{n}/</loc></url>" for n in range(6))
            return Stream("application/xml", [f"<urlset>{urls}</urlset>"])
        links = "".join(f'<a href="/{number}/">more</a>' for number in range(6))
        return Stream("text/html", [f"<p>The page {request.path}</p>{links}"])


@pytest.fixture
def crawl(tmp_path: Path) -> Iterator[tuple[Losing, Site]]:
    with Site() as site:
        options = {"url": f"{site.url}/", "check_response_status": True}
        source = {"kind": "community", "loader": "RecursiveUrlLoader", "options": options}
        index = Losing(tmp_path, source)
        assert index.ingest().indexed == 7
        yield index, site


@pytest.mark.parametrize("answer", [Refusal(500, ""), Refusal(404, ""), Hangup()])
def test_a_crawl_that_misses_a_page_keeps_it(crawl: tuple[Losing, Site], answer: Answer) -> None:
    index, site = crawl
    site.lost = {"/3/": answer}
    index.quarantine("the loader went on after a warning: Unable to load from .*/3/")


def test_a_crawl_whose_first_page_fails_keeps_all(crawl: tuple[Losing, Site]) -> None:
    index, site = crawl
    site.lost = {"/": Refusal(500, "")}
    index.quarantine("the loader went on after a warning: Unable to load from")


def test_an_empty_sitemap_keeps_all_pages(tmp_path: Path) -> None:
    with Site() as site:
        options = {"web_path": f"{site.url}/sitemap.xml", "restrict_to_same_domain": False}
        source = {"kind": "community", "loader": "SitemapLoader", "options": options}
        index = Losing(tmp_path, source)
        assert index.ingest().indexed == 6
        site.lost = {"/sitemap.xml": Stream("application/xml", ["<urlset></urlset>"])}
        index.quarantine("the loader gave no documents")
