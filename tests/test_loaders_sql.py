"""The SQL loader on real SQLite databases: documents, types, refusals, and what never shows."""

from __future__ import annotations

import datetime
import decimal
import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from rag_app.errors import MissingPackageError, SourceError
from rag_app.loaders.sql import Config, build, to_json
from rag_app.types import Unreadable

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def url(tmp_path: Path) -> str:
    with sqlite3.connect(tmp_path / "ships.db") as database:
        database.execute(
            "CREATE TABLE ships (id INTEGER, name TEXT, text TEXT, weight REAL, log BLOB)"
        )
        rows = [
            (1, "Ariadne", "Carries grain.", 12.5, b"log \xc3\xbc"),
            (2, None, "Carries coal.", None, b"\xff\x00"),
            (3, "Empty", None, 1.0, None),
            (1, "Again", "Twice.", 1.0, None),
            (None, "Nameless", "No id.", 1.0, None),
        ]
        database.executemany("INSERT INTO ships VALUES (?, ?, ?, ?, ?)", rows)
    database.close()
    return f"sqlite:///{tmp_path / 'ships.db'}"


def load(url: str, query: str = "SELECT * FROM ships", **options: Any) -> list[Any]:
    loader = build(Config.model_validate({"url": url, "query": query, "name": "ships", **options}))
    (origin,) = loader.origins()
    assert (origin.source, origin.fingerprint, origin.excluded) == ("sql:ships", None, None)
    return list(origin.load())


def test_rows_are_documents_and_bad_ones_are_named(url: str) -> None:
    first, second, *bad = load(url, title="name")
    assert first.page_content == "Carries grain."
    assert first.metadata == {
        **{"source": "sql:ships#1", "title": "Ariadne"},
        **{"id": 1, "weight": 12.5, "log": "log ü"},
    }
    assert second.metadata == {"source": "sql:ships#2", "id": 2, "weight": None, "log": "/wA="}
    assert bad == [
        Unreadable("sql:ships#3", "no text"),
        Unreadable("sql:ships#row=4", "repeats the id '1'"),
        Unreadable("sql:ships#row=5", "its id is NULL"),
    ]


def test_text_and_id_can_be_several_columns(url: str) -> None:
    options = {"text": ["name", "text"], "id": ["id", "name"], "metadata": ["weight"]}
    (first,) = load(url, "SELECT * FROM ships WHERE weight > 10", **options)
    assert first.page_content == "Ariadne\nCarries grain."
    assert first.metadata == {"source": "sql:ships#1/Ariadne", "weight": 12.5}


def test_a_query_may_hold_colons_and_percents(url: str) -> None:
    query = "SELECT id, text || ' :x 100%' AS text FROM ships WHERE text LIKE '%grain%'"
    (first,) = load(url, query)
    assert first.page_content == "Carries grain. :x 100%"


def test_column_names_with_a_meaning_of_our_own_are_renamed(url: str) -> None:
    query = "SELECT id, text, 'x' AS source, 1 AS _secret FROM ships WHERE id = 2"
    (first,) = load(url, query)
    assert first.metadata["source"] == "sql:ships#2"
    assert (first.metadata["column_source"], first.metadata["column__secret"]) == ("x", 1)


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("SELECT id FROM ships", "gives no column 'text'; it gives id"),
        ("SELECT id, id, text FROM ships", "gives two columns called 'id'"),
        ("SELECT * FROM boats", "no such table: boats"),
        ("SELEC", "syntax error"),
        ("DELETE FROM ships", "readonly database"),
    ],
)
def test_a_wrong_query_is_refused(url: str, query: str, wrong: str) -> None:
    with pytest.raises(SourceError, match=wrong):
        load(url, query)
    assert len(load(url)) == 5


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no SQLite file"):
        load(f"sqlite:///{tmp_path / 'gone.db'}")
    assert list(tmp_path.iterdir()) == []


def test_a_relative_file_starts_at_the_config_folder(url: str, tmp_path: Path) -> None:
    given = {"url": "sqlite:///ships.db", "query": "SELECT * FROM ships WHERE id = 2"}
    config = Config.model_validate(given, context={"folder": str(tmp_path)})
    (document,) = build(config).lazy_load()
    assert document.page_content == "Carries coal."


@pytest.mark.parametrize("given", ["nonsense", "nodialect://me:hunter2@h/d", "://"])
def test_a_wrong_url_is_refused_without_showing_it(given: str) -> None:
    with pytest.raises(SourceError, match="is not a database URL") as error:
        load(given)
    assert "hunter2" not in str(error.value)


def test_an_absent_driver_is_named_with_its_package() -> None:
    with pytest.raises(MissingPackageError, match="oracledb|cx_Oracle"):
        load("oracle+oracledb://me:hunter2@localhost/x")


def test_the_url_shows_nowhere(url: str) -> None:
    config = Config.model_validate({"url": url + "?password=hunter2", "query": "SELECT 1"})
    assert "hunter2" not in repr(config) + json.dumps(config.model_dump(mode="json"))
    assert "url" not in config.identity()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (decimal.Decimal("3.00"), 3),
        (decimal.Decimal("3.25"), 3.25),
        (decimal.Decimal("0.1234567890123456789"), "0.1234567890123456789"),
        (decimal.Decimal("NaN"), "NaN"),
        (float("inf"), "inf"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"),
        (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.timedelta(minutes=1), "60.0"),
        (memoryview(b"abc"), "abc"),
        ({"a": [decimal.Decimal(1)]}, {"a": [1]}),
        (True, True),
    ],
)
def test_database_values_become_json(value: object, expected: object) -> None:
    assert to_json(value) == expected
    json.dumps(to_json(value), allow_nan=False)
