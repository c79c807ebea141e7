"""Rows of two devices side by side: what differs, at which step, and the gate's verdict on it."""

import dataclasses

import pytest

from kneeedge.errors import DataError
from kneeedge.inference.answer_rows import AnswerRow, Device, DeviceAnswers
from kneeedge.inference.pairing import pair
from kneeedge.model.verdict import FAIL, INCONCLUSIVE, PASS
from tests.tiny_onnx import CLASSES

HEALTHY, ILL = CLASSES
DEVICE = Device(
    model="m.int8.onnx",
    model_sha256="f" * 64,
    network="a" * 64,
    precision="int8",
    positive=ILL,
    pixel_path="{}",
    provider="cpu",
    cpu="CPU",
    isa=("avx2",),
    kneeedge="0.1.0",
    onnxruntime="1.20",
    pillow="12.0",
)


def row(i: int, answer: str = ILL, logit: float = 1.0, **changes: object) -> AnswerRow:
    probability = 0.9 if answer == ILL else 0.2
    plain = AnswerRow(
        path=f"{i:04}.png",
        sha256=f"{i:064x}",
        input_sha256=f"{i:064x}",
        status="ok",
        prediction=answer,
        probabilities=(1 - probability, probability),
        logits=(0.0, logit),
        distance=5.0,
        error="",
    )
    return dataclasses.replace(plain, **changes)


def unread(i: int) -> AnswerRow:
    return row(
        i,
        status="error",
        prediction=None,
        input_sha256="",
        probabilities=(),
        logits=(),
        distance=None,
        error="it is truncated",
    )


def answers(*rows: AnswerRow, n: int = 0, **device: object) -> DeviceAnswers:
    """The rows, and behind them as many as make `n`, which are alike everywhere."""
    rest = tuple(row(i) for i in range(len(rows), n))
    changed = dataclasses.replace(DEVICE, **device)
    return DeviceAnswers(device=changed, classes=CLASSES, rows=(*rows, *rest))


def labels(n: int) -> dict[str, str]:
    return {f"{i:04}.png": ILL for i in range(n)}


def test_flips_are_named_with_both_answers_and_the_step_at_which_they_differ() -> None:
    other_pixels = row(1, HEALTHY, input_sha256="b")
    here = answers(row(0, HEALTHY, 0.25), other_pixels, unread(2), row(3, status="abstain"), n=5)
    pairing = pair(here, answers(n=5), labels(5))
    steps = {flip.path: (flip.there, flip.here, flip.step) for flip in pairing.flips}
    assert steps == {
        "0000.png": (ILL, HEALTHY, "network"),
        "0001.png": (ILL, HEALTHY, "network input"),
        "0002.png": (ILL, None, "reading"),
        "0003.png": (ILL, ILL, "network"),
    }
    first, _, lost, refused = pairing.flips
    assert (first.truth, first.there_probability, first.here_probability) == (ILL, 0.9, 0.2)
    assert (lost.error, lost.here_status, lost.logit_change) == ("it is truncated", "error", None)
    assert (refused.there_status, refused.here_status) == ("ok", "abstain")
    assert pairing.other_input == ("0001.png",)
    assert pairing.changes is not None
    assert pairing.network_changes is not None
    assert (pairing.changes.n, pairing.network_changes.n) == (4, 3)
    assert pairing.changes.max_logit == 0.75
    assert pairing.changes.mean_logit == pytest.approx(0.75 / 8)
    assert pairing.changes.max_probability == pytest.approx(0.7)
    assert pairing.answers is not None
    assert (pairing.answers.changed, pairing.answers.n) == (3, 5)


@pytest.mark.parametrize(
    ("n_changed", "n", "verdict"),
    [
        (0, 267, INCONCLUSIVE),
        (0, 268, PASS),
        (1, 400, INCONCLUSIVE),
        (1, 1000, PASS),
        (9, 400, FAIL),
    ],
)
def test_without_labels_the_share_of_changed_answers_decides(
    n_changed: int, n: int, verdict: str
) -> None:
    # Without a change Wilson's upper bound is z² / (n + z²): 1 % at n = 99 · 1.6449² = 267.9.
    here = answers(*(row(i, HEALTHY) for i in range(n_changed)), n=n)
    pairing = pair(here, answers(n=n))
    assert pairing.verdict == verdict, pairing.reason
    assert pairing.accuracy is None
    if (n_changed, n) == (0, 267):
        assert pairing.images_to_settle == 268


def test_with_labels_the_accuracy_lost_decides_as_in_the_gate_of_export() -> None:
    """Wrong there and right here is no loss, though it is a changed answer."""
    here = answers(n=400)
    there = answers(*(row(i, HEALTHY) for i in range(9)), n=400)
    assert pair(here, there).verdict == FAIL
    pairing = pair(here, there, labels(400))
    assert pairing.verdict == PASS
    assert pairing.accuracy is not None
    assert (pairing.accuracy.gained, pairing.accuracy.lost) == (9, 0)
    assert pair(there, here, labels(400)).verdict == FAIL


def test_images_that_are_unread_here_alone_are_lost_with_and_without_labels() -> None:
    here = answers(*(unread(i) for i in range(9)), n=400)
    assert pair(here, answers(n=400)).verdict == FAIL
    assert pair(here, answers(n=400), labels(400)).verdict == FAIL


def test_where_no_image_was_read_nothing_is_proved() -> None:
    pairing = pair(answers(unread(0)), answers(unread(0)), labels(1))
    assert (pairing.verdict, pairing.n, pairing.n_read) == (INCONCLUSIVE, 1, 0)


def test_refusals_decide_between_devices_and_not_between_two_files() -> None:
    """Each file has a limit of its own, near which two part; they are told of and no more."""
    here = answers(*(row(i, status="abstain") for i in range(9)), n=400)
    for truth in (None, labels(400)):
        assert pair(here, answers(n=400), truth).verdict == FAIL
        other_file = pair(here, answers(n=400, model_sha256="e" * 64, precision="fp32"), truth)
        assert other_file.verdict == PASS
        assert other_file.refusals is not None
        assert (other_file.refusals.changed, len(other_file.flips)) == (9, 9)


def test_a_logit_that_the_network_moved_too_far_fails_without_a_flip() -> None:
    there = answers(n=400, precision="fp32")
    moved = pair(answers(row(0, logit=1.05), n=400, precision="fp32"), there)
    assert moved.verdict == FAIL
    assert "fp32 may move it by 0.01" in moved.reason
    decoded_otherwise = answers(row(0, logit=1.05, input_sha256="b"), n=400, precision="fp32")
    assert pair(decoded_otherwise, there).verdict == PASS
    coarse = answers(row(0, logit=1.05), n=400, precision="int8", model_sha256="e" * 64)
    assert pair(coarse, there).verdict == PASS, "which int8 moves further"
    other_network = answers(row(0, logit=1.05), n=400, precision="fp32", network="b" * 64)
    assert pair(other_network, there).verdict == PASS


def test_few_images_pass_where_fp32_moved_by_rounding_alone() -> None:
    there = answers(n=3, precision="fp32")
    assert pair(answers(row(0, logit=1.0005), n=3, precision="fp32"), there).verdict == PASS
    other_input = answers(row(0, input_sha256="b"), n=3, precision="fp32")
    assert pair(other_input, there).verdict == INCONCLUSIVE


def test_another_pixel_path_is_no_fault_of_the_decoder() -> None:
    here = answers(*(row(i, input_sha256="b") for i in range(3)), pixel_path='{"size": 96}')
    pairing = pair(here, answers(n=3))
    assert not pairing.same_pixel_path
    assert pairing.other_input == ()


def test_images_of_one_side_alone_are_named_and_the_others_paired() -> None:
    pairing = pair(answers(n=4), answers(row(1), row(7)))
    assert (pairing.n, pairing.only_here) == (1, ("0000.png", "0002.png", "0003.png"))
    assert pairing.only_there == ("0007.png",)


def test_other_bytes_are_another_picture_and_end_in_what_to_do() -> None:
    with pytest.raises(DataError, match=r"^0001\.png: .*1 of 3 .* copy the folder again"):
        pair(answers(row(0), row(1, sha256="b" * 64), n=3), answers(n=3))


def test_rows_without_a_common_path_or_of_other_classes_are_refused() -> None:
    with pytest.raises(DataError, match=r"give the same folder as --data; its first is 0005\.png"):
        pair(answers(row(0)), answers(row(5)))
    other = dataclasses.replace(answers(), classes=(HEALTHY, "Osteopenia"))
    with pytest.raises(DataError, match="a file of the same classes"):
        pair(answers(row(0)), other)


def test_patients_and_copies_count_once_in_the_verdict() -> None:
    """400 images settle it where each is of a patient of its own, and not where they are pairs."""
    here = answers(n=400)
    there = answers(n=400)
    patients = {row.path: f"P{i // 2}" for i, row in enumerate(here.rows)}
    assert pair(here, there).verdict == PASS
    assert pair(here, there, labels(400)).verdict == PASS
    of_patients = pair(here, there, None, patients)
    assert (of_patients.verdict, of_patients.answers.n_groups) == (INCONCLUSIVE, 200)
    assert of_patients.images_to_settle == 2 * 268
    with_labels = pair(here, there, labels(400), patients)
    assert (with_labels.verdict, with_labels.accuracy.n_groups) == (INCONCLUSIVE, 200)
    copies = answers(*(row(i, sha256=f"{i // 2:064x}") for i in range(400)))
    assert pair(copies, copies).answers.n_groups == 200
