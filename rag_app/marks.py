"""Reads an answer as it streams in: finds its `[n]` marks, takes out links no document holds.

The text of an answer is Markdown that a chat model wrote after reading documents nobody vetted. A
page that renders it must not load an image or offer a link which the model composed, because such
an address can carry the conversation away. So, with `links="text"`, what comes out holds no
Markdown link, image or HTML tag, and a bare address only if it stands word for word in what the
model was given. Inside code nothing changes but a space put between `](`. Knows no passage and no
citation; the same text gives the same result however it is cut into pieces.

Syntax: CommonMark 0.31 (§4.5 fenced code, §6.1 code spans, §6.3 links), GFM 0.29 (§6.9 autolinks).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

Links: TypeAlias = Literal["text", "keep"]

REMOVED: Final = "‹link removed›"

_PLAIN = re.compile(r"[^\\`!\[\]<hHwW\n \t]+")
_SPACES = re.compile(r"[ \t]+")
_MARK = re.compile(r"\[[ \t]*(\d+(?:[ \t]*[,;–-][ \t]*\d+)*)[ \t]*\]")  # noqa: RUF001
# Each pattern has a twin, `…_BEGUN`: what may become a match, or another one, with more text. For
# that to be right there must be one way to match only; so a target does not begin with a quote.
_LABEL = r"!?\[(?P<label>[^\[\]\n]*)"
_TARGET = r"[ \t]*+(?![\"'])<?(?P<target>[^\s<>()]*(?:\([^\s<>()]*\)[^\s<>()]*)*)"
_TITLE = r"(?:\"[^\"\n]*\"|'[^'\n]*')"
_LINK = re.compile(rf"{_LABEL}\]\({_TARGET}>?(?:[ \t]++{_TITLE})?[ \t]*+\)")
_LINK_BEGUN = re.compile(
    rf"{_LABEL}(?:\](?:\({_TARGET}"
    rf"(?:\([^\s<>()]*|>?(?:[ \t]++(?:\"[^\"\n]*|'[^'\n]*|{_TITLE}[ \t]*+)?)?))?)?\Z"
)
_SCHEME = r"(?:https?://|www\.)"
_SCHEME_BEGUN = r"(?:h(?:t(?:t(?:ps?(?::/?)?)?)?)?|w{1,3})"
_PART = r"(?:[!-;=?-Z\\^_a-z{|}~]|\[[^\s\[\]]*\](?=[\w/=&?#%]))"
_URL = re.compile(rf"{_SCHEME}{_PART}+", re.IGNORECASE)
_AUTOLINK = re.compile(rf"<({_SCHEME}{_PART}+)>", re.IGNORECASE)
_URL_BEGUN = re.compile(
    rf"<?(?:{_SCHEME_BEGUN}|{_SCHEME}{_PART}*(?:\[[^\s\[\]]*\]?)?)\Z", re.IGNORECASE
)
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_FENCE = re.compile(r"([ \t]*)(`{3,}(?=[^`\n]*(?:\n|\Z))|~{3,})[^\n]*")
_FENCE_BEGUN = re.compile(r"[ \t]*(?:`{0,2}|~{0,2})\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """A `[number]` that stands at `position` of the text that came out."""

    position: int
    number: int


@dataclass(frozen=True, slots=True)
class _Fence:
    closing: re.Pattern[str]
    verbatim: bool


@dataclass(slots=True)
class AnswerScanner:
    """Takes an answer in pieces of any size and gives it back clean, as soon as it can be sure.

    Args:
        count: the marks 1 to `count` point somewhere; others are taken out and counted.
        known: the text in which an address must stand to be kept.
        links: "text" as described above; "keep" leaves links, images and HTML alone.

    Attributes:
        marks: those met so far; each is written `[n]`, also where it was `[1, 2]` or `[1-3]`.
        dropped: numbers taken out because they point nowhere.
    """

    count: int
    known: str = ""
    links: Links = "text"
    marks: list[Mark] = field(default_factory=list)
    dropped: int = 0
    _pending: str = ""
    _written: int = 0
    _line_start: bool = True
    _fence: _Fence | None = None
    _fences_sure: bool = True

    def feed(self, piece: str) -> str:
        """Take the next piece; what is certain by now comes out, possibly nothing."""
        self._pending += piece.replace("\r", "")
        return self._drain(final=False)

    def close(self) -> str:
        """The answer is over: the rest comes out."""
        return self._drain(final=True)

    def _drain(self, *, final: bool) -> str:
        text, at, out = self._pending, 0, []
        while at < len(text):
            step = self._step(text, at, final)
            if step is None:
                break
            piece, at = step
            out.append(piece)
            self._written += len(piece)
            self._line_start = text[at - 1] == "\n"
        self._pending = text[at:]
        return "".join(out)

    # Each step returns what to write and where to go on; None when more text must come first.

    def _step(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        if self._fence is not None:
            return self._read_code_line(text, at, final, self._fence)
        if self._line_start:
            if _must_wait(_FENCE_BEGUN, text, at, final):
                return None
            if opening := _FENCE.match(text, at):
                return self._open_fence(text, opening, final)
        if plain := _PLAIN.match(text, at):
            return plain.group(), plain.end()
        return self._read_special(text, at, final)

    def _read_special(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        match text[at]:
            case " " | "\t":
                return self._read_spaces(text, at, final)
            case "`":
                return self._read_code_span(text, at, final)
            case "[":
                return self._read_bracket(text, at, final)
            case "h" | "H" | "w" | "W":
                return self._read_address(text, at, final)
            case "\n":
                return "\n", at + 1
        if at + 1 == len(text) and not final:
            return None
        return self._read_sign(text, at, final)

    def _read_sign(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        sign, after = text[at], text[at + 1 : at + 2]
        match sign:
            case "\\" if after and after in "\\`[]!<()*_":
                return sign + after, at + 2
            case "!" if after == "[":
                return self._read_image(text, at, final)
            case "]" if self.links == "text" and after and after in "(:":
                return "] ", at + 1
            case "<" if self.links == "text":
                return self._read_angle(text, at, final)
        return sign, at + 1

    # -- code -----------------------------------------------------------------------------------

    def _open_fence(self, text: str, opening: re.Match[str], final: bool) -> tuple[str, int] | None:
        if opening.end() == len(text) and not final:
            return None
        indent, run = opening.groups()
        # Whether an indented fence opens and closes depends on lists around it; from there on no
        # line can be trusted to be code for every renderer.
        self._fences_sure = self._fences_sure and not indent
        spaces = " {0,3}" if self._fences_sure else "[ \t]*"
        closing = re.compile(rf"{spaces}{re.escape(run[0])}{{{len(run)},}}[ \t]*\Z")
        self._fence = _Fence(closing, self._fences_sure or self.links == "keep")
        end = min(opening.end() + 1, len(text))
        return self._as_code(text[opening.start() : end], self._fence.verbatim), end

    def _read_code_line(
        self, text: str, at: int, final: bool, fence: _Fence
    ) -> tuple[str, int] | None:
        end = text.find("\n", at)
        if end < 0 and not final:
            return None
        end = len(text) if end < 0 else end
        line = text[at:end]
        if fence.closing.match(line):
            self._fence = None
        after = min(end + 1, len(text))
        return self._as_code(text[at:after], fence.verbatim), after

    def _read_code_span(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        end = at
        while text[end : end + 1] == "`":
            end += 1
        if end == len(text) and not final:
            return None
        run = text[at:end]
        line_end = text.find("\n", end)
        closing = re.compile(rf"(?<!`){run}(?!`)").search(
            text, end, len(text) if line_end < 0 else line_end
        )
        if not final and (line_end < 0 if closing is None else closing.end() == len(text)):
            return None
        if closing is None:
            return run, end
        return self._as_code(text[at : closing.end()], self.links == "keep"), closing.end()

    def _as_code(self, code: str, verbatim: bool) -> str:
        return code if verbatim else code.replace("](", "] (")

    # -- marks and links ------------------------------------------------------------------------

    def _read_spaces(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        spaces = _SPACES.match(text, at)
        end = at if spaces is None else spaces.end()
        if end == len(text):
            return (text[at:end], end) if final else None
        if text[end] != "[":
            return text[at:end], end
        self._written += end - at
        following = self._read_bracket(text, end, final)
        self._written -= end - at
        if following is None:
            return None
        piece, after = following
        return (text[at:end] + piece if piece else "", after)

    def _read_bracket(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        mark = _MARK.match(text, at)
        link = _LINK.match(text, at)
        if link is None and _must_wait(_LINK_BEGUN, text, at, final):
            return None
        if mark is not None:
            return self._write_marks(mark.group(1)), (link or mark).end()
        if link is not None:
            return self._write_link(link), link.end()
        return "[", at + 1

    def _read_image(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        link = _LINK.match(text, at)
        if link is None and _must_wait(_LINK_BEGUN, text, at, final):
            return None
        if link is None:
            return "!", at + 1
        if self.links == "keep":
            return link.group(), link.end()
        return self._clean(link["label"]), link.end()

    def _write_marks(self, listed: str) -> str:
        out = ""
        for part in re.split(r"[,;]", listed):
            first, *last = (_to_number(n) for n in re.split("[–-]", part))  # noqa: RUF001
            low, high = min(first, *last, first), max(first, *last, first)
            numbers = range(max(low, 1), min(high, self.count) + 1)
            self.dropped += high - low + 1 - len(numbers)
            for number in numbers:
                self.marks.append(Mark(self._written + len(out), number))
                out += f"[{number}]"
        return out

    def _write_link(self, link: re.Match[str]) -> str:
        if self.links == "keep":
            return link.group()
        label, target = self._clean(link["label"]), link["target"]
        if not target or target == label or target not in self.known:
            return label
        return f"{label} ({target})"

    def _read_angle(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        autolink = _AUTOLINK.match(text, at)
        if autolink is not None:
            return self._keep_known(autolink[1]), autolink.end()
        if _must_wait(_URL_BEGUN, text, at, final):
            return None
        return ("< " if _TAG.match(text, at) else "<"), at + 1

    def _read_address(self, text: str, at: int, final: bool) -> tuple[str, int] | None:
        if _must_wait(_URL_BEGUN, text, at, final):
            return None
        url = _URL.match(text, at)
        if url is None:
            return text[at], at + 1
        address = _without_punctuation(url.group())
        return self._keep_known(address), at + len(address)

    def _keep_known(self, address: str) -> str:
        return address if self.links == "keep" or address in self.known else REMOVED

    def _clean(self, label: str) -> str:
        return _TAG.sub("< ", _URL.sub(lambda url: self._keep_known(url.group()), label))


def _must_wait(begun: re.Pattern[str], text: str, at: int, final: bool) -> bool:
    return not final and begun.match(text, at) is not None


def _to_number(digits: str) -> int:
    digits = digits.strip()
    return int(digits) if len(digits) <= 6 else 0


def _without_punctuation(address: str) -> str:
    while address and (
        address[-1] in ".,;:!?'\"*_~"
        or (address[-1] == ")" and address.count(")") > address.count("("))
    ):
        address = address[:-1]
    return address
