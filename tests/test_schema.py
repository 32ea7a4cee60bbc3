"""The committed JSON Schema: equal to the code's, true of every config, and of use to an editor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from rag_app import registry
from rag_app.config import load_config
from rag_app.schema import build_schema, schema_text

ROOT = Path(__file__).parents[1]
CONFIGS = [
    *sorted((ROOT / "configs").glob("*.yaml")),
    *sorted((ROOT / "rag_app").glob("*/*.yaml")),
]
BROKEN = ROOT / "tests" / "broken_configs"
SOURCES = [{"kind": "files", "path": "docs"}]
VARIABLES = {
    **{"OPENAI_API_KEY": "a-value", "PINECONE_API_KEY": "a-value", "GEMINI_API_KEY": "a-value"},
    **{"CO_API_KEY": "a-value", "DATABASE_URL": "postgresql://user@localhost/documents"},
}
"""What the configs of `configs/` take from the environment."""


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft7Validator:
    return jsonschema.Draft7Validator(json.loads((ROOT / "rag_app" / "schema.json").read_text()))


def test_committed_schema_is_that_of_the_code() -> None:
    text = (ROOT / "rag_app" / "schema.json").read_text()
    assert text == schema_text(), "run: make docs"
    assert text == schema_text()
    assert str(Path.home()) not in text
    assert str(ROOT) not in text


def test_it_is_draft_07_and_describes_every_option() -> None:
    built = build_schema()
    jsonschema.Draft7Validator.check_schema(built)
    assert built["$schema"].startswith("http://json-schema.org/draft-07/")
    for kind in registry.KINDS:
        for name in registry.names(kind):
            options = built["definitions"][f"{kind}.{name}"]
            assert options["additionalProperties"] is False
            for option, field in options["properties"].items():
                assert field.get("description"), f"{kind}.{name}.{option}"


@pytest.mark.parametrize("file", CONFIGS, ids=[f"{f.parent.name}/{f.name}" for f in CONFIGS])
def test_every_config_is_valid_for_the_schema_and_for_us(
    file: Path, schema: jsonschema.Draft7Validator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    schema.validate(yaml.safe_load(file.read_text()))
    config = load_config(file)
    assert config.warnings == ()
    reference, _, target = file.read_text().splitlines()[0].partition("$schema=")
    if file.is_relative_to(ROOT / "configs"):
        assert reference == "# yaml-language-server: "
        assert (file.parent / target).resolve() == ROOT / "rag_app" / "schema.json"
        assert config.name == file.stem


@pytest.mark.parametrize(
    "name",
    [
        "above_bound",
        "bad_name",
        "below_bound",
        "empty_list",
        "index_is_text",
        "index_unknown_option",
        "kind_is_number",
        "list_of_backends",
        "list_of_kinds",
        "many_at_once",
        "missing_option",
        "no_kind",
        "no_sources",
        "not_a_truth_value",
        "number_for_path",
        "number_for_text",
        "number_in_list",
        "options_of_another_kind",
        "root_is_list",
        "secret_in_the_file",
        "section_is_empty",
        "source_is_a_path",
        "sources_is_mapping",
        "top_k",
        "unknown_kind",
        "unknown_kind_short",
        "unknown_nested_option",
        "unknown_option",
        "unknown_section",
        "wrong_choice",
        "wrong_form",
        "wrong_type_list",
        "wrong_type_truth",
        "wrong_type_word",
    ],
)
def test_an_editor_sees_what_is_broken(name: str, schema: jsonschema.Draft7Validator) -> None:
    assert not schema.is_valid(yaml.safe_load((BROKEN / f"{name}.yaml").read_text()))


@pytest.mark.parametrize(
    "section",
    [
        {"retriever": "dense"},
        {"retriever": {"kind": "dense", "k": "${K:-4}"}},
        {"embeddings": {"kind": "minilm", "precision": "${PRECISION}", "threads": "${T}"}},
        {"embeddings": {"kind": "minilm", "threads": None}},
        {"reranker": None},
        {"reranker": "none"},
        {"chat_model": {"kind": "openai", "api_key": "${OPENAI_API_KEY}", "base_url": "${URL}"}},
        {"chat_model": {"kind": "openai", "api_key": None}},
        {"vector_store": {"kind": "memory", "path": None}},
        {"name": "${NAME}"},
        {"retriever": {"kind": "hybrid", "weights": {"dense": 2}}},
    ],
)
def test_it_takes_every_form_that_we_take(
    section: dict[str, Any], schema: jsonschema.Draft7Validator
) -> None:
    schema.validate({"sources": SOURCES, **section})
    sql = {"kind": "sql", "url": "postgresql://u:${PASSWORD}@h/d", "query": "SELECT 1"}
    schema.validate({"sources": [sql], **section})
