"""Reading a config: defaults, forms, scalars, variables, overrides, paths, what is shown of it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rag_app.config import load_config
from rag_app.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rag_app.config import AppConfig

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
MINIMAL = "sources:\n  - {kind: files, path: docs}\n"


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., AppConfig]:
    """`read(text, overrides)`: what a file `rag-app.yaml` of that text loads as."""

    def load(text: str | bytes, overrides: Any = ()) -> AppConfig:
        file = tmp_path / "rag-app.yaml"
        file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_config(file, overrides)

    return load


def _refused(call: Callable[..., object], *args: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        call(*args)
    return str(caught.value)


# -- defaults and forms ---------------------------------------------------------------------------


def test_sections_left_out_take_their_defaults(read: Callable[..., AppConfig]) -> None:
    config = read(MINIMAL)
    kinds = {
        "splitter": "recursive",
        "embeddings": "minilm",
        "vector_store": "memory",
        "retriever": "hybrid",
        "chain": "extractive",
    }
    assert {name: getattr(config, name).kind for name in kinds} == kinds
    assert config.reranker is None
    assert config.chat_model is None
    assert config.name == "rag-app"
    assert config.warnings == ()


@pytest.mark.parametrize(
    ("file", "name"),
    [("My Handbook.yaml", "my-handbook"), ("p.yaml", "index-p"), ("2026.yml", "index-2026")],
)
def test_a_config_without_a_name_has_its_files(tmp_path: Path, file: str, name: str) -> None:
    (tmp_path / file).write_text(MINIMAL)
    assert load_config(tmp_path / file).name == name


def test_a_file_name_that_could_be_anothers_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "手册.yaml").write_text(MINIMAL)
    assert "name: is missing" in _refused(load_config, tmp_path / "手册.yaml")


def test_a_chat_model_makes_qa_the_chain(read: Callable[..., AppConfig]) -> None:
    assert read(MINIMAL + "chat_model: scripted").chain.kind == "qa"


@pytest.mark.parametrize(
    "text", ["reranker: none", "reranker:", "reranker: null", "reranker: {kind: none}"]
)
def test_an_optional_section_can_say_none(read: Callable[..., AppConfig], text: str) -> None:
    assert read(MINIMAL + text).reranker is None


def test_none_is_a_splitter_too(read: Callable[..., AppConfig]) -> None:
    assert read(MINIMAL + "splitter: none").splitter.kind == "none"


def test_short_form_is_the_long_one_without_options(read: Callable[..., AppConfig]) -> None:
    assert read(MINIMAL + "retriever: dense") == read(MINIMAL + "retriever: {kind: dense}")


def test_a_mapping_is_the_same_as_the_file(read: Callable[..., AppConfig], tmp_path: Path) -> None:
    written = read("name: one\nsources: [{kind: files, path: /a}]\nretriever: {kind: dense, k: 3}")
    given_ = load_config(
        {
            "name": "one",
            "sources": [{"kind": "files", "path": "/a"}],
            "retriever": {"kind": "dense", "k": 3},
        }
    )
    assert given_.retriever == written.retriever
    assert given_.sources == written.sources
    assert (given_.file, given_.folder) == (None, Path.cwd())
    assert (written.file, written.folder) == (tmp_path / "rag-app.yaml", tmp_path)


# -- scalars --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2026-11-20", "2026-11-20"),
        ("007", "007"),
        ("1_000", "1_000"),
        ("'12'", "12"),
        ('"\\u00e9"', "é"),
        ("|\n    a\n    b\n", "a\nb\n"),
        ("a # b", "a"),
        ("a#b", "a#b"),
    ],
)
def test_text_stays_text(read: Callable[..., AppConfig], written: str, read_as: str) -> None:
    text = f"{MINIMAL}chat_model:\n  kind: openai\n  model: {written}\n"
    assert read(text).chat_model.options.model == read_as  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("written", "value"), [("0o17", 15), ("0x1F", 31), ("+7", 7), ("010", 10), ("'9'", 9)]
)
def test_whole_numbers(read: Callable[..., AppConfig], written: str, value: int) -> None:
    config = read(f"{MINIMAL}retriever: {{kind: dense, k: {written}}}")
    assert config.retriever.options.k == value  # type: ignore[attr-defined]


@pytest.mark.parametrize("written", ["true", "True", "TRUE", "yes", "on"])
def test_truth_values(read: Callable[..., AppConfig], written: str) -> None:
    config = read(f"sources: [{{kind: files, path: a, hidden: {written}}}]")
    assert config.sources[0].options.hidden is True  # type: ignore[attr-defined]


# -- variables ------------------------------------------------------------------------------------


def test_variables_and_defaults(
    read: Callable[..., AppConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNT", "17")
    monkeypatch.setenv("EMPTY", "")
    monkeypatch.setenv("MODEL", "[a, b]: ${COUNT} # *x")
    config = read(
        MINIMAL
        + "retriever: {kind: dense, k: ${COUNT}, fetch_k: ${UNSET_COUNT:-50}}\n"
        + "chat_model: {kind: openai, model: ${MODEL}, base_url: 'http://${EMPTY:-host}:1/v1'}\n"
        + "chain: qa\n"
    )
    assert config.retriever.options.model_dump()["k"] == 17
    assert config.retriever.options.model_dump()["fetch_k"] == 50
    chat = config.chat_model.options.model_dump()  # type: ignore[union-attr]
    assert chat["model"] == "[a, b]: ${COUNT} # *x"
    assert chat["base_url"] == "http://host:1/v1"


def test_escaped_reference_is_literal(read: Callable[..., AppConfig]) -> None:
    config = read(MINIMAL + "chat_model: {kind: openai, model: 'a$${b} $5 $'}")
    assert config.chat_model.options.model_dump()["model"] == "a${b} $5 $"  # type: ignore[union-attr]


def test_dotenv_beside_the_file_and_the_real_environment_wins(
    read: Callable[..., AppConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FROM_BOTH", "environment")
    (tmp_path / ".env").write_text(
        "# keys\n\nexport FROM_FILE='quoted # value' # said\nFROM_BOTH=file\nBARE= x y # note\n"
    )
    config = read(
        MINIMAL + "chat_model: {kind: openai, model: '${FROM_FILE}|${FROM_BOTH}|${BARE}'}"
    )
    model = config.chat_model.options.model_dump()["model"]  # type: ignore[union-attr]
    assert model == "quoted # value|environment|x y"
    assert "FROM_FILE" not in os.environ


def test_broken_dotenv_names_the_line(read: Callable[..., AppConfig], tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\nsk-hunter2hunter2hunter2\n")
    said = _refused(read, MINIMAL)
    assert ".env:2:1: this line is not NAME=value" in said
    assert "hunter2" not in said


# -- secrets --------------------------------------------------------------------------------------


def test_a_secret_comes_from_its_variable_and_never_shows(
    read: Callable[..., AppConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "hunter2hunter2")
    monkeypatch.setenv("THE_MODEL", "private-model")
    text = "chat_model: {kind: openai, api_key: ${THE_KEY}, model: 'm-${THE_MODEL}'}"
    config = read(MINIMAL + text)
    assert config.chat_model is not None
    assert config.chat_model.options.api_key.get_secret_value() == "hunter2hunter2"  # type: ignore[attr-defined]
    described = config.describe()
    assert described["chat_model"]["api_key"] == "***"
    assert described["chat_model"]["model"] == "m-${THE_MODEL}"
    assert "hunter2" not in f"{config!r}{config}{described}"


def test_python_may_hand_over_a_secret_the_command_line_may_not(
    read: Callable[..., AppConfig],
) -> None:
    model = {"kind": "openai", "api_key": "hunter2hunter2"}
    config = load_config({"sources": [{"kind": "files", "path": "a"}], "chat_model": model})
    assert "hunter2" not in repr(config)
    base = MINIMAL + "chat_model: openai\n"
    assert read(base, {"chat_model.api_key": "hunter2hunter2"}).chat_model is not None
    said = _refused(read, base, ["chat_model.api_key=hunter2hunter2"])
    assert "--set chat_model.api_key: a secret written on the command line" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "key",
    [
        "sk-abcdefghijklmnop1234",
        "sk-ant-api03-abcdefgh",
        "sk-proj-abcdefgh",
        "AIzaSyA1234567890abcdefghijklmnopqrstu",
        "hf_abcdefghijklmnopqrstuvwx",
        "pcsk_abcdefghijklmnop1234",
        "ghp_abcdefghijklmnop1234",
        "xoxb-1234567890-abcdef",
        "AKIAIOSFODNN7EXAMPLE",
        "Bearer abcdefghijklmnop1234",
    ],
)
def test_what_looks_like_a_key_is_refused_anywhere(
    read: Callable[..., AppConfig], key: str
) -> None:
    for text in (f"name: {key}\n{MINIMAL}", f"{MINIMAL}splitter: {{kind: recursive, x: '{key}'}}"):
        said = _refused(read, text)
        assert "a secret in the wrong place" in said
        assert key not in said
    said = _refused(read, MINIMAL, [f"retriever.k={key}", f"{key}=1", f"retriever={key}"])
    assert key not in said


@pytest.mark.parametrize("word", ["sk-learn-docs", "risk-assessment-2026", "task-list", "hf_docs"])
def test_ordinary_words_are_no_secrets(read: Callable[..., AppConfig], word: str) -> None:
    assert read(f"sources: [{{kind: files, path: {word}}}]")


def test_database_url_may_be_written_with_the_password_as_a_variable(
    read: Callable[..., AppConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2")
    text = "sources: [{{kind: sql, url: '{}', query: 'SELECT * FROM t'}}]"
    config = read(text.format("postgresql://reader:${DB_PASSWORD}@db/shop"))
    assert config.describe()["sources"][0]["url"] == "***"
    assert read(text.format("sqlite:///shop.db"))


@pytest.mark.parametrize(
    "url",
    [
        *("https://h/x?api_key=${TOKEN}", "https://h/${TOKEN}/x", "https://h/x#${TOKEN}", "${URL}"),
        *("https://${URL}", "https://h?${TOKEN:-x}", "https://${HOST}/${HOST}", "${SCHEME}://h/"),
        *("https://${TOKEN}@h/", "https://me:${TOKEN}@h/", "https://${PAIR}"),
    ],
)
def test_a_variable_in_the_name_of_a_page_is_its_host_at_most(
    read: Callable[..., AppConfig], monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    given = {"TOKEN": "Sup3rS3cret", "HOST": "wiki.example", "SCHEME": "https"}
    given |= {"URL": "https://wiki.example/?t=Sup3rS3cret", "PAIR": "me:Sup3rS3cret@h/x"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    text = "sources: [{{kind: web, urls: [https://a.example/, '{}']}}]"
    message = _refused(read, text.format(url))
    assert "sources[0].urls[1]" in message
    assert "Sup3rS3cret" not in message
    config = {"sources": [{"kind": "web", "urls": ["https://a.example/", url]}]}
    assert "sources[0].urls[1]" in _refused(load_config, config)
    assert read(text.format("https://${HOST}:443/x?y=1"))


@pytest.mark.parametrize("user", ["reader:${PASSWORD}", "${PASSWORD}", "reader"])
def test_a_chroma_url_holds_no_password(
    read: Callable[..., AppConfig], monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    monkeypatch.setenv("PASSWORD", "Sup3rS3cret")
    store = f"vector_store: {{kind: chroma, url: 'http://{user}@127.0.0.1:9'}}"
    message = _refused(read, MINIMAL + store)
    assert "may not hold a user name or password. Give the key as api_key" in message
    assert "Sup3rS3cret" not in message


# -- overrides ------------------------------------------------------------------------------------


def test_overrides_from_command_line_and_python_agree(read: Callable[..., AppConfig]) -> None:
    text = MINIMAL + "retriever: {kind: hybrid, k: 4}\nreranker: none"
    lines = ["retriever.k=12", "retriever.weights.dense=0.5", "sources[0].include=[a, 'b']"]
    given_ = {
        "retriever.k": 12,
        "retriever.weights.dense": 0.5,
        "sources[0].include": ["a", "b"],
    }
    assert read(text, lines) == read(text, given_)
    assert read(text, lines).retriever.options.model_dump()["k"] == 12


def test_override_of_a_section_replaces_it_and_of_its_kind_keeps_the_rest(
    read: Callable[..., AppConfig],
) -> None:
    text = MINIMAL + "retriever: {kind: hybrid, k: 4, rank_constant: 10}"
    replaced = read(text, ["retriever=dense"]).retriever
    assert (replaced.kind, replaced.options.model_dump()["k"]) == ("dense", 8)
    said = _refused(read, text, ["retriever.kind=dense"])
    assert "retriever.rank_constant: not an option of 'dense'" in said


def test_override_reaches_what_the_file_leaves_out_or_shortens(
    read: Callable[..., AppConfig],
) -> None:
    assert read(MINIMAL, ["retriever.k=3"]).retriever.kind == "hybrid"
    dense = read(MINIMAL + "retriever: dense", ["retriever.k=3"]).retriever
    assert (dense.kind, dense.options.model_dump()["k"]) == ("dense", 3)
    assert read(MINIMAL, ["chat_model=scripted", "chain=qa"]).chain.kind == "qa"
    two = read(MINIMAL, ["sources[1].kind=files", "sources[1].path=b"]).sources
    assert [s.kind for s in two] == ["files", "files"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("retriever.kk=3", "--set retriever.kk: not an option of 'hybrid'. It takes:"),
        ("retriever.kk=3", "Did you mean 'k'?"),
        ("retreiver.k=3", "Did you mean 'retriever'?"),
        ("retriever.k=many", "--set retriever.k: 'many' is not a whole number"),
        ("retriever=hybird", "--set retriever: 'hybird' is not one of"),
        ("retriever.k", "has no `=`"),
        ("=3", "is not the path of an option"),
        ("a b=3", "is not the path of an option"),
        ("retriever.k=[1, 2]", "a list where one value belongs"),
        ("retriever.k=[1", "is not closed"),
        ("retriever.k=${SURELY_UNSET}", "environment variable SURELY_UNSET is not set"),
        ("sources[3].path=a", "'sources' is a list of 1"),
        ("sources.path=a", "'sources' is a list of 1"),
        ("name.first=a", "'name'"),
        ("retriever.k.j=1", "which has no options"),
        ("chat_model.model=a", "`kind` is missing"),
    ],
)
def test_wrong_override_is_named(read: Callable[..., AppConfig], override: str, words: str) -> None:
    text = "name: one\n" + MINIMAL + "retriever: {kind: hybrid, k: 4}"
    assert words in _refused(read, text, [override])


def test_an_override_mends_what_the_file_has_wrong(read: Callable[..., AppConfig]) -> None:
    text = MINIMAL + "chat_model: {kind: openai, api_key: ${SURELY_UNSET}}\nretriever: hybird"
    config = read(text, ["chat_model=none", "retriever=dense"])
    assert config.chat_model is None


# -- paths ----------------------------------------------------------------------------------------


def test_paths_start_at_the_file_and_those_of_overrides_here(
    read: Callable[..., AppConfig], tmp_path: Path
) -> None:
    text = "sources:\n  - {kind: files, path: docs}\n  - {kind: files, path: /abs}\n"
    config = read(text + "vector_store: {kind: memory, path: v.sqlite}")
    assert [s.options.path for s in config.sources] == [tmp_path / "docs", Path("/abs")]  # type: ignore[attr-defined]
    assert config.vector_store.options.path == tmp_path / "v.sqlite"  # type: ignore[attr-defined]
    assert config.index.path == tmp_path / ".rag"
    moved = read(text, ["sources[0].path=docs", "index.path=x"])
    assert moved.sources[0].options.path == Path.cwd() / "docs"  # type: ignore[attr-defined]
    assert moved.index.path == Path.cwd() / "x"


def test_home_is_expanded(read: Callable[..., AppConfig]) -> None:
    config = read("sources: [{kind: files, path: ~/docs}]")
    assert config.sources[0].options.path == Path.home() / "docs"  # type: ignore[attr-defined]


# -- warnings -------------------------------------------------------------------------------------


def test_unwise_combinations_are_warned_of(read: Callable[..., AppConfig]) -> None:
    config = read(
        MINIMAL
        + "splitter: {kind: recursive, chunk_size: 512}\n"
        + "retriever: {kind: dense, k: 4}\nreranker: {kind: cross_encoder, model: m, k: 5}\n"
        + "chat_model: scripted\nchain: extractive\n"
    )
    told = "\n".join(config.warnings)
    assert "splitter.chunk_size: 512 tokens are more than 'minilm' reads (256)" in told
    assert "reranker.k: 5 is more than retriever.k (4)" in told
    assert "chat_model: the chain 'extractive' does not use it" in told


# -- files that are no config ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ":1:1: the file is empty"),
        (b"# only a comment\n", ":1:1: the file is empty"),
        (b"\xef\xbb\xbf# bom\n", "the file is empty"),
        (b"name: \xff\xfe\n", ":1:7: not UTF-8 text"),
        (b"name: x\nsources: \x00\n", ":2:10: the character U+0000 is not allowed"),
        (b"a" * (1 << 20) + b"a", "larger than 1 MiB"),
        (b"[" * 100_000, "nested more than 50 levels deep"),
        (b"{a: " * 100_000, "nested more than 50 levels deep"),
        (b"- " * 100_000, "nested more than 50 levels deep"),
        (b"a: [" + b"1," * 100_000 + b"]", "more than 10,000 values"),
        (b"%YAML 9.9\n---\na: 1", "this is not YAML"),
        (b"%TAG ! tag:x:\n--- !y\na: 1", "the tag"),
        (b"!<tag:yaml.org,2002:python/name:os.system> x", "the tag !!python/name:os.system"),
        (b"a: '\\", "quoted text that begins here is not closed"),
        (b"a: *nowhere\n", "the alias *nowhere is not used"),
        (b"? [x]\n: 1\n", "a key must be one word"),
    ],
    ids=lambda value: repr(value[:12]) if isinstance(value, bytes) else "",
)
def test_what_is_no_config_is_refused_in_words(
    read: Callable[..., AppConfig], content: bytes, words: str
) -> None:
    assert words in _refused(read, content)


def test_absent_and_unreadable_files(tmp_path: Path) -> None:
    assert "there is no such file. Make one with: rag-app init" in _refused(
        load_config, tmp_path / "nowhere.yaml"
    )
    assert "cannot be read" in _refused(load_config, tmp_path)


def test_a_mapping_that_holds_itself_is_refused() -> None:
    loop: dict[str, Any] = {"name": "x"}
    loop["sources"] = loop
    assert "nested more than 50 levels" in _refused(load_config, loop)
    assert "nested too deep" in _refused(load_config, {"name": "xx"}, {"sources": loop})


PIECES = st.sampled_from(
    [*"{}[]:,-?*&!|>%@`'\"#\n\t ~<", "${A}", "${A:-b}", "$${", "name", "sources", "kind", "files"]
    + ["splitter", "retriever: dense", "\n  ", "\n- ", "---\n", "!!int", "<<", "k: 1", "\x00", "é"]
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=30).map("".join)))
def test_any_content_is_a_config_or_a_config_error(
    read: Callable[..., AppConfig], content: str | bytes
) -> None:
    with contextlib.suppress(ConfigError):
        read(content)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([file.read_text() for file in CONFIGS]),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 8), PIECES), min_size=1, max_size=4),
)
def test_any_damage_to_a_config_is_a_config_error_or_none(
    read: Callable[..., AppConfig], text: str, edits: list[tuple[int, int, str]]
) -> None:
    for start, length, piece in edits:
        text = text[:start] + piece + text[start + length :]
    with contextlib.suppress(ConfigError):
        read(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(PIECES, max_size=8).map("".join), max_size=3))
def test_any_override_is_applied_or_a_config_error(lines: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        load_config({"sources": [{"kind": "files", "path": "a"}]}, lines)


def test_paths_of_a_mapping_start_at_the_folder_given_and_overrides_at_the_current_one(
    tmp_path: Path,
) -> None:
    given = {
        "name": "notes",
        "sources": [{"kind": "files", "path": "docs"}],
        "vector_store": {"kind": "memory", "path": "vectors.sqlite"},
    }
    config = load_config(given, {"index.path": "index"}, folder=tmp_path)
    options: Any = config.vector_store.options
    source: Any = config.sources[0].options
    assert (options.path, source.path) == (tmp_path / "vectors.sqlite", tmp_path / "docs")
    assert config.index.path == Path.cwd() / "index"
