"""What stands beside a speed: figures, flips and verdict."""

import dataclasses
from pathlib import Path

import numpy as np

from kneeedge.bench.accuracy import Truth, make_accuracy, truth_of
from kneeedge.data.dataset import Sample
from kneeedge.model.provenance import Slimmed
from kneeedge.runs.answers import Answers
from tests.tiny_onnx import tiny_spec


def truth_with(*labels: int) -> Truth:
    """What images of these labels show, each of a patient of its own."""
    samples = []
    for i, label in enumerate(labels):
        name = f"{i}.png"
        sample = Sample(
            path=Path(name), name=name, sha256="test", split="", label=label, group=name
        )
        samples.append(sample)
    return truth_of(samples, "test")


def test_a_model_is_paired_with_the_reference_image_by_image() -> None:
    truth = truth_with(0, 0, 1, 1)
    right = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    wrong = right.copy()
    wrong[1] = wrong[1][::-1]
    answers = Answers("fp16", tiny_spec(), wrong)
    reference = Answers("fp32", tiny_spec(), right)
    paired = make_accuracy(answers, truth, 0, reference)
    assert (paired.reference, paired.flips, paired.delta_accuracy) == ("fp32", 1, -0.25)
    assert paired.delta_interval.low < -0.25 < paired.delta_interval.high
    assert paired.cost() == "1 of 4 answers flipped, accuracy -0.250"
    assert paired.verdict == "fail"
    assert paired.reason == "a logit moved by 2, and fp16 may move it by 0.5"
    alone = make_accuracy(answers, truth, 0, None)
    assert (alone.flips, alone.delta_accuracy, alone.verdict) == (None, None, None)
    assert alone.interval.low < alone.accuracy < alone.interval.high


def test_another_network_is_compared_but_given_no_verdict() -> None:
    truth = truth_with(*(0, 1) * 4)
    logits = np.array([[1.0, 0.0], [0.0, 1.0]] * 4)
    spec = tiny_spec()
    other = dataclasses.replace(spec, training=dataclasses.replace(spec.training, seed=7))
    reference = Answers("pytorch-fp32", spec, logits)
    stranger = make_accuracy(Answers("int8", other, -logits), truth, 0, reference)
    assert (stranger.flips, stranger.verdict, stranger.reference) == (8, None, "pytorch-fp32")
    assert make_accuracy(Answers("int8", spec, -logits), truth, 0, reference).verdict == "fail"


def test_the_loss_alone_gives_a_slimmed_network_its_verdict_against_its_original() -> None:
    truth = truth_with(*(0, 1) * 200)
    logits = np.array([[1.0, 0.0], [0.0, 1.0]] * 200)
    spec = tiny_spec()
    slimmed = Slimmed(
        original="wide", sha256="a" * 64, channels=((8,),) * 5, temperature=1.0, threshold=0.5
    )
    slim = dataclasses.replace(spec, training=dataclasses.replace(spec.training, slimmed=slimmed))
    original = Answers("pytorch-fp32", spec, logits, "a" * 64)
    stranger = Answers("pytorch-fp32", spec, logits, "b" * 64)
    assert make_accuracy(Answers("fp32", slim, 3 * logits), truth, 0, original).verdict == "pass"
    assert make_accuracy(Answers("fp32", slim, -logits), truth, 0, original).verdict == "fail"
    assert make_accuracy(Answers("fp32", slim, 3 * logits), truth, 0, stranger).verdict is None


def test_images_of_one_patient_tell_less_than_as_many_of_several() -> None:
    lone = truth_with(*(0, 1) * 200)
    pairs = dataclasses.replace(lone, groups=tuple(str(i // 2) for i in range(400)))
    logits = np.array([[1.0, 0.0], [0.0, 1.0]] * 200)
    reference = Answers("pytorch-fp32", tiny_spec(), logits)
    int8 = Answers("int8", tiny_spec(), logits)
    assert make_accuracy(int8, lone, 0, reference).verdict == "pass"
    paired = make_accuracy(int8, pairs, 0, reference)
    assert (paired.verdict, paired.images_to_settle) == ("inconclusive", 2 * 268)
