"""Certified limits from labelled answers: what they keep, and what is refused in one clear line."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from kneeedge.errors import ConfigError, PromiseError
from kneeedge.model.certify import (
    LabelledAnswers,
    Promise,
    certified_line,
    certified_text,
    certify,
    parse_promise,
)
from kneeedge.model.spec import Certified, ModelSpec
from tests.certified_models import limits
from tests.tiny_onnx import tiny_spec

PROMISE = Promise(ppv=0.95, npv=0.95)
SPEC = tiny_spec()


def answers(
    positives: NDArray[np.float64], labels: NDArray[np.intp], groups: list[str] | None = None
) -> LabelledAnswers:
    """Answers with these probabilities (N,) of the second class, each of another patient."""
    return LabelledAnswers(
        probabilities=np.column_stack([1 - positives, positives]),
        labels=labels,
        groups=groups or [str(i) for i in range(len(labels))],
        split="here",
    )


def separated(n: int) -> LabelledAnswers:
    """Answers that are all right, half of each class."""
    positives = np.linspace(0.01, 0.99, n)
    return answers(positives, (positives >= 0.5).astype(np.intp))


def limits_of(spec: ModelSpec) -> Certified:
    assert spec.certified is not None
    return spec.certified


def test_answers_that_are_all_right_leave_nobody_to_a_person() -> None:
    found = limits_of(certify(SPEC, separated(400), PROMISE))
    assert found.low == found.high == SPEC.threshold
    assert (found.n, found.n_units, found.n_answered) == (400, 400, 400)
    assert min(found.ppv_bound, found.npv_bound) >= 0.95


def test_answers_in_doubt_are_left_to_a_person_and_the_others_are_those_of_the_threshold() -> None:
    rng = np.random.default_rng(5)
    positives = np.sort(rng.random(600))
    labels = (rng.random(600) < 1 / (1 + np.exp(-20 * (positives - 0.5)))).astype(np.intp)
    given = answers(positives, labels)
    spec = certify(SPEC, given, PROMISE)
    found = limits_of(spec)
    assert found.low < SPEC.threshold < found.high
    referred = spec.refers(given.probabilities)
    assert found.n_answered == (~referred).sum() < 600
    called = spec.decide(given.probabilities)[~referred]
    assert (called == (positives[~referred] >= found.high)).all()
    for k in (0, 1):
        assert (labels[~referred] == called)[called == k].mean() >= 0.95


def test_a_probability_at_a_limit_is_answered_from_the_upper_and_not_at_the_lower() -> None:
    spec = replace(SPEC, certified=limits(0.25, 0.75))
    positives = np.array([0.2, np.nextafter(0.25, 0), 0.25, 0.5, np.nextafter(0.75, 0), 0.75, 0.8])
    referred = spec.refers(np.column_stack([1 - positives, positives]))
    assert referred.tolist() == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_both_promises_are_kept_in_all_but_so_many_draws(confidence: float) -> None:
    """Of probabilities that are surer than they may be."""
    levels = np.linspace(0.005, 0.995, 200)
    odds = np.log(levels / (1 - levels))
    shares = np.abs(odds) + 0.2
    shares /= shares.sum()
    truth = 1 / (1 + np.exp(-odds / 1.1))
    promise = Promise(ppv=0.9, npv=0.9, confidence=confidence)
    rng = np.random.default_rng(2)
    n_broken = 0
    n_found = 0
    for _ in range(1000):
        drawn = rng.choice(200, 600, p=shares)
        labels = (rng.random(600) < truth[drawn]).astype(np.intp)
        try:
            found = limits_of(certify(SPEC, answers(levels[drawn], labels), promise))
        except PromiseError:
            continue
        above = levels >= found.high
        below = levels < found.low
        ppv = (shares * truth)[above].sum() / shares[above].sum()
        npv = (shares * (1 - truth))[below].sum() / shares[below].sum()
        n_found += 1
        n_broken += ppv < 0.9 or npv < 0.9
    assert n_found > 100
    assert n_broken <= (1 - confidence) * 1000


def test_too_few_images_promise_nothing_and_the_line_says_how_many_it_takes() -> None:
    with pytest.raises(
        PromiseError, match=r"PPV 0\.95 .* needs 72 images .* and here has 70; give"
    ):
        certify(SPEC, separated(140), PROMISE)
    assert limits_of(certify(SPEC, separated(144), PROMISE)).n_answered == 144


def test_patients_are_counted_and_not_their_images() -> None:
    given = separated(400)
    pairs = [str(i // 4) for i in range(400)]
    with pytest.raises(PromiseError, match="each of another patient, and here has 50"):
        certify(SPEC, replace(given, groups=pairs), PROMISE)


def test_answers_that_are_guessed_are_not_certified() -> None:
    rng = np.random.default_rng(0)
    given = answers(rng.random(800), rng.integers(0, 2, 800))
    with pytest.raises(PromiseError, match=r"PPV 0\.95 .* is not shown by these images: of \d+ "):
        certify(SPEC, given, PROMISE)


def test_a_given_prevalence_is_that_of_the_promise() -> None:
    found = limits_of(certify(SPEC, separated(2000), PROMISE, prevalence=0.3))
    assert found.prevalence == 0.3
    assert found.low <= 0.5 <= found.high
    assert "sensitivity and specificity" in found.method
    with pytest.raises(
        PromiseError, match=r"PPV 0\.95 .* images of the other class.* here has 100"
    ):
        certify(SPEC, separated(200), PROMISE, prevalence=0.02)


def test_where_the_class_is_rare_fewer_positive_answers_are_given() -> None:
    rng = np.random.default_rng(8)
    positives = np.sort(rng.random(6000))
    labels = (rng.random(6000) < 1 / (1 + np.exp(-16 * (positives - 0.5)))).astype(np.intp)
    highs = [
        limits_of(certify(SPEC, answers(positives, labels), PROMISE, prevalence)).high
        for prevalence in (0.5, 0.3, 0.2)
    ]
    assert highs == sorted(highs)
    assert highs[0] < highs[-1]


def test_more_than_two_classes_are_refused() -> None:
    spec = tiny_spec(classes=("a", "b", "c"))
    with pytest.raises(ConfigError, match="part two classes, and these are 3"):
        certify(spec, separated(400), PROMISE)


@pytest.mark.parametrize(
    "text", ["ppv=0.97", "ppv=0.97,npv=x", "ppv=0.97,npv=1", "ppv=0,npv=0.9", "a=1,b=2", "",
             "ppv=0.9,ppv=0.9", "ppv=0.9,npv=nan"]
)  # fmt: skip
def test_what_is_no_promise_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="; give "):
        parse_promise(text)


def test_a_promise_may_name_its_confidence() -> None:
    assert parse_promise("npv=0.9, ppv=0.8") == Promise(ppv=0.8, npv=0.9, confidence=0.95)
    assert parse_promise("ppv=0.8,npv=0.9,confidence=0.99").confidence == 0.99


def test_a_spec_without_limits_is_written_as_it_was_before_there_were_any() -> None:
    assert "certified" not in SPEC.to_json()
    spec = replace(SPEC, certified=limits(0.2, 0.8))
    assert ModelSpec.from_json(spec.to_json(), "here") == spec


def test_limits_that_contradict_the_threshold_or_the_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="not between the limits"):
        replace(SPEC, certified=limits(0.6, 0.8))
    with pytest.raises(ValueError, match="must rise"):
        limits(0.8, 0.2)
    with pytest.raises(ValueError, match="for two classes, not 3"):
        replace(tiny_spec(classes=("a", "b", "c")), certified=limits(0.2, 0.8))


def test_a_card_says_what_is_promised_and_by_how_many_images() -> None:
    line = certified_line(limits(0.2, 0.8))
    assert certified_text(limits(0.2, 0.8)) in line
    assert "chosen on val too" in line
    assert "chosen on val too" not in certified_line(replace(limits(0.2, 0.8), split="clinic"))
