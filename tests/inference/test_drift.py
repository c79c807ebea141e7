"""What has moved is noticed soon and named; what has not is not; no image counts twice."""

from dataclasses import replace

import pytest

from kneeedge.inference.drift import (
    BASELINE,
    CALM,
    MODEL,
    MOST_BASELINE,
    RUN_LENGTH,
    SITE,
    WITHDRAWN,
    Monitor,
)
from kneeedge.inference.drift_figures import DEVICE, FIGURES, LESS, MORE, PROBABILITY
from kneeedge.inference.drift_history import Alarm, DriftHistory
from kneeedge.inference.drift_words import ANSWERS, DEVICES, PICTURES, PREVALENCE
from kneeedge.model.reference import Sample
from kneeedge.system.strict_json import from_json, to_json
from tests.inference.drift_images import images, of_device

REFERENCE = Sample.of(each.figures for each in images(300, seed=1))


def monitor(reference: Sample | None = None) -> Monitor:
    return Monitor(DriftHistory(model_sha256="m"), reference, positive_index=1)


@pytest.fixture
def site() -> Monitor:
    """A site with its baseline and two quiet nights."""
    begun = monitor()
    begun.count(images(BASELINE + 200, seed=2))
    return begun


def first_alarm(watching: Monitor, **change: float) -> Alarm:
    """The first alarm of images that have changed; `n` is how many it took."""
    start = watching.n
    for each in images(200, seed=3, **change):
        _, alarms = watching.count([each])
        if alarms:
            return replace(alarms[0], n=watching.n - start)
    raise AssertionError("200 images, and no alarm")


def test_the_weights_share_the_false_alarms_among_all_figures() -> None:
    assert sum(figure.weight for figure in FIGURES) == pytest.approx(1.0)


def test_a_quiet_site_is_quiet(site: Monitor) -> None:
    _, alarms = site.count(images(1000, seed=4))
    assert alarms == []
    assert site.moved == []


@pytest.mark.parametrize(
    ("figure", "shift", "direction"),
    [
        ("sharpness", -4.0, LESS),
        ("brightness", -1.2, LESS),
        ("brightness", 1.2, MORE),
        ("contrast", 1.5, MORE),
        ("distance", 5.0, MORE),
    ],
)
def test_pictures_that_change_are_noticed_within_50_images(
    site: Monitor, figure: str, shift: float, direction: str
) -> None:
    alarm = first_alarm(site, **{figure: shift})
    assert (alarm.figure, alarm.direction, alarm.kind) == (figure, direction, PICTURES)
    assert alarm.n <= 50
    assert alarm.against == SITE


def test_the_first_night_is_compared_with_the_validation_images() -> None:
    alarm = first_alarm(monitor(REFERENCE), sharpness=-4.0)
    assert alarm.against == MODEL
    assert alarm.n <= 20
    words = "pictures are less sharp than the model's validation images: median sharpness 0.1"
    assert alarm.text.startswith(words)


def test_a_prevalence_that_doubles_is_called_that(site: Monitor) -> None:
    alarm = first_alarm(site, positive=0.85)
    assert (alarm.figure, alarm.direction, alarm.kind) == (PROBABILITY, MORE, PREVALENCE)
    assert "share of patients with it may have changed" in alarm.text


def test_answers_that_move_with_the_pictures_are_not_called_prevalence(site: Monitor) -> None:
    _, alarms = site.count(images(60, seed=3, positive=0.95, contrast=0.9, brightness=-0.9))
    kinds = {alarm.kind for alarm in alarms if alarm.figure == PROBABILITY}
    assert kinds == {ANSWERS}


def test_pictures_of_a_class_that_comes_more_often_have_not_changed() -> None:
    """Sharpness differs by class; among images with one answer it is what it was."""
    begun = monitor()
    healthy = images(600, seed=5, positive=0.0)
    diseased = images(600, seed=6, positive=1.0, sharpness=3.0)
    begun.count([each for pair in zip(healthy[:300], diseased[:300], strict=True) for each in pair])
    _, alarms = begun.count(diseased[300:])
    assert {alarm.figure for alarm in alarms} == {PROBABILITY}


def test_a_device_never_seen_before_is_named() -> None:
    begun = monitor()
    begun.count(of_device(images(BASELINE + 100, seed=2), "ACME DX1"))
    _, alarms = begun.count(of_device(images(40, seed=3), "ACME DX2"))
    assert [(alarm.figure, alarm.kind) for alarm in alarms] == [(DEVICE, DEVICES)]
    assert alarms[0].devices == ("ACME DX2",)
    assert "other devices than this site's baseline: ACME DX2" in alarms[0].text


def test_refusals_that_become_frequent_are_noticed(site: Monitor) -> None:
    refused = [
        replace(each, figures=replace(each.figures, refused=float(i % 2)))
        for i, each in enumerate(images(40, seed=3))
    ]
    _, alarms = site.count(refused)
    assert [alarm.figure for alarm in alarms] == ["refused"]


def test_no_image_counts_twice(site: Monitor) -> None:
    again = site.history()
    n_new, _ = site.count(images(BASELINE + 200, seed=2))
    assert n_new == 0
    assert site.history() == again


def test_a_history_goes_on_where_it_stopped() -> None:
    whole = monitor(REFERENCE)
    parts = monitor(REFERENCE)
    night = images(BASELINE + 150, seed=2) + images(100, seed=3, tone=2.0)
    whole.count(night)
    for i in range(0, len(night), 37):
        parts.count(night[i : i + 37])
        written = to_json(parts.history())
        parts = Monitor(from_json(DriftHistory, written), REFERENCE, 1)
    assert [alarm.n for alarm in parts.alarms] == [alarm.n for alarm in whole.alarms]
    assert parts.history().figures == whole.history().figures


def test_images_before_an_alarm_leave_the_baseline(site: Monitor) -> None:
    before = len(site.baseline)
    alarm = first_alarm(site, sharpness=-4.0)
    assert len(site.baseline) == before + alarm.n - 1 - WITHDRAWN


def test_a_figure_that_moved_tells_so_once_until_it_has_come_back(site: Monitor) -> None:
    site.count(images(150, seed=3, sharpness=-4.0))
    assert len(site.alarms) == 1
    site.count(images(CALM + 1, seed=7))
    assert site.moved == []
    site.count(images(50, seed=8, sharpness=-4.0))
    assert len(site.alarms) == 2


def test_a_baseline_ends_growing() -> None:
    begun = monitor()
    begun.count(images(MOST_BASELINE + 50, seed=2))
    assert len(begun.baseline) == MOST_BASELINE


def test_a_detector_waits_for_more_than_the_rate_of_false_alarms_asks_for(site: Monitor) -> None:
    assert all(d.limit >= RUN_LENGTH / d.figure.weight for d in site.detectors)
