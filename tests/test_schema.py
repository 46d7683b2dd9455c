"""The JSON of an analysis keeps to its schema, whatever is absent."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from jsonschema import Draft202012Validator

from test_other_images import cell_of, simulated
from trueoracle import Study, analyze_table
from trueoracle.analysis import Options
from trueoracle.analysis.analyze import analyze_cells
from trueoracle.analysis.schema import json_schema

FEW = Options(resamples=199)
FILE = Path(__file__).parents[1] / "docs" / "analysis.schema.json"


def test_the_file_in_the_docs_is_the_schema_of_the_code() -> None:
    assert json.loads(FILE.read_text()) == json_schema()


def test_a_whole_study_and_a_bare_table_keep_to_the_same_types(finished: Study) -> None:
    check = Draft202012Validator(json_schema())
    rich = analyze_cells([cell_of(*simulated(0.1, 1, images=400))], ["pruned_train_loss"], FEW)
    bare = analyze_table(
        pd.DataFrame({"pruned_train_loss": [1.0, 2, 3], "final_test_accuracy": [0.3, 0.1, 0.2]}), options=FEW
    )
    found = [
        json.loads(json.dumps(one.as_dict(), allow_nan=False)) for one in (*rich, *bare, *finished.analyze(options=FEW))
    ]
    check.validate(found)
    assert found[0].keys() == found[1].keys()
    # Every null says why, and nothing that is there does.
    assert {"ceiling", "on_others", "null", "spread"} <= set(found[1]["absent"])
    assert all(value is None for key, value in found[1].items() if key in found[1]["absent"])
    assert all(key in found[1]["absent"] for key, value in found[1].items() if value is None)


def test_a_wrong_type_is_caught() -> None:
    (found,) = analyze_cells([cell_of(*simulated(0.1, 1, images=400))], ["pruned_train_loss"], FEW)
    check = Draft202012Validator(json_schema())
    assert check.is_valid([found.as_dict()])
    assert not check.is_valid([{**found.as_dict(), "n": "many"}])
    assert not check.is_valid([{**found.as_dict(), "null": {"absent": "why"}}])
    assert np.isfinite(found.kendall_tau)
