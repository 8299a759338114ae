"""How reconstructions were made is told without what goes without saying."""

import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline

import smlmkit
from smlmkit import AnisotropicKDE, LocalizationFilter, N2NReconstructor, Renderer, SparseToDense
from smlmkit.batch.identity import describe_estimator
from smlmkit.report.recipe import outline, read_steps, write_command

EXPORTED = [getattr(smlmkit, name) for name in smlmkit.__all__]
ESTIMATORS = [
    each for each in EXPORTED if isinstance(each, type) and issubclass(each, BaseEstimator)
]


def test_what_was_chosen_is_told_apart_from_the_defaults():
    keep = LocalizationFilter(uncertainty_x=(0, 25))
    pipeline = make_pipeline(keep, make_pipeline(Renderer(pixel_size=10), AnisotropicKDE(scale=2)))
    steps = read_steps(describe_estimator(pipeline))
    assert [step.name for step in steps] == ["LocalizationFilter", "Renderer", "AnisotropicKDE"]
    assert [[line[1:] for line in step.chosen] for step in steps] == [
        [("uncertainty_x", "0, 25")],
        [],
        [("scale", "2")],
    ]
    assert (1, "pixel_size", "10") in steps[1].defaults
    assert (1, "sigma", "25") in steps[2].defaults


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimator_as_it_comes_has_defaults_only(estimator):
    (step,) = read_steps(describe_estimator(estimator()))
    assert (step.name, step.chosen) == (estimator.__name__, [])


def test_an_estimator_inside_another_one_is_told_with_its_parameters():
    strategy = SparseToDense(share=(0.2, 0.3))
    (step,) = read_steps(describe_estimator(N2NReconstructor(strategy=strategy)))
    assert step.chosen[0] == (1, "strategy", "smlmkit.strategies.dense.SparseToDense")
    assert all(line.depth > 1 for line in step.chosen[1:])


@pytest.mark.parametrize(
    "path", ["", "os.system", "smlmkit.grid.PixelGrid", "elsewhere.Renderer", "smlmkit.read_image"]
)
def test_of_what_is_no_estimator_of_ours_all_is_told(path):
    (step,) = read_steps({"class": path, "parameters": {"pixel_size": 10}, "fitted": "0123"})
    assert step.chosen == [(1, "pixel_size", "10"), (1, "fitted", "0123")]
    assert step.defaults == []


@pytest.mark.parametrize("estimator", [None, "Renderer", [], 3])
def test_a_run_without_an_estimator_has_no_steps(estimator):
    assert read_steps(estimator) == []


def test_an_outline_ends_somewhere():
    nested = "deep"
    for _ in range(30):
        nested = {"in": nested}
    assert max(line.depth for line in outline(nested, "parameters")) == 6


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("/opt/my\\ env/bin/smlmkit report out", "smlmkit report out"),
        ("'/opt/my env/bin/smlmkit' report 'my data'", "smlmkit report 'my data'"),
        ("/opt/lib/smlmkit/__main__.py report out", "smlmkit report out"),
        ("/home/me/analyse.py --all  now", "/home/me/analyse.py --all  now"),
        ("it's torn", "it's torn"),
        ("", ""),
    ],
)
def test_a_command_is_written_as_people_type_it(command, written):
    assert write_command(command) == written
