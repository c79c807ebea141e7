"""Rows of predictions.csv: what stands in them, and what a spreadsheet makes of it."""

import pytest

from kneeedge.inference.predictions import OK, Prediction, csv_columns, csv_row, prediction_of_row
from kneeedge.pixels.dicom_facts import DicomFacts
from kneeedge.system.spreadsheet import FORMULA
from tests.tiny_onnx import tiny_spec


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "-x", "@x", "\tx"])
def test_no_cell_is_a_formula_whatever_the_classes_and_the_file_say(name: str) -> None:
    spec = tiny_spec(classes=("Healthy", name))
    facts = DicomFacts(
        sop_instance_uid=name,
        laterality=name,
        view=name,
        grey_scale="",
        photometric="",
        bits_stored=0,
        patient_id=name,
    )
    prediction = Prediction(path=name, status=OK, prediction=name, error=name, dicom=facts)
    cells = csv_row(prediction, spec)
    for cell in (*csv_columns(spec), *cells):
        assert not cell.startswith(FORMULA)
    again = prediction_of_row(cells, spec)
    assert again.prediction == name
    assert csv_row(again, spec) == cells
