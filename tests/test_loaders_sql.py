"""The SQL loader on real SQLite databases: documents, types, refusals, and what never shows."""

from __future__ import annotations

import datetime
import decimal
import json
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from rag_app.config import load_config
from rag_app.errors import MissingPackageError, SourceError
from rag_app.loaders.sql import Config, build, to_json
from rag_app.options import Secret
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


SQLITE = pytest.mark.parametrize("dialect", ["sqlite", "sqlite+pysqlite"])


@SQLITE
@pytest.mark.parametrize("query", ["", "?timeout=3"])
def test_a_missing_file_is_not_created(tmp_path: Path, dialect: str, query: str) -> None:
    with pytest.raises(SourceError, match=r"there is no SQLite file '.*gone\.db'"):
        load(f"{dialect}:///{tmp_path / 'gone.db'}{query}")
    assert list(tmp_path.iterdir()) == []


@SQLITE
def test_a_relative_file_starts_where_every_path_does(
    url: str, tmp_path: Path, dialect: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the config's folder; one on the command line at the current folder."""
    here = tmp_path / "here"
    here.mkdir()
    shutil.copy(tmp_path / "ships.db", here)
    with sqlite3.connect(here / "ships.db") as database:
        database.execute("UPDATE ships SET text = 'The other file.'")
    database.close()
    monkeypatch.chdir(here)
    file = tmp_path / "c.yaml"
    query = "SELECT id, text FROM ships WHERE id = 2"
    file.write_text(
        f"sources: [{{kind: sql, query: {query!r}, url: '{dialect}:///ships.db?timeout=3'}}]"
    )
    for overrides, expected in (
        ([], "Carries coal."),
        ([f"sources[0].url={dialect}:///ships.db"], "The other file."),
        ([f"sources[0].url={url}"], "Carries coal."),
    ):
        options = load_config(file, overrides).sources[0].options
        assert isinstance(options, Config)
        (document,) = build(options).lazy_load()
        assert document.page_content == expected


def test_a_password_with_an_at_is_refused_before_its_rest_is_taken_for_the_host() -> None:
    for password in ("abc@Tail", "abc@x/Tail", "a?c@Tail", "@Tail"):
        with pytest.raises(ValidationError, match="Write it as %40") as error:
            Config(url=Secret(f"postgresql://me:{password}@nohost.invalid/x"), query="SELECT 1")
        assert "Tail" not in str(error.value)
    assert Config(url=Secret("postgresql://me:abc%40Tail@nohost.invalid/x"), query="SELECT 1")
    assert Config(url=Secret("sqlite:////home/me:you@work/a@b.db"), query="SELECT 1")


def test_what_the_database_says_of_the_url_is_masked(tmp_path: Path) -> None:
    folder = tmp_path / "s3cret"
    folder.mkdir()
    with pytest.raises(SourceError, match="refused") as error:
        load(f"sqlite:///file:{folder}/x.db?mode=ro&uri=true&vfs=s3cret&vfs=t0ken")
    assert "t0ken" not in str(error.value)


def test_a_port_that_is_none_is_refused_without_showing_it() -> None:
    with pytest.raises(SourceError, match="is not a database URL"):
        load("postgresql://me:x@host:hunter2/x")


def test_a_row_nested_too_deeply_is_named_by_its_id(tmp_path: Path) -> None:
    sqlite3.register_converter("nested", json.loads)
    with sqlite3.connect(tmp_path / "n.db") as database:
        database.execute("CREATE TABLE ships (id INTEGER, text TEXT, log NESTED)")
        rows = [(7, "words", "[" * 70 + "]" * 70), (8, "words", "[[1]]")]
        database.executemany("INSERT INTO ships VALUES (?, ?, ?)", rows)
    database.close()
    deep, fine = load(f"sqlite:///{tmp_path}/n.db?detect_types={sqlite3.PARSE_DECLTYPES}")
    assert deep.source == "sql:ships#7"
    assert deep.reason.endswith("is nested deeper than 64 levels")
    assert fine.metadata["log"] == [[1]]


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
