import json
from dataclasses import dataclass, field

import pytest

from kneeedge.system.strict_json import from_json, to_json


@dataclass(frozen=True)
class Inner:
    n: int


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner
    many: tuple[Inner, ...]
    share: float
    maybe: int | None = None
    table: dict[str, float] = field(default_factory=dict)


OUTER = Outer("ü", Inner(1), (Inner(2), Inner(3)), 0.5, None, {"a": 1.0})


def test_a_record_survives_the_round_trip():
    assert from_json(Outer, to_json(OUTER)) == OUTER


def test_a_whole_number_is_taken_for_a_float():
    assert from_json(Outer, '{"name": "", "inner": {"n": 1}, "many": [], "share": 1}').share == 1.0


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"inner": {"n": 1}, "many": [], "share": 1}', "lacks the field 'name'"),
        ('{"name": "", "inner": {"n": 1}, "many": [], "share": 1, "x": 1}', "unknown field 'x'"),
        ('{"name": "", "inner": {"n": "1"}, "many": [], "share": 1}', "Outer.inner.n must be int"),
        ('{"name": "", "inner": {"n": true}, "many": [], "share": 1}', "Outer.inner.n must be int"),
        ('{"name": "", "inner": {"n": 1}, "many": {}, "share": 1}', "Outer.many must be a list"),
        ('{"name": "", "inner": 3, "many": [], "share": 1}', "Outer.inner must be an object"),
        ('{"name": null, "inner": {"n": 1}, "many": [], "share": 1}', "Outer.name must be str"),
        ("[]", "Outer must be an object"),
        ("{", "Expecting"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_field(text, complaint):
    with pytest.raises(ValueError, match=complaint):
        from_json(Outer, text)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_not_read_as_one(word):
    with pytest.raises(ValueError, match=f"{word} is no number"):
        from_json(Outer, to_json(Outer("", Inner(1), (), 0.5)).replace("0.5", word))


def test_nan_is_no_json():
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(Outer("", Inner(1), (), float("nan")))


def test_dump_reaches_records_within_lists_and_dicts():
    assert json.loads(to_json({"a": [Inner(7)]})) == {"a": [{"n": 7}]}
