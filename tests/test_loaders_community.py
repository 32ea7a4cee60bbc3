"""Loaders of langchain-community by name: a closed list, checked options, documents told apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import rag_app
from rag_app import registry
from rag_app.errors import SourceError, UsageError


def build(loader: str, **options: Any) -> Any:
    config = registry.config_class("loaders", "community")(loader=loader, options=options)
    return registry.build("loaders", "community", config)


def test_reads_by_name_with_the_loaders_own_options(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("name;age\nAnn;30\nBob;40\n")
    documents = build("CSVLoader", file_path=str(file), csv_args={"delimiter": ";"}).load()
    assert [d.page_content for d in documents] == ["name: Ann\nage: 30", "name: Bob\nage: 40"]
    assert [d.metadata["source"] for d in documents] == [str(file), f"{file}#2"]


def test_an_ingest_keeps_every_document(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("name,fruit\nAnn,apples\nBob,pears\n")
    config = {
        "name": "community",
        "sources": [
            {"kind": "community", "loader": "CSVLoader", "options": {"file_path": "rows.csv"}}
        ],
        "embeddings": "hashing",
        "vector_store": {"kind": "memory", "path": None},
        "chain": "extractive",
    }
    file = tmp_path / "rag-app.yaml"
    file.write_text(json.dumps(config))
    with rag_app.load(file) as app:  # the path starts at the config's folder
        report = app.ingest()
        assert (report.indexed, report.quarantined) == (2, 0)
        assert app.search("pears").hits[0].source.endswith("rows.csv#2")
        assert app.ingest().unchanged == 2


def test_metadata_that_is_no_json_becomes_text(tmp_path: Path) -> None:
    from langchain_community import document_loaders

    frame = pytest.importorskip("pandas").DataFrame(
        {
            "text": ["a"],
            "when": [__import__("datetime").datetime(2024, 5, 1)],
            "path": [Path("x/y")],
        }
    )
    assert "DataFrameLoader" in document_loaders.__all__
    (document,) = build("DataFrameLoader", data_frame=frame, page_content_column="text").load()
    assert document.metadata["when"] == "2024-05-01T00:00:00"
    assert document.metadata["path"] == "x/y"


@pytest.mark.parametrize(
    ("loader", "options", "words"),
    [
        ("CSVLoder", {}, r"sources\.loader: 'CSVLoder' is no loader.*Did you mean 'CSVLoader'"),
        ("BaseLoader", {}, "is no loader"),
        ("CSVLoader", {"file_path": "x", "delimeter": ";"}, "takes no 'delimeter'"),
        ("CSVLoader", {}, "needs file_path"),
        ("RecursiveUrlLoader", {"url": "x", "max_depth": "deep", "foo": 1}, "takes no 'foo'"),
    ],
)
def test_what_the_list_or_the_class_does_not_know_is_refused(
    loader: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        build(loader, **options)


def test_a_dotted_path_is_no_name() -> None:
    with pytest.raises(ValueError, match="loader"):
        registry.config_class("loaders", "community")(loader="os.system")


def test_a_loader_that_fails_is_named(tmp_path: Path) -> None:
    loader = build("TextLoader", file_path=str(tmp_path / "missing.txt"))
    with pytest.raises(SourceError, match="community:TextLoader"):
        loader.load()
