"""What is known of embedding models by name: what must be right for their vectors to mean anything.

The table is `model_cards.yaml`, each fact with its source. What the user's config says wins over
it. A model that is not in it works, with `Card` as its name gives it: no prefix, no known window.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

TABLE: Final = Path(__file__).with_suffix(".yaml")


@dataclass(frozen=True, slots=True)
class Card:
    """One embedding model.

    Attributes:
        name: as its provider writes it; `aliases` are other providers' names of it.
        window: tokens that it reads, special tokens included; None when unknown.
        dimension: numbers per vector, when not asked for fewer; None when unknown.
        dimensions: other lengths it was trained for (Matryoshka), longest first; `any` length up
            to `dimension` when it holds the single number 1.
        normalised: whether the provider's vectors have length 1 at full dimension.
        query_prefix: what stands before a question; an instruction, where it was trained with one.
        document_prefix: what stands before a document.
        pooling: which state becomes the vector; None where the provider does it.
        languages: "en", "zh", or "multilingual".
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
    normalised: bool = False
    query_prefix: str = ""
    document_prefix: str = ""
    pooling: Literal["cls", "mean", "last_token"] | None = None
    languages: str = ""
    licence: str = ""
    price: float | None = None
    price_date: str | None = None
    source: str = ""
    known: bool = True

    def takes(self, dimension: int) -> bool:
        """Whether vectors may be cut to `dimension` numbers; True where nothing is known."""
        if self.dimension is None or dimension == self.dimension:
            return True
        return dimension in self.dimensions or (1 in self.dimensions and dimension < self.dimension)


def find_card(model: str) -> Card:
    """The card of `model`, by its name or an alias, upper and lower case alike.

    A path is looked up by its last part, and so is "owner/name" when the whole name is unknown.
    """
    cards, name = _read(), model.strip().rstrip("/").casefold()
    return cards.get(name) or cards.get(name.rpartition("/")[2]) or Card(model, known=False)


def list_cards() -> list[Card]:
    """Every card, in the table's order."""
    return list(dict.fromkeys(_read().values()))


@cache
def _read() -> dict[str, Card]:
    import yaml

    cards: dict[str, Card] = {}
    for entry in yaml.safe_load(TABLE.read_text(encoding="utf-8")):
        card = Card(**{name: _freeze(value) for name, value in entry.items()})
        for name in (card.name, *card.aliases):
            cards[name.casefold()] = card
    return cards


def _freeze(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


FIELDS: Final = tuple(field.name for field in fields(Card) if field.name != "known")
"""What an entry of the table may hold."""
