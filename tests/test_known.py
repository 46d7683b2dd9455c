"""The names that are known without loading anything are those of the things themselves."""

import pytest

from trueoracle import nets
from trueoracle.data import DATASETS
from trueoracle.nets.models import LANGUAGE_MODELS
from trueoracle.study import builtin_studies, masks_in_play, masks_of, plan
from trueoracle.words import known
from trueoracle.words.errors import TrueOracleError


def test_networks_and_datasets_are_those_that_there_are() -> None:
    assert set(known.MODELS) == set(nets.MODELS)
    assert set(known.LANGUAGE_MODELS) == set(LANGUAGE_MODELS)
    assert set(known.DATASETS) == set(DATASETS)


@pytest.mark.parametrize("name", [name for name, units in known.MODELS.items() if units])
def test_units_are_those_of_the_network(name: str) -> None:
    shape = nets.usual_shape(name)
    sites = nets.find_sites(nets.build(name, shape), shape)
    assert {site: sites[site].units for site in known.MODELS[name]} == known.MODELS[name]


@pytest.mark.parametrize(
    "name", ["quickstart", "lenet5-mini-mnist", "lenet5-mini-w40-mnist", "lenet5-mini-mnist-tenth"]
)
def test_masks_are_counted_as_the_plan_counts_them(name: str) -> None:
    spec = builtin_studies()[name].model_copy(update={"base_networks": 2})
    planned = plan(spec)
    assert [masks_of(cell, spec) for cell in spec.cells] == [cell.count for cell in planned.cells_of(0)]
    assert spec.repeats * masks_in_play(spec) == planned.trials


def test_every_built_in_study_says_how_many_masks_it_has() -> None:
    assert all(masks_in_play(spec) for spec in builtin_studies().values())


@pytest.mark.parametrize(
    ("check", "name", "message"),
    [
        (known.check_model, "lenet5-mimi", "unknown model `lenet5-mimi`: did you mean `lenet5-mini`"),
        (
            known.check_dataset,
            "minst",
            r"unknown dataset `minst`: did you mean `mnist`.*named by a path such as ./minst",
        ),
        (known.find_backend, "lane", "unknown backend `lane`: did you mean `lanes`"),
        (known.check_path, "exakt", "unknown path `exakt`"),
        (known.check_device, "tpu", "`device` must be cpu or cuda, but got `tpu`"),
    ],
)
def test_a_wrong_name_is_one_line(check, name: str, message: str) -> None:
    with pytest.raises(TrueOracleError, match=message):
        check(name)


@pytest.mark.parametrize("name", ["hf:owner/name", "mynets:factory", "llava-mini"])
def test_what_leads_elsewhere_is_not_followed(name: str) -> None:
    known.check_model(name)
