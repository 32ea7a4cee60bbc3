"""What renderings of filters share, against `matches`, `look_up` and `equality_key`."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.filter_rendering import (
    Condition,
    Rendered,
    carry_down,
    list_fields,
    measure,
    require_all,
    require_one,
    to_float,
)
from rag_app.filters import (
    MISSING,
    And,
    Compare,
    Contains,
    Exists,
    In,
    Node,
    Not,
    Or,
    look_up,
    matches,
)
from rag_app.json_values import equality_key, equality_text

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 20)
    | st.sampled_from([2**53, 2**53 + 1, 10**400, 0.0, -0.0, 0.5, 2.0, 2.0**53, 1e308, int(1e308)])
    | st.sampled_from(["", "a", "b", "1", "sa", "None", "1:s", "\x00", "日本"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "a.b", "b.a", ""]), inner, max_size=3)
    ),
    max_leaves=8,
)
METADATA = st.dictionaries(st.sampled_from(["a", "b", "a.b", "a.b.a", ""]), VALUES, max_size=4)
FIELDS = st.sampled_from(["a", "b", "a.b"])
CONDITIONS = (
    st.builds(In, FIELDS, st.lists(SCALARS, max_size=3).map(tuple))
    | st.builds(Compare, FIELDS, st.sampled_from(["$gt", "$lte"]), st.integers(0, 3))
    | st.builds(Contains, FIELDS, SCALARS)
    | st.builds(Exists, FIELDS)
)
NODES = st.recursive(
    CONDITIONS,
    lambda inner: (
        inner.map(Not)
        | st.lists(inner, max_size=3).map(lambda nodes: And(tuple(nodes)))
        | st.lists(inner, max_size=3).map(lambda nodes: Or(tuple(nodes)))
    ),
    max_leaves=6,
)

EVERY: Rendered[frozenset[int]] = Rendered(where=True, exact=False)


@given(one=VALUES, other=VALUES)
def test_values_share_a_text_exactly_when_they_are_the_same(one: Any, other: Any) -> None:
    same = equality_key(one) == equality_key(other)
    assert (equality_text(one) == equality_text(other)) is same


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["a", "b"], ["a1:b"]),
        (["a", ["b"]], [["a"], "b"]),
        ({"a": "b"}, ["a", "b"]),
        ({"a": 1, "b": 2}, {"a": {"1": "b"}, "b": 2}),
        ("1", 1),
        (True, 1),
        (None, "None"),
        (15, "f"),
        (False, "False"),
        (2**53, 2**53 + 1),
    ],
)
def test_values_that_differ_have_texts_that_differ(one: Any, other: Any) -> None:
    assert equality_text(one) != equality_text(other)


def test_equal_numbers_and_objects_share_a_text() -> None:
    assert equality_text(1) == equality_text(1.0)
    assert equality_text(-0.0) == equality_text(0)
    assert equality_text({"a": 1, "b": [2.0]}) == equality_text({"b": [2], "a": 1.0})


@given(metadata=METADATA)
def test_every_field_that_can_be_named_is_listed_once_with_its_value(
    metadata: dict[str, Any],
) -> None:
    listed = list(list_fields(metadata))
    assert len(listed) == len(dict(listed))
    for path, value in listed:
        assert look_up(metadata, path) is value
    names = [".".join(p) for n in range(1, 6) for p in itertools.product(["a", "b", ""], repeat=n)]
    assert {n for n in names if look_up(metadata, n) is not MISSING} <= dict(listed).keys()


@given(node=NODES, metadatas=st.lists(METADATA, max_size=6), data=st.data())
def test_a_rendering_lets_pass_what_matches_and_when_exact_nothing_else(
    node: Node, metadatas: list[dict[str, Any]], data: st.DataObject
) -> None:
    """In the terms of a vendor that knows sets of numbers and cannot tell all conditions."""
    rows = range(len(metadatas))

    def render(condition: Condition, negated: bool) -> Rendered[frozenset[int]]:
        passing = {n for n in rows if matches(condition, metadatas[n]) is not negated}
        if data.draw(st.booleans()):
            return Rendered(frozenset(passing), exact=True)
        more = data.draw(st.sets(st.sampled_from([*rows] or [0])))
        return data.draw(st.sampled_from([Rendered(frozenset(passing | more), exact=False), EVERY]))

    rendered = carry_down(
        node,
        render,
        lambda parts: require_all(parts, lambda sets: frozenset.intersection(*sets)),
        lambda parts: require_one(parts, lambda sets: frozenset.union(*sets)),
    )
    passed = {n for n in rows if rendered.where is True or (rendered.where and n in rendered.where)}
    wanted = {n for n in rows if matches(node, metadatas[n])}
    assert wanted <= passed
    if rendered.exact:
        assert passed == wanted


def test_sizes_count_conditions_values_and_levels() -> None:
    two = In("a", (1, 2))
    assert measure(two) == (1, 2, 1)
    assert measure(Not(two)) == (1, 2, 2)
    assert measure(And((two, Or((Exists("b"), two))))) == (5, 5, 3)
    assert measure(And(())) == (1, 0, 1)


def test_the_largest_floats_stand_for_what_is_beyond_them() -> None:
    assert to_float(10**400) == 1.7976931348623157e308
    assert to_float(-(10**400)) == -1.7976931348623157e308
    assert to_float(2**53 + 1) == 2.0**53
