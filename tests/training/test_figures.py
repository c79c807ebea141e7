"""What the figures of a run show and say: cut losses, what chose the epoch, intervals."""

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.torch]
pytest.importorskip("torch")

from matplotlib.figure import Figure
from PIL import Image

from kneeedge.inference.metrics import evaluate
from kneeedge.report.scorecard import cell_interval, span_text
from kneeedge.statistics.curves import loss_top
from kneeedge.system.own import is_own_picture
from kneeedge.training import figures
from kneeedge.training.loop import Epoch
from tests.tiny_onnx import CLASSES, tiny_spec


def history(first_loss: float, n: int = 6) -> list[Epoch]:
    return [
        Epoch(
            epoch=epoch,
            loss=first_loss if epoch == 1 else 0.7 / epoch,
            accuracy=0.5 + 0.05 * epoch,
            val_loss=0.8 / epoch,
            val_accuracy=0.6 + 0.04 * epoch,
            val_auroc=0.8 + 0.02 * epoch,
            lr=1e-4,
            seconds=1.0,
        )
        for epoch in range(1, n + 1)
    ]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Every figure that is drawn, in place of its file."""
    kept: list[Figure] = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, *_, **__: kept.append(figure))
    return kept


def words(figure: Figure) -> str:
    from matplotlib.text import Text

    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_a_first_loss_of_twelve_is_cut_off_and_said(drawn: list[Figure]) -> None:
    figures.draw_curves(history(12.0), 6, Path("curves.png"))
    loss = drawn[0].axes[0]
    assert loss.get_ylim()[1] < 1.0
    assert "epoch 1: training 12" in words(drawn[0])


def test_losses_that_fall_gently_are_all_shown(drawn: list[Figure]) -> None:
    figures.draw_curves(history(0.75), 6, Path("curves.png"))
    assert drawn[0].axes[0].get_ylim()[1] > 0.8
    assert "cut off" not in words(drawn[0])


@pytest.mark.parametrize("n", [1, 2, 40])
def test_the_top_of_the_loss_axis_is_found_for_any_number_of_epochs(n: int) -> None:
    losses = [(12.0 if i == 0 else 0.5, 0.4) for i in range(n)]
    top = loss_top(losses)
    assert top is None if n == 1 else top == pytest.approx(0.55)


def test_the_auroc_is_drawn_where_it_chose_the_epoch_and_nowhere_else(
    drawn: list[Figure],
) -> None:
    figures.draw_curves(history(0.75), 6, Path("curves.png"))
    figures.draw_curves(history(0.75), 6, Path("curves.png"), chosen_by_auroc=False)
    assert "Validation AUROC: chose epoch 6, 0.9200" in words(drawn[0])
    assert "AUROC" not in words(drawn[1])


def test_confusion_and_roc_carry_their_intervals(drawn: list[Figure]) -> None:
    rng = np.random.default_rng(0)
    labels = np.array([0] * 30 + [1] * 20)
    scores = np.clip(0.25 + 0.5 * labels + rng.normal(0, 0.2, 50), 0.01, 0.99)
    probabilities = np.stack([1 - scores, scores], axis=1)
    evaluation = evaluate(labels, probabilities, tiny_spec())
    figures.draw_confusion(evaluation, "test", Path("confusion.png"))
    figures.draw_roc(labels, probabilities, evaluation, Path("roc.png"))
    of_confusion = words(drawn[0])
    sensitivity = evaluation.sensitivity
    assert sensitivity is not None
    assert span_text(sensitivity.interval) in of_confusion
    rest = cell_interval(evaluation, 1, 0)
    assert rest is not None
    assert rest.low == pytest.approx(1 - sensitivity.interval.high)
    assert span_text(evaluation.accuracy.interval) in of_confusion
    of_roc = words(drawn[1])
    assert evaluation.auroc is not None
    assert f"[{evaluation.auroc.interval.low:.3f}, " in of_roc
    assert f"threshold {evaluation.threshold:.3g}: sensitivity" in of_roc


def test_a_figure_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        figures.draw_curves(history(12.0), 6, tmp_path / name)
    first = (tmp_path / "a.png").read_bytes()
    assert first == (tmp_path / "b.png").read_bytes()
    assert is_own_picture(first)
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > image.height


def test_classes_stand_as_they_are_named(drawn: list[Figure]) -> None:
    evaluation = evaluate(np.array([0, 1]), np.eye(2), tiny_spec())
    figures.draw_confusion(evaluation, "val", Path("confusion.png"))
    assert all(name in words(drawn[0]) for name in CLASSES)
