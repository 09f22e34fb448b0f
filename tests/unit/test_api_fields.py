from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from carp_operator.api.fields import (
    Array,
    Choice,
    Duration,
    Field,
    Flag,
    Integer,
    Map,
    Object,
    Rule,
    Text,
    quoted,
)

if TYPE_CHECKING:
    from carp.core.errors import ConfigError

EVEN = Rule("self % 2 == 0", lambda v: v % 2 == 0, "is odd", shown=True)
TABLE = Object(
    description="A table.",
    fields={
        "size": Integer(description="How many.", low=1, high=9, default=2, rules=(EVEN,)),
        "mode": Choice(of=("On", "Off")),
        "wait": Duration(low="1s", high="2m"),
        "inner": Object(fields={"flag": Flag(default=False)}, default={}),
        "names": Array(items=Text(most=3, pattern=("[a-z]+", "has no small letters")), most=2, unique=True),
        "labels": Map(values=Text(most=3), most=1),
    },
    required=("mode",),
    rules=(Rule("self.size > 2", lambda v: v["size"] > 2, "size is small", at=".size"),),
)
GOOD: dict[str, Any] = {"size": 4, "mode": "On"}


def read(table: Field, value: Any) -> tuple[Any, list[str]]:
    """Return what a table makes of a value, and what it says."""
    errors: list[ConfigError] = []
    return table.read(value, "spec", errors), [str(error) for error in errors]


def test_defaults_are_filled_in_at_every_level() -> None:
    """As the API server does, also inside a mapping that has a default itself."""
    assert ({**GOOD, "inner": {"flag": False}}, []) == read(TABLE, GOOD)
    assert {"flag": False} == read(TABLE.fields["inner"], {})[0]


def test_reading_does_not_change_what_was_given() -> None:
    """The caller's object stays as the server sent it."""
    given = {"mode": "On", "size": 4, "inner": {}}
    read(TABLE, given)
    assert {"mode": "On", "size": 4, "inner": {}} == given


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 3}, "spec.size: 3 is odd"),
        ({"size": 2}, "spec.size: size is small"),
        ({"size": 10}, "spec.size: 10 is not between 1 and 9"),
        ({"size": True}, "spec.size: True is not a whole number"),
        ({"size": 4.0}, "spec.size: 4.0 is not a whole number"),
        ({"mode": None}, "spec.mode: is null: give a value or leave it out"),
        ({"mode": "Up"}, "spec.mode: 'Up' is not one of On, Off"),
        ({"mode": False}, 'spec.mode: False is what YAML makes of a bare Off: write "Off" in quotes'),
        ({"mode": []}, "spec.mode: a list is not one of On, Off"),
        ({"wait": "3m"}, "spec.wait: '3m' is not between 1s and 2m"),
        ({"wait": "soon"}, "spec.wait: 'soon' is not a duration: write 3s, 500ms or 1m30s"),
        ({"wait": "٣s"}, "spec.wait: '٣s' is not a duration: write 3s, 500ms or 1m30s"),
        ({"wait": "1s" * 11}, f"spec.wait: {'1s' * 11!r} is longer than 20 characters"),
        ({"inner": {"flag": "yes"}}, "spec.inner.flag: 'yes' is neither true nor false"),
        ({"inner": []}, "spec.inner: a list is not a mapping of fields"),
        ({"names": "a"}, "spec.names: 'a' is not a list"),
        ({"names": ["a", 1]}, "spec.names[1]: 1 is not a text: put it into quotes"),
        ({"names": ["a", "B"]}, "spec.names[1]: 'B' has no small letters"),
        ({"names": ["a", "a"]}, "spec.names[1]: 'a' stands in the list twice"),
        ({"names": ["a", "b", "c"]}, "spec.names: has 3 entries, not 0 to 2"),
        ({"labels": {"a": "1", "b": "2"}}, "spec.labels: has more than 1 entries"),
        ({"labels": {"a": "long"}}, "spec.labels.a: 'long' is longer than 3 characters"),
        ({"labels": "a"}, "spec.labels: 'a' is not a mapping"),
    ],
)
def test_each_mistake_is_one_line_with_field_and_value(change: dict[str, Any], message: str) -> None:
    """The path is that of the manifest, the words are those of the API server where it says our rule."""
    assert [message] == read(TABLE, {**GOOD, **change})[1]


def test_a_required_field_without_default_is_missed() -> None:
    """And nothing else is said about it."""
    assert ["spec.mode: is required"] == read(TABLE, {"size": 4})[1]


def test_null_counts_as_left_out_where_there_is_a_default() -> None:
    """The API server prunes such a null before it fills in defaults."""
    assert (2, False) == (
        read(TABLE, {**GOOD, "size": None})[0]["size"],
        read(TABLE, {**GOOD, "inner": None})[0]["inner"]["flag"],
    )


def test_rules_wait_until_everything_inside_is_right() -> None:
    """A rule over several fields never sees a wrong one, so it cannot fail itself."""
    assert ["spec.size: 'x' is not a whole number"] == read(TABLE, {**GOOD, "size": "x"})[1]


def test_unknown_fields_are_named_with_a_hint() -> None:
    """At every level, lists included; leaves have no fields."""
    table = Array(items=TABLE, most=3)
    found = table.unknown([GOOD, {"sise": 1, "inner": {"flg": 1}, "size": {"a": 1}}, 5], "list")
    assert [
        "list[1].sise: is not a known field; did you mean size?",
        "list[1].inner.flg: is not a known field; did you mean flag?",
    ] == [str(error) for error in found]
    assert [] == list(table.unknown("text", "list"))


def test_the_schema_holds_limits_defaults_and_rules() -> None:
    """What the reader checks, the server is told."""
    size = TABLE.schema()["properties"]["size"]
    rule = {
        "rule": "self % 2 == 0",
        "message": "is odd",
        "reason": "FieldValueInvalid",
        "messageExpression": '"\'" + self + "\' is odd"',
    }
    assert size == {
        "description": "How many.",
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "default": 2,
        "x-kubernetes-validations": [rule],
    }
    assert ".size" == TABLE.schema()["x-kubernetes-validations"][0]["fieldPath"]
    assert "set" == TABLE.schema()["properties"]["names"]["x-kubernetes-list-type"]


def test_a_plain_schema_adds_and_refuses_nothing_beyond_types() -> None:
    """For objects that only programs write."""
    text = str(TABLE.schema(plain=True))
    assert not [word for word in ("default", "x-kubernetes-validations", "set", "map") if f"'{word}'" in text]


def test_a_rule_without_cel_stays_out_of_the_schema() -> None:
    """Such a rule is ours alone: the server could not say it."""
    field = Text(most=9, rules=(Rule("", lambda v: v != "x", "is x"),))
    assert "x-kubernetes-validations" not in field.schema()
    assert ["spec: is x"] == read(field, "x")[1]


def test_texts_are_quoted_for_cel() -> None:
    """Quotes and backslashes of a pattern survive."""
    assert r"'a\\b\'c'" == quoted(r"a\b'c")
