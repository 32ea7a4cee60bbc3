"""The filter language: what each operator means, its laws, and the words for what is wrong."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag_app.errors import FilterError
from rag_app.filters import matches, parse

METADATA = {
    "lang": "en",
    "year": 2024,
    "score": 0.5,
    "draft": False,
    "editor": None,
    "tags": ["api", "http", 3],
    "author": {"name": "Ada", "born": {"year": 1815}},
    "a.b": "literal",
    "a": {"b": "nested", "c": "reached"},
    "date": "2024-05-01",
}


def passes(filter: Any, metadata: dict[str, Any] = METADATA) -> bool:
    return matches(parse(filter), metadata)


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        (None, True),
        ({}, True),
        # equality
        ({"lang": "en"}, True),
        ({"lang": "EN"}, False),
        ({"year": 2024.0}, True),
        ({"year": "2024"}, False),
        ({"draft": False}, True),
        ({"draft": 0}, False),
        ({"score": {"$eq": 0.5}}, True),
        ({"tags": ["api", "http", 3.0]}, True),
        ({"tags": ["http", "api", 3]}, False),
        ({"tags": "api"}, False),
        ({"author": {"born": {"year": 1815}, "name": "Ada"}}, True),
        ({"author": {"name": "Ada"}}, False),
        ({"lang": {"$ne": "en"}}, False),
        ({"lang": {"$ne": 1}}, True),
        # null and missing
        ({"editor": None}, True),
        ({"nobody": None}, True),
        ({"lang": None}, False),
        ({"nobody": {"$ne": "x"}}, True),
        ({"nobody": {"$ne": None}}, False),
        ({"nobody": {"$nin": ["x"]}}, True),
        ({"nobody": {"$nin": ["x", None]}}, False),
        ({"nobody": {"$in": ["x", None]}}, True),
        ({"editor": {"$exists": True}}, True),
        ({"nobody": {"$exists": True}}, False),
        ({"nobody": {"$exists": False}}, True),
        # membership
        ({"lang": {"$in": ["de", "en"]}}, True),
        ({"lang": {"$in": []}}, False),
        ({"lang": {"$nin": []}}, True),
        ({"year": {"$in": ["2024", True]}}, False),
        ({"tags": {"$in": [["api", "http", 3]]}}, True),
        # order
        ({"year": {"$gt": 2023, "$lt": 2024.5}}, True),
        ({"year": {"$gte": 2024}}, True),
        ({"year": {"$gt": 2024}}, False),
        ({"year": {"$gte": "2000"}}, False),
        ({"date": {"$gte": "2024-04-30", "$lte": "2024-05-01"}}, True),
        ({"lang": {"$gt": "EN"}}, True),
        ({"draft": {"$lt": 5}}, False),
        ({"editor": {"$lt": 5}}, False),
        ({"nobody": {"$lte": ""}}, False),
        ({"tags": {"$gt": 0}}, False),
        # contains
        ({"tags": {"$contains": "api"}}, True),
        ({"tags": {"$contains": 3.0}}, True),
        ({"tags": {"$contains": "ap"}}, False),
        ({"lang": {"$contains": "n"}}, True),
        ({"lang": {"$contains": ""}}, True),
        ({"year": {"$contains": 2024}}, False),
        ({"author": {"$contains": "name"}}, False),
        # paths
        ({"author.name": "Ada"}, True),
        ({"author.born.year": {"$lt": 1900}}, True),
        ({"author.born": {"year": 1815}}, True),
        ({"a.b": "literal"}, True),
        ({"a.b": "nested"}, False),
        ({"a.c": "reached"}, True),
        ({"lang.x": {"$exists": True}}, False),
        ({"tags.0": "api"}, False),
        # joining
        ({"lang": "en", "year": 2023}, False),
        ({"$and": [{"lang": "en"}, {"year": 2024}]}, True),
        ({"$or": [{"lang": "de"}, {"year": 2024}]}, True),
        ({"$or": [{"lang": "de"}, {}]}, True),
        ({"$not": {"lang": "de"}}, True),
        ({"$not": {}}, False),
        ({"year": {"$not": {"$gt": 2030}}}, True),
        ({"nobody": {"$not": {"$gt": 2030}}}, True),
        ({"lang": "en", "$or": [{"year": 1}, {"tags": {"$contains": "http"}}]}, True),
    ],
)
def test_what_a_filter_means(filter: Any, expected: bool) -> None:
    assert passes(filter) is expected


@pytest.mark.parametrize(
    ("filter", "where", "words"),
    [
        ({"year": {"$gtr": 1}}, "filter.year.$gtr", "$gte, $in"),
        ({"a": {"$exist": True}}, "filter.a.$exist", "Did you mean '$exists'?"),
        ({"$nor": [{"a": 1}]}, "filter.$nor", "$and, $not, $or"),
        ({"$gte": 3}, "filter.$gte", "without a field"),
        ({"$and": {"a": 1}}, "filter.$and", "list of filters"),
        ({"$or": []}, "filter.$or", "at least one"),
        ({"$and": [{"a": 1}, {"b": {"$in": "x"}}]}, "filter.$and[1].b.$in", "'x' is not a list"),
        ({"$and": [1]}, "filter.$and[0]", "1 is not a filter"),
        ([("a", 1)], "filter", "is not a filter"),
        ({1: "a"}, "filter", "field 1"),
        ({"a": {"$gt": True}}, "filter.a.$gt", "True has no order"),
        ({"a": {"$lt": None}}, "filter.a.$lt", "None has no order"),
        ({"a": {"$gt": 1, "b": 2}}, "filter.a", "mixed"),
        ({"a": {"$not": 5}}, "filter.a.$not", "object of operators"),
        ({"a": {"$exists": 1}}, "filter.a.$exists", "true or false"),
        ({"a": math.nan}, "filter.a", "nan"),
        ({"a": {"$in": [{1}]}}, "filter.a.$in", "set"),
        ({"a": "\udcff"}, "filter.a", "surrogate"),
    ],
)
def test_what_is_wrong_is_named(filter: Any, where: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        parse(filter)
    assert caught.value.where == where
    assert words in str(caught.value)


def nest(wrap: Any, levels: int) -> Any:
    nested: Any = {"a": 1}
    for _ in range(levels):
        nested = wrap(nested)
    return nested


@pytest.mark.parametrize(
    "filter",
    [
        nest(lambda inner: {"$not": inner}, 10_000),
        nest(lambda inner: {"$and": [inner]}, 10_000),
        {"b": nest(lambda inner: [inner], 10_000)},
        {"a": nest(lambda inner: {"a": inner}, 10_000)},
        {"$or": [{"a": i} for i in range(1001)]},
    ],
    ids=["not", "and", "list", "object", "many"],
)
def test_a_monstrous_filter_is_an_error_not_a_crash(filter: Any) -> None:
    with pytest.raises(FilterError):
        parse(filter)


def test_field_level_not_is_limited_too() -> None:
    condition: Any = {"$gt": 1}
    for _ in range(10_000):
        condition = {"$not": condition}
    with pytest.raises(FilterError, match="deeper"):
        parse({"a": condition})


def test_many_values_are_fast_and_fine() -> None:
    node = parse({"n": {"$in": list(range(100_000))}})
    assert sum(matches(node, {"n": n}) for n in range(99_000, 101_000)) == 1000


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, "", "a", "ab"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)
METADATAS = st.dictionaries(st.sampled_from(["a", "b", "a.x"]), VALUES)
ORDERED = st.integers(-2, 2) | st.sampled_from(["", "a", "ab"])
CONDITIONS = st.one_of(
    VALUES.map(lambda v: {"$eq": v}),
    st.lists(VALUES, max_size=3).map(lambda v: {"$in": v}),
    st.tuples(st.sampled_from(["$gt", "$gte", "$lt", "$lte"]), ORDERED).map(lambda p: dict([p])),
    VALUES.map(lambda v: {"$contains": v}),
    st.booleans().map(lambda v: {"$exists": v}),
)
FILTERS = st.dictionaries(st.sampled_from(["a", "b", "a.x", "c"]), CONDITIONS, max_size=2)


class TestLaws:
    @given(FILTERS, FILTERS, METADATAS)
    def test_de_morgan(self, one: Any, two: Any, metadata: dict[str, Any]) -> None:
        neither = {"$and": [{"$not": one}, {"$not": two}]}
        assert passes({"$not": {"$or": [one, two]}}, metadata) is passes(neither, metadata)
        assert passes({"$not": {"$not": one}}, metadata) is passes(one, metadata)

    @given(FILTERS, FILTERS, METADATAS)
    def test_joining_is_logic(self, one: Any, two: Any, metadata: dict[str, Any]) -> None:
        first, second = passes(one, metadata), passes(two, metadata)
        assert passes({"$and": [one, two]}, metadata) is (first and second)
        assert passes({"$or": [one, two]}, metadata) is (first or second)
        assert passes({"$not": one}, metadata) is not first

    @given(VALUES, METADATAS)
    def test_ne_and_nin_are_the_negations(self, value: Any, metadata: dict[str, Any]) -> None:
        equal = passes({"a": {"$eq": value}}, metadata)
        assert passes({"a": {"$ne": value}}, metadata) is not equal
        assert passes({"a": {"$in": [value]}}, metadata) is equal
        assert passes({"a": {"$nin": [value]}}, metadata) is not equal

    @given(ORDERED, ORDERED)
    def test_order_is_pythons_within_a_type(self, held: Any, bound: Any) -> None:
        same = isinstance(held, str) == isinstance(bound, str)
        assert passes({"a": {"$lt": bound}}, {"a": held}) is (same and held < bound)
        assert passes({"a": {"$gte": bound}}, {"a": held}) is (same and held >= bound)

    @given(VALUES)
    def test_a_value_equals_itself(self, value: Any) -> None:
        assert passes({"a": {"$eq": value}}, {"a": value})


def test_an_operator_without_its_sign_is_no_equality() -> None:
    with pytest.raises(FilterError, match=r'filter.price: .gt. is written without.*"\$gt"'):
        parse({"price": {"gt": 200}})
    assert matches(parse({"price": {"$eq": {"gt": 200}}}), {"price": {"gt": 200}})
