from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from rag_app.errors import MissingPackageError, UsageError
from rag_app.evaluation import reports
from rag_app.evaluation.behaviour import changes
from rag_app.evaluation.results import Comparison, Evaluation
from rag_app.evaluation.verdicts import Explanations
from tests.evaluation.browser import Page, start_browser
from tests.evaluation.results_samples import (
    make_comparison,
    make_evaluation,
    make_explanations,
)

HOSTILE = ' </script><script>window.hit=1</script><img src="x" onerror="window.hit=1"> 问题 \u2028'
NETWORK = ("fetch(", "XMLHttpRequest", "WebSocket", "EventSource", "sendBeacon", "import(")
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")

Value = Evaluation | Comparison | Explanations


def make(kind: str) -> Value:
    if kind == "evaluation":
        return make_evaluation(f"hybrid{HOSTILE}", 30, hostile=HOSTILE, skill=0.5)
    if kind == "comparison":
        return make_comparison(3, 13, hostile=HOSTILE)
    return make_explanations(14, hostile=HOSTILE)


class Parsed(HTMLParser):
    """A page's elements with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.elements and self.elements[-1][0] in ("script", "style"):
            self.inside.append((self.elements[-1][0], data))

    def text_of(self, tag: str, place: int = 0) -> str:
        return [text for name, text in self.inside if name == tag and text.strip()][place]


@pytest.fixture(scope="module", params=["evaluation", "comparison", "explanations"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def values() -> dict[str, Value]:
    return {kind: make(kind) for kind in ("evaluation", "comparison", "explanations")}


@pytest.fixture(scope="module")
def files(values: dict[str, Value], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    for kind, value in values.items():
        reports.write(value, folder / f"{kind}.html")
    return {kind: folder / f"{kind}.html" for kind in values}


@pytest.fixture
def page(files: dict[str, Path], kind: str) -> Parsed:
    return Parsed(files[kind].read_text(encoding="utf-8"))


def cases_of(value: Value) -> dict[str, str]:
    if isinstance(value, Explanations):
        return {each.case.id: each.case.question for each in value.explanations}
    first = value.evaluations[0] if isinstance(value, Comparison) else value
    return {each.case.id: each.case.question for each in first.results}


def test_nothing_in_the_page_is_asked_of_another_place(page: Parsed) -> None:
    for tag, attributes in page.elements:
        assert tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image"}
        for name, setting in attributes.items():
            assert name not in {"src", "srcset", "style", "action", "data", "background", "ping"}
            assert not name.startswith("on")
            assert not re.search(r"//|url\((?!#)", setting or ""), (tag, name, setting)
            if name in ("href", "xlink:href"):
                assert (setting or "").startswith("#")
    style, script = page.text_of("style"), page.text_of("script", 1)
    assert not re.search(r"url\(|@import|//", style)
    assert re.findall(r"\w+://[^\s\"']+", script) == ["http://www.w3.org/2000/svg"]
    assert not [word for word in (*NETWORK, *MARKUP) if word in script]


def test_the_policy_lets_the_page_s_own_script_and_style_work_and_nothing_else(
    page: Parsed,
) -> None:
    (policy,) = [a["content"] for t, a in page.elements if "http-equiv" in a]
    rules = dict(rule.split(" ", 1) for rule in (policy or "").split("; "))

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": digest(page.text_of("script", 1)),
        "style-src": digest(page.text_of("style")),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_hostile_text_is_text_and_every_case_is_there(
    page: Parsed, values: dict[str, Value], kind: str
) -> None:
    assert Counter(tag for tag, _ in page.elements)["script"] == 2
    contents = json.loads(page.text_of("script"))
    assert {each["id"]: each["question"] for each in contents["cases"]} == cases_of(values[kind])
    assert HOSTILE in contents["cases"][0]["question"]
    assert any(HOSTILE.strip() in text for text in contents["texts"])


def test_a_text_is_stored_once_and_every_hit_finds_its_own(
    values: dict[str, Value], files: dict[str, Path]
) -> None:
    contents = json.loads(Parsed(files["comparison"].read_text(encoding="utf-8")).text_of("script"))
    assert len(set(contents["texts"])) == len(contents["texts"])
    value = values["comparison"]
    assert isinstance(value, Comparison)
    for evaluation, run in zip(value.evaluations, contents["runs"], strict=True):
        for result, written in zip(evaluation.results, run["results"], strict=True):
            for stage, ranking in result.rankings.items():
                told = [contents["chunks"][hit[0]] for hit in written["rankings"][stage]]
                assert [
                    (id, contents["sources"][source], start, end, contents["texts"][text])
                    for id, source, start, end, text in told
                ] == [(h.id, h.source, h.start, h.end, h.text) for h in (e.hit for e in ranking)]


def test_the_page_has_colours_for_light_and_dark(page: Parsed) -> None:
    style = page.text_of("style")
    assert "(prefers-color-scheme: dark)" in style
    assert ':root[data-theme="dark"]' in style
    assert "@media print" in style


def test_plots_are_part_of_the_page_in_its_colours(page: Parsed) -> None:
    ids = Counter(a["id"] for _, a in page.elements if "id" in a)
    assert not [id for id, count in ids.items() if count > 1]
    assert [tag for tag, _ in page.elements].count("svg") >= 1
    used = {a["href"] for _, a in page.elements if (a.get("href") or "").startswith("#")}
    assert {f"#{id}" for id in ids} >= used
    fills = {a.get("fill") for tag, a in page.elements if tag == "text"} - {None}
    assert "currentColor" in fills
    assert not fills & {"#000000", "#767676"}


def test_equal_results_give_equal_pages(values: dict[str, Value], files: dict[str, Path]) -> None:
    for kind, value in values.items():
        assert reports.render(value) == files[kind].read_text(encoding="utf-8")


def test_figures_that_are_no_json_numbers_are_left_out(tmp_path: Path) -> None:
    evaluation = make_evaluation("odd", 2)
    result = evaluation.results[0]
    strange = replace(result, metrics={**result.metrics, "ndcg@10": float("nan")})
    reports.write(replace(evaluation, results=(strange,)), tmp_path / "odd.html")
    text = (tmp_path / "odd.html").read_text(encoding="utf-8")
    contents = json.loads(Parsed(text).text_of("script"))
    run = contents["runs"][0]
    assert run["results"][0]["metrics"][run["names"].index("ndcg@10")] is None


@pytest.mark.parametrize("name", ["absent/report.html", "file/report.html", "folder"])
def test_where_nothing_can_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="the report cannot be written") as raised:
        reports.write(make_evaluation(n=2), tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]


def test_a_folder_that_may_not_be_written_is_an_error() -> None:
    with pytest.raises(UsageError, match="the report cannot be written"):
        reports.write(make_evaluation(n=2), "/proc/report.html")  # not even by root


def test_without_matplotlib_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r'pip install "rag-app\[evaluation\]"'):
        reports.write(make_evaluation(n=2), tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [make_evaluation(n=1), make_comparison(1, 2)])
def test_one_of_a_thing_is_enough(value: Value) -> None:
    assert Parsed(reports.render(value)).text_of("script")


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with start_browser() as tab:
        if tab is None:
            words = "no Chromium: RAG_APP_CHROMIUM, one on the PATH, or pip install pyside6-addons"
            if os.environ.get("CI") == "true":
                pytest.fail(words)
            pytest.skip(words)
        yield tab


@pytest.fixture
def tab(browser: Page, files: dict[str, Path], kind: str) -> Page:
    browser.show(1280, 900)
    browser.open(files[kind])
    return browser


OPEN_ALL = "document.querySelectorAll('.row button').forEach((b, n) => n < 3 && b.click())"


def run_rows(tab: Page) -> list[str]:
    return list(tab.run("[...document.querySelectorAll('tr.row')].map(r => r.dataset.case)"))


def test_a_browser_draws_every_case_without_a_problem_or_a_request(
    tab: Page, values: dict[str, Value], files: dict[str, Path], kind: str
) -> None:
    tab.run(OPEN_ALL)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.run("new Promise((done) => setTimeout(done, 50))")
    assert sorted(run_rows(tab)) == sorted(cases_of(values[kind]))
    assert tab.problems == []
    assert tab.requests == [files[kind].resolve().as_uri()]
    assert tab.run("[typeof window.hit, document.images.length]") == ["undefined", 0]
    assert HOSTILE.strip().split("\u2028")[0].strip() in tab.run("document.body.textContent")


def test_the_page_fits_a_telephone(tab: Page) -> None:
    tab.show(375, 800)
    tab.run(OPEN_ALL)
    assert tab.run("document.documentElement.scrollWidth") <= 375


def test_it_is_dark_where_that_is_preferred_and_the_button_turns_it(tab: Page) -> None:
    colours = (
        "[getComputedStyle(document.documentElement).backgroundColor,"
        " getComputedStyle(document.body).color]"
    )
    light = tab.run(colours)
    tab.show(1280, 900, dark=True)
    dark = tab.run(colours)
    assert light[0] == "rgb(255, 255, 255)"
    assert dark[0] == "rgb(20, 23, 26)"
    assert light[1] != dark[1]
    tab.run("document.getElementById('theme').click()")
    assert tab.run(colours) == light
    text = "getComputedStyle(document.querySelector('#figures text[fill=currentColor]')).fill"
    assert tab.run(text) == light[1]


def test_paper_is_white_whatever_is_preferred(tab: Page) -> None:
    tab.show(800, 900, dark=True)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    tab.send("Emulation.setEmulatedMedia", media="print", features=[scheme])
    assert tab.run("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert tab.run("getComputedStyle(document.getElementById('theme')).display") == "none"
    tab.send("Emulation.setEmulatedMedia", media="", features=[])


def test_the_search_leaves_what_has_every_word(
    tab: Page, values: dict[str, Value], kind: str
) -> None:
    cases = cases_of(values[kind])
    chosen = list(cases)[1]
    script = (
        "(() => { const box = document.querySelector('#cases input[type=search]');"
        f"box.value = {json.dumps(chosen + ' WHAT')}; box.dispatchEvent(new Event('input')); }})()"
    )
    tab.run(script)
    assert chosen in run_rows(tab)
    assert all(chosen in id for id in run_rows(tab))


def test_rows_open_by_the_keyboard_and_show_the_evidence(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["evaluation"]
    assert isinstance(value, Evaluation)
    found = next(each for each in value.results if each.ranking[0].evidence)
    browser.open(files["evaluation"])
    row = f"document.querySelector('tr.row[data-case=\"{found.case.id}\"]')"
    browser.run(f"{row}.querySelector('button').focus()")
    browser.press("Enter", 13)
    assert browser.run(f"{row}.querySelector('button').getAttribute('aria-expanded')") == "true"
    marks = (
        f"[...{row}.nextElementSibling.querySelectorAll('.sides:last-child > div:last-child mark')]"
    )
    quote = found.case.evidence[0].quote or ""
    assert "".join(browser.run(f"{marks}.map(each => each.textContent)")) in quote
    assert len("".join(browser.run(f"{marks}.map(each => each.textContent)"))) > 40
    browser.press("Enter", 13)
    assert browser.run(f"{row}.nextElementSibling.className") != "detail"


def test_cases_are_worst_first_and_sorted_by_what_is_clicked(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["evaluation"]
    assert isinstance(value, Evaluation)
    scores = value.scores("ndcg@10")
    browser.open(files["evaluation"])
    rows = run_rows(browser)
    assert [scores[id] for id in rows if id in scores] == sorted(scores.values())
    assert all(id not in scores for id in rows[len(scores) :])
    browser.run("document.querySelectorAll('#cases thead th button')[2].click()")
    rows = run_rows(browser)
    assert [scores[id] for id in rows if id in scores] == sorted(scores.values(), reverse=True)
    sorts = "[...document.querySelectorAll('#cases th[aria-sort]')].map(h => h.ariaSort)"
    assert browser.run(sorts) == ["descending"]


def test_any_two_configs_are_compared_as_python_does(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["comparison"]
    assert isinstance(value, Comparison)
    browser.open(files["comparison"])
    for first in range(3):
        for second in range(3):
            drawn = browser.run(
                f"findChanges(data.runs[{first}], data.runs[{second}]).map((change) => "
                "({id: data.cases[change.case].id, difference: change.difference, "
                "flip: change.flip, ...change.pairs.count}))"
            )
            assert drawn == [
                _summarise(change)
                for change in changes(
                    value.evaluations[first], value.evaluations[second], value.metric
                )
            ]


def _summarise(change: Any) -> dict[str, Any]:
    counted = Counter(move.kind for move in change.moves)
    kinds = ("appeared", "vanished", "moved", "stayed")
    difference = change.difference
    return {
        "id": change.case.id,
        "difference": None if difference is None else pytest.approx(difference, abs=2e-5),
        "flip": change.flip,
        **{kind: counted[kind] for kind in kinds},
    }


def test_the_chosen_two_are_shown_side_by_side(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["comparison"]
    assert isinstance(value, Comparison)
    browser.open(files["comparison"])
    script = (
        "(() => { const [from, to] = document.querySelectorAll('#cases select');"
        "from.value = '0'; from.dispatchEvent(new Event('change'));"
        "to.value = '2'; to.dispatchEvent(new Event('change')); })()"
    )
    browser.run(script)
    expected = changes(value.evaluations[0], value.evaluations[2], value.metric)
    assert run_rows(browser) == [change.case.id for change in expected]
    browser.run("document.querySelector('.row button').click()")
    sides = "[...document.querySelectorAll('tr.detail .sides > div')]"
    hits = f"{sides}.map(side => side.querySelectorAll('ol.hits > li').length)"
    worst = expected[0]
    assert browser.run(hits) == [len(worst.before.ranking), len(worst.after.ranking)]
    gone = sum(move.kind == "vanished" for move in worst.moves)
    assert browser.run(f"{sides}[0].querySelectorAll('.hits .worse').length") == gone


def test_a_stage_shows_the_questions_it_lost(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["explanations"]
    assert isinstance(value, Explanations)
    browser.open(files["explanations"])
    stage = value.explanations[3].stage
    browser.run(
        f"(() => {{ const box = document.querySelector('#cases select'); box.value = '{stage}';"
        "box.dispatchEvent(new Event('change')); })()"
    )
    browser.run("document.querySelector('.row button').click()")
    lost = [each for each in value.explanations if each.stage == stage]
    assert sorted(run_rows(browser)) == sorted(each.case.id for each in lost)
    detail = browser.run("document.querySelector('tr.detail').textContent")
    assert lost[0].verdicts[0].counterfactuals[0] in detail


def test_what_nothing_proves_says_so_and_what_points_at_it(
    browser: Page, files: dict[str, Path], values: dict[str, Value]
) -> None:
    value = values["explanations"]
    assert isinstance(value, Explanations)
    doubtful = {
        each.case.id: each.verdicts[0].note
        for each in value.explanations
        if each.stage != "reached" and not each.verdicts[0].proved
    }
    assert len(doubtful) > 1
    browser.open(files["explanations"])
    rows = browser.run("[...document.querySelectorAll('#cases .row')].map((r) => r.textContent)")
    told = [row for row in rows if "(the likeliest; nothing proves it)" in row]
    assert len(told) == len(doubtful)
    for id, note in doubtful.items():
        assert [row for row in told if row.startswith(id) and note in row], (id, note)
    detail = browser.run(
        "(() => { const row = [...document.querySelectorAll('#cases .row')].find((r) => "
        "r.textContent.includes('nothing proves')); row.querySelector('button').click(); "
        "return document.querySelector('tr.detail').textContent; })()"
    )
    assert "(the likeliest; nothing proves it)" in detail
    assert any(note in detail for note in doubtful.values())
