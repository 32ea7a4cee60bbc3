"""What is known of embedding models by name: what must be right for their vectors to mean anything.

The table is `model_cards.yaml`, each fact with its source. What the user's config says wins over
it. A model that is not in it works, with `Card` as its name gives it: no prefix, no known window.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from rag_app.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_IN_CACHE: Final = re.compile(r"(?:^|/)models--([^/]+?)--([^/]+)(?:/snapshots/[^/]+)?$")

TABLE: Final = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True, slots=True)
class Card:
    """One embedding model.

    Attributes:
        name: as its provider writes it; `aliases` are other providers' names of it.
        window: tokens that it reads, special tokens included; None when unknown.
        dimension: numbers per vector, when not asked for fewer; None when unknown.
        dimensions: other lengths it was trained for (Matryoshka), longest first.
        shortest: where any length from this one up to `dimension` may be asked for.
        normalised: whether the provider's vectors are known to have length 1 at full dimension.
        query_prefix: what stands before a question; an instruction, where it was trained with one.
        document_prefix: what stands before a document.
        pooling: which state becomes the vector; None where the provider does it.
        languages: what it was trained for; empty where that is not known.
        remote_code: whether its folder on the hub needs Python code that lies there to be run.
        licence: SPDX name, or "proprietary".
        price: US dollars per million tokens; None where there is none.
        price_date: the day on which the price was read, ISO 8601.
        source: where the facts are from.
        known: whether it is in the table.
    """

    name: str
    aliases: tuple[str, ...] = ()
    window: int | None = None
    dimension: int | None = None
    dimensions: tuple[int, ...] = ()
    shortest: int | None = None
    normalised: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    pooling: Literal["cls", "mean", "last_token"] | None = None
    languages: Literal["en", "zh", "multilingual", ""] = ""
    remote_code: bool = False
    licence: str = ""
    price: float | None = None
    price_date: str | None = None
    source: str = ""
    known: bool = True

    def takes(self, dimension: int) -> bool:
        """Whether vectors may be cut to `dimension` numbers; True where nothing is known."""
        if self.dimension is None or dimension == self.dimension:
            return True
        any_length = self.shortest is not None and self.shortest <= dimension < self.dimension
        return any_length or dimension in self.dimensions


def find_card(model: str) -> Card:
    """The card of `model`, by its name or an alias, upper and lower case alike.

    A path is looked up by its last part, and so is "owner/name" when the whole name is unknown; a
    folder of the hub's cache by the model's name in it. Of an Ollama tag the size counts, and the
    quantisation behind it does not: "bge-m3:567m-fp16".
    """
    name = model.strip().replace("\\", "/").rstrip("/").casefold()
    if cached := _IN_CACHE.search(name):
        name = f"{cached[1]}/{cached[2]}"
    for written in (name, name.rpartition("/")[2]):
        for candidate in _without_tag(written):
            if card := _read().get(candidate):
                return card
    return Card(model, known=False)


def _without_tag(name: str) -> Iterator[str]:
    """The name, then with less and less of an Ollama tag; wholly without only for `latest`."""
    bare, _, tag = name.partition(":")
    yield bare if tag == "latest" else name
    parts = tag.split("-")
    for kept in range(len(parts) - 1, 0, -1):
        yield f"{bare}:{'-'.join(parts[:kept])}"


def check_dimension(card: Card, dimension: int | None) -> None:
    """Refuse a length of vectors that the model is known not to have.

    Raises:
        UsageError: naming those it has.
    """
    if dimension is None or card.takes(dimension):
        return
    wrong = f"{card.name} has no vectors of {dimension} dimensions"
    others = ", ".join(map(str, card.dimensions))
    shorter = f"{card.shortest} to {card.dimension}" if card.shortest else others
    has = f"It has {card.dimension}" + (f", or {shorter}." if shorter else ".")
    raise UsageError("embeddings.dimensions", wrong, has)


def list_cards() -> list[Card]:
    """Every card, in the table's order."""
    return list(dict.fromkeys(_read().values()))


@cache
def _read() -> dict[str, Card]:
    import yaml

    cards: dict[str, Card] = {}
    for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        card = Card(**{name: _freeze(value) for name, value in entry.items()})
        for name in (card.name, card.name.rpartition("/")[2], *card.aliases):
            cards[name.casefold()] = card
    return cards


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FIELDS: Final = tuple(field.name for field in fields(Card) if field.name != "known")
"""What an entry of the table may hold."""
