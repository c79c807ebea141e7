"""`train --certify`: limits found on val, in the run, its card and its exported files."""

import dataclasses

import numpy as np
import pytest

from export.gate import compare_referrals
from export.options import ExportOptions
from export.run import export_run
from kneeedge.cli.train import make_config
from kneeedge.errors import ConfigError, PromiseError
from kneeedge.model.metadata import read_metadata, read_model_spec
from kneeedge.model.spec import CARD_KEY
from kneeedge.report.export import gate_text
from kneeedge.report.training import certified_line
from kneeedge.runs.folder import open_run
from kneeedge.system.progress import Progress
from kneeedge.training.run import train
from kneeedge.training.score import HeldOutSplit, certify_split
from tests.certified_models import limits
from tests.tiny_onnx import tiny_spec

pytestmark = pytest.mark.torch

QUIET = Progress(quiet=True)
EASY = "ppv=0.6,npv=0.6,confidence=0.5"
"three right answers in a row show it"


@pytest.fixture(scope="module")
def certified_run(narrow_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("certified") / "run"
    config = dataclasses.replace(narrow_config, certify=EASY, epochs=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kneeedge.training.score.draw", lambda *_: None)
        train(config, folder, ["kneeedge", "train"], QUIET)
    return folder


def test_the_limits_stand_in_the_run_its_report_and_its_card(certified_run):
    run = open_run(certified_run)
    spec = run.read_spec()
    assert spec.certified is not None
    assert (spec.certified.split, spec.certified.ppv) == ("val", 0.6)
    assert spec.certified.low <= spec.threshold <= spec.certified.high
    assert "NPV 0.6 and PPV 0.6" in run.report.read_text()
    assert certified_line(run).startswith("certified: answers below ")
    assert "- Three answers: " in (certified_run / "MODEL_CARD.md").read_text()


def test_an_exported_file_has_them_and_the_gate_tells_what_changed(certified_run):
    options = ExportOptions(precisions=("fp32",), tolerance=0.9)
    report = export_run(certified_run, options, QUIET)
    (file,) = report.files
    assert file.report.referrals is not None
    assert file.report.referrals.changed == file.report.referrals.crossed == 0
    assert "left to a person by the certified limits" in gate_text(report)
    path = next((certified_run / "models").rglob("*.fp32.onnx"))
    assert read_model_spec(path).certified == open_run(certified_run).read_spec().certified
    assert "- Three answers: " in read_metadata(path)[CARD_KEY]


def test_the_gate_counts_what_only_one_of_two_refers_and_what_both_answer_otherwise():
    spec = dataclasses.replace(tiny_spec(), certified=limits(0.25, 0.75))
    before = np.array([[0, -3.0], [0, 0.1], [0, 3.0], [0, 3.0]])
    after = np.array([[0, -3.0], [0, 3.0], [0, 0.1], [0, -3.0]])
    change = compare_referrals(spec, np.array([0, 1, 1, 1]), before, after)
    assert change is not None
    assert (change.original, change.variant, change.changed, change.crossed) == (1, 1, 2, 1)
    assert (change.original_wrong, change.variant_wrong) == (0, 1)
    assert compare_referrals(tiny_spec(), np.array([0]), before[:1], after[:1]) is None


def test_a_val_that_is_too_small_is_told_of_before_the_training(narrow_config, tmp_path):
    config = dataclasses.replace(narrow_config, certify="ppv=0.99,npv=0.99")
    with pytest.raises(PromiseError, match=r"PPV 0\.99 .* needs 368 images .* and val has "):
        train(config, tmp_path / "run", ["kneeedge", "train"], QUIET)
    assert not (tmp_path / "run").exists()


def test_answers_that_do_not_show_the_promise_cost_no_training():
    rng = np.random.default_rng(0)
    held_out = HeldOutSplit(
        split="val",
        samples=tuple(Grouped(str(i)) for i in range(300)),
        labels=rng.integers(0, 2, 300),
        logits=rng.normal(size=(300, 2)).astype(np.float32),
        distances=None,
        part_distances=None,
    )
    spec = tiny_spec()
    fitted, unshown = certify_split(spec, held_out, "ppv=0.95,npv=0.95")
    assert fitted is spec
    assert unshown.startswith("NOT CERTIFIED: PPV 0.95 at 0.95 confidence is not shown")
    assert certify_split(spec, held_out, None) == (spec, "")


@dataclasses.dataclass(frozen=True)
class Grouped:
    """A sample as far as its patient."""

    group: str


def test_what_is_no_promise_and_what_has_no_one_val_is_refused():
    with pytest.raises(ConfigError, match="lacks one of the two; give ppv="):
        make_config("data", "default", {"certify": "ppv=97"})
    with pytest.raises(ConfigError, match="--certify is for one model, not folds"):
        make_config("data", "default", {"certify": EASY, "folds": 3})
