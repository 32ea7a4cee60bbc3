"""MMR finds, then reads the vectors: what others write in between must not mislead it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rag_app.errors import StoreError
from rag_app.store import Row, Store
from rag_app.vector_stores._matrix import MemoryRows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DisturbedRows(MemoryRows):
    """The memory store; `disturb` is done to it once, right after a query."""

    disturb: Callable[[DisturbedRows], None] | None = None

    def query(self, *args: Any) -> Any:
        found = super().query(*args)
        disturb, self.disturb = self.disturb, None
        if disturb is not None:
            disturb(self)
        return found


@pytest.fixture
def rows() -> Iterator[DisturbedRows]:
    rows = DisturbedRows(None, "docs", 1.0)
    rows.upsert([make_row(id, angle) for id, angle in (("a", 0), ("b", 20), ("c", 80))])
    yield rows
    rows.close()


def make_row(id: str, degrees: float, lang: str = "en") -> Row:
    angle = np.radians(degrees)
    vector = np.array([np.cos(angle), np.sin(angle)], dtype=np.float32)
    return Row(id, f"{id} at {degrees}", vector, {"lang": lang})


def find(rows: DisturbedRows, **options: Any) -> list[str]:
    store = Store(rows, embeddings=None)  # type: ignore[arg-type]
    found = store.max_marginal_relevance_search_by_vector(
        [1.0, 0.0], 2, fetch_k=3, filter={"lang": "en"}, **options
    )
    return [document.page_content for document in found]


def test_a_row_removed_meanwhile_is_left_out(rows: DisturbedRows) -> None:
    rows.disturb = lambda held: held.delete(["a"])
    assert find(rows, lambda_mult=0.0) == ["b at 20", "c at 80"]


def test_a_row_replaced_meanwhile_counts_as_it_is_now(rows: DisturbedRows) -> None:
    rows.disturb = lambda held: held.upsert([make_row("a", 170), make_row("c", 10)])
    assert find(rows, lambda_mult=1.0) == ["c at 10", "b at 20"]


def test_a_row_that_no_longer_matches_is_left_out(rows: DisturbedRows) -> None:
    rows.disturb = lambda held: held.upsert([make_row("a", 0, lang="fr")])
    assert find(rows, lambda_mult=1.0) == ["b at 20", "c at 80"]


def test_a_collection_made_anew_meanwhile_is_an_error(rows: DisturbedRows) -> None:
    def make_anew(held: DisturbedRows) -> None:
        held.drop()
        held.upsert([Row("a", "", np.array([1.0, 0.0, 0.0], dtype=np.float32), {"lang": "en"})])

    rows.disturb = make_anew
    with pytest.raises(StoreError, match="2 dimensions, the collection 3"):
        find(rows)
