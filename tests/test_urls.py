"""No spelling of a URL shows a password or a query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.urls import show_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://localhost:11434/v1", "http://localhost:11434/v1"),
        ("https://[::1]:8000/", "https://[::1]:8000/"),
        ("https://me:hunter2@host/v1?key=x#y", "https://host/v1"),
        ("https://token@host", "https://host"),
        ("https://host/@me/x", "https://host/@me/x"),
        ("https://host?key=x", "https://host"),
        ("hunter2", "…"),
    ],
)
def test_server_and_path_are_shown(url: str, shown: str) -> None:
    assert show_url(url) == shown


@given(
    *(st.text("ab@/?#:\\[]%1 ", min_size=0, max_size=8) for _ in range(4)),
    st.sampled_from(["host", "host:8000", "[::1]:80", "1.2.3.4"]),
)
def test_no_part_of_a_password_or_query_is_shown(
    before: str, after: str, query: str, path: str, host: str
) -> None:
    path = path.translate(str.maketrans("", "", "@?#\\"))
    shown = show_url(f"https://me:{before}SECRET{after}@{host}/{path}?k=SECRET{query}SECRET")
    assert "SECRET" not in shown
