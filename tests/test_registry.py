"""The registry: closed names, entry points, and what is said when a package is not there."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rag_app import registry
from rag_app.errors import MissingPackageError, UsageError
from rag_app.spelling import count_edits, nearest

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]

BACKEND = '''"""Splits nothing."""
from rag_app.options import Field, Options
class Config(Options):
    size: int = Field(3, description="how many")
def build(config, tokenizer=None):
    return (config.size, tokenizer)
'''


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str], None]:
    """`install("plugin", "shouting", source)` puts a package with a splitter on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(package: str, name: str, source: str) -> None:
        (tmp_path / f"{package}.py").write_text(source)
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[rag_app.splitters]\n{name} = {package}\n")

    return put


def test_listing_names_imports_no_backend() -> None:
    code = (
        "import sys; from rag_app import registry\n"
        "for kind, package in registry.KINDS.items():\n"
        "    for name in registry.names(kind):\n"
        "        assert f'{package}.{name}' not in sys.modules, name\n"
        "assert 'langchain_core' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_choosing_one_imports_that_one_only() -> None:
    code = (
        "import sys; from rag_app import registry\n"
        "registry.config_class('vector_stores', 'memory')\n"
        "assert 'rag_app.vector_stores.chroma' not in sys.modules\n"
        "assert 'chromadb' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_importing_every_backend_imports_no_vendor() -> None:
    code = (
        "import sys; from rag_app import registry\n"
        "for kind in registry.KINDS:\n"
        "    for name in registry.names(kind):\n"
        "        registry.module(kind, name)\n"
        "vendors = {'chromadb', 'openai', 'langchain_openai', 'torch', 'sentence_transformers',\n"
        "           'transformers', 'sqlalchemy', 'trafilatura', 'pypdfium2', 'docx'}\n"
        "assert not vendors & set(sys.modules), vendors & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", registry.KINDS)
def test_every_backend_has_its_two_names_a_summary_and_an_extra(kind: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for name in registry.names(kind):
        module = registry.module(kind, name)
        assert callable(module.build), name
        assert registry.summary(kind, name).endswith("."), name
        assert name in extras, f"{kind}/{name} has no extra of its name in pyproject.toml"
        for option, field in module.Config.model_fields.items():
            assert field.description, f"{kind}/{name}: {option} has no description"


def test_every_kind_of_the_design_is_there() -> None:
    assert {k for k in registry.KINDS if registry.names(k)} == set(registry.KINDS)


def test_installed_package_joins_by_entry_point(install: Callable[..., None]) -> None:
    install("rag_plugin_a", "shouting", BACKEND)
    assert "shouting" in registry.names("splitters")
    config = registry.config_class("splitters", "shouting")()
    built = registry.build("splitters", "shouting", config, tokenizer="t", ignored="part")
    assert built == (3, "t")
    assert registry.summary("splitters", "shouting") == "Splits nothing."


def test_entry_point_cannot_take_the_name_of_ours(install: Callable[..., None]) -> None:
    install("rag_plugin_b", "recursive", BACKEND)
    with pytest.raises(UsageError, match=r"two packages offer 'recursive': rag-app, rag_plugin_b"):
        registry.module("splitters", "recursive")


def test_two_packages_cannot_offer_one_name(install: Callable[..., None]) -> None:
    install("rag_plugin_c", "twice", BACKEND)
    install("rag_plugin_d", "twice", BACKEND)
    with pytest.raises(UsageError, match=r"rag_plugin_c, rag_plugin_d.*Uninstall"):
        registry.module("splitters", "twice")


def test_plugin_without_the_two_names_is_refused(install: Callable[..., None]) -> None:
    install("rag_plugin_e", "hollow", '"""Nothing."""\n')
    with pytest.raises(UsageError, match="no Config and no build"):
        registry.module("splitters", "hollow")


@pytest.mark.parametrize("lazily", [False, True])
def test_absent_package_is_named_with_the_command(
    install: Callable[..., None], lazily: bool
) -> None:
    line = "import surely_not_installed_anywhere\n"
    source = BACKEND.replace("    return", f"    {line}    return") if lazily else BACKEND + line
    install("rag_plugin_f", "lacking", source)

    def use() -> None:
        config = registry.config_class("splitters", "lacking")()
        registry.build("splitters", "lacking", config)

    with pytest.raises(MissingPackageError) as caught:
        use()
    assert "'surely_not_installed_anywhere', which is not installed" in str(caught.value)
    assert caught.value.remedy == "Run: pip install surely_not_installed_anywhere"
    own = registry.missing_package("x", "chroma", ImportError(name="surely_not_installed_anywhere"))
    assert 'pip install "rag-app[chroma]"' in str(own)
    assert registry.install_command("cross_encoder") == 'pip install "rag-app[cross_encoder]"'
    assert registry.install_command("hybrid") is None
    assert caught.value.exit_status == 2


def test_absent_package_behind_another_import_error_is_found(install: Callable[..., None]) -> None:
    source = BACKEND.replace(
        "    return",
        "    try:\n        import surely_not_installed_anywhere\n"
        "    except ImportError as error:\n"
        "        raise ImportError('please install it') from error\n    return",
    )
    install("rag_plugin_g", "wrapped", source)
    config = registry.config_class("splitters", "wrapped")()
    with pytest.raises(MissingPackageError, match="surely_not_installed_anywhere"):
        registry.build("splitters", "wrapped", config)


def test_import_that_breaks_inside_an_installed_package_stays_what_it_is(
    install: Callable[..., None],
) -> None:
    line = "    from json import surely_no_such_name\n"
    install("rag_plugin_h", "broken", BACKEND.replace("    return", f"{line}    return"))
    config = registry.config_class("splitters", "broken")()
    for _ in range(2):  # the same module again: the error must not end up as its own cause
        with pytest.raises(ImportError, match="surely_no_such_name") as caught:
            registry.build("splitters", "broken", config)
        assert caught.value.__cause__ is None


def test_unknown_name_lists_the_names_and_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        registry.module("splitters", "recursve")
    assert "'recursve' is not one of" in str(caught.value)
    assert caught.value.remedy == "Did you mean 'recursive'?"


@pytest.mark.parametrize("name", ["..errors", "recursive.os", "_private", "__init__", "", "a/b"])
def test_only_listed_names_are_imported(name: str) -> None:
    with pytest.raises(UsageError):
        registry.module("splitters", name)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("recursve", "recursive"),
        ("Cross-Encoder", "cross_encoder"),
        ("crossencoder", "cross_encoder"),
        ("kk", "k"),
        ("top_k", "k"),
        ("chunk_sise", "chunk_size"),
        ("hybird", "hybrid"),
        ("zzzzzz", None),
    ],
)
def test_nearest_word(given: str, meant: str | None) -> None:
    words = ["recursive", "cross_encoder", "k", "fetch_k", "chunk_size", "hybrid"]
    assert nearest(given, words) == meant


def test_edits_against_known_distances() -> None:
    assert count_edits("kitten", "sitting") == 3
    assert count_edits("", "abc") == 3
    assert count_edits("flaw", "lawn") == 2
    assert count_edits("same", "same") == 0
