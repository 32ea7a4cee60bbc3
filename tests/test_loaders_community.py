"""Loaders of langchain-community by name: a closed list, checked options, documents told apart."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas
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
    frame = pandas.DataFrame({"text": ["a"], "when": [datetime(2024, 5, 1)], "path": [Path("x/y")]})
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


def load_documents(config: dict[str, Any], folder: Path, *sources: dict[str, Any]) -> Any:
    file = folder / "rag-app.yaml"
    listed = [{"kind": "community", **source} for source in sources]
    file.write_text(json.dumps({**config, "sources": listed}))
    return rag_app.load(file)


CONFIG = {
    "name": "community",
    "embeddings": "hashing",
    "vector_store": {"kind": "memory", "path": "v.sqlite"},
    "chain": "extractive",
}


def test_two_sources_of_one_class_are_both_read(tmp_path: Path) -> None:
    sources = []
    for name in ("one", "two"):
        (tmp_path / f"{name}.csv").write_text(f"word\n{name}\n")
        sources.append({"loader": "CSVLoader", "options": {"file_path": f"{name}.csv"}})
    with load_documents(CONFIG, tmp_path, *sources) as app:
        report = app.ingest()
        assert (report.indexed, report.quarantined) == (2, 0)
        assert app.search("two").hits[0].source.endswith("two.csv")
    with load_documents(CONFIG, tmp_path, sources[1]) as app:
        report = app.ingest()
        assert (report.unchanged, report.deleted) == (1, 1)


def test_secrets_reach_the_class_and_show_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class refuses its other options, with all it was given in its words."""
    monkeypatch.setenv("TOKEN", "top secret/123")
    source = {"loader": "GitHubIssuesLoader", "secrets": {"access_token": "${TOKEN}"}}
    with load_documents(CONFIG, tmp_path, {**source, "options": {"repo": "me/it"}}) as app:
        app.plan()
    wrong = {"repo": "me/it", "state": "broken-state"}
    app = load_documents(CONFIG, tmp_path, {**source, "options": wrong})
    with app, pytest.raises(UsageError, match=r"GitHubIssuesLoader cannot.*state: ") as raised:
        app.ingest()
    assert "top secret" not in f"{raised.value}{raised.value.__cause__}"
    assert "broken-state" not in str(raised.value)
    made = registry.config_class("loaders", "community")(
        loader="GitHubIssuesLoader", secrets={"access_token": "top secret/123"}
    )
    assert "top secret" not in repr(made)


def test_a_failing_loaders_words_hold_no_secret(tmp_path: Path) -> None:
    config = registry.config_class("loaders", "community")(
        loader="TextLoader", secrets={"file_path": str(tmp_path / "hidden")}
    )
    with pytest.raises(SourceError, match="…") as raised:
        registry.build("loaders", "community", config).load()
    assert "hidden" not in f"{raised.value}{raised.value.__cause__}"


@pytest.mark.parametrize("both", [False, True])
def test_a_secret_among_the_options_is_refused(both: bool) -> None:
    config = registry.config_class("loaders", "community")(
        loader="GitHubIssuesLoader",
        options={"repo": "me/it", "access_token": "top-secret"},
        secrets={"access_token": "top-secret"} if both else {},
    )
    with pytest.raises(UsageError, match=r"options\.access_token: .*under secrets") as raised:
        registry.build("loaders", "community", config)
    assert "top-secret" not in str(raised.value)
