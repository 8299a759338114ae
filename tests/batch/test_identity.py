import copy
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from smlmkit import (
    AnisotropicKDE,
    IsolatedFilter,
    LocalizationFilter,
    Localizations,
    N2NReconstructor,
    Renderer,
    Thin,
    load_model,
    make_microtubules,
)
from smlmkit.batch.identity import describe_estimator, digest_file, digest_table
from smlmkit.errors import FileFormatError, InvalidTypeError
from smlmkit.grid import PixelGrid
from smlmkit.strategies import SparseToDense

SESSION = {
    "checkpoint_folder": "elsewhere",
    "compile": True,
    "device": "cuda",
    "verbose": False,
    "warm_start": True,
}


def same(first, second):
    return json.dumps(describe_estimator(first)) == json.dumps(describe_estimator(second))


@pytest.fixture(scope="module")
def blinks():
    return make_microtubules(field_size=1000, density=1000, random_state=0)[0]


@pytest.fixture(scope="module")
def small(blinks):
    model = N2NReconstructor(
        max_samples=4, batch_size=4, patch_size=32, width=2, depth=2, random_state=0, verbose=False
    )
    return model.fit(blinks)


class TestParameters:
    def test_are_told(self):
        assert describe_estimator(IsolatedFilter(radius=40, n_threads=3)) == {
            "class": "smlmkit.filters.IsolatedFilter",
            "parameters": {"radius": 40, "min_neighbors": 3},
        }

    @pytest.mark.parametrize("kind", [Renderer, AnisotropicKDE, N2NReconstructor, Thin])
    def test_each_makes_a_difference_but_those_of_the_session(self, kind):
        default = kind()
        for name in default.get_params(deep=False):
            changed = clone(default).set_params(**{name: "other"})
            assert same(default, changed) == (name in {*SESSION, "n_threads"}), name

    def test_arrays_numbers_and_paths_of_any_kind_are_their_values(self):
        plain = Renderer(pixel_size=12.5, z_bins=[0.0, 1.5, 3.0], n_shifts=2, weights="a/b")
        other = Renderer(
            pixel_size=np.float32(12.5),
            z_bins=np.array([0, 1.5, 3]),
            n_shifts=np.int64(2),
            weights=Path("a/b"),
        )
        assert same(plain, other)
        assert same(plain, plain.set_params(z_bins=(0.0, 1.5, 3.0)))

    def test_long_arrays_are_told_by_every_value_type_and_shape(self):
        edges = np.arange(1000.0)
        renderer = Renderer(z_bins=edges)
        assert same(renderer, Renderer(z_bins=edges.copy()))
        assert same(renderer, Renderer(z_bins=np.repeat(edges, 2)[::2]))
        assert not same(renderer, Renderer(z_bins=edges.astype(np.float32)))
        assert not same(Renderer(z_bins=np.zeros(99, int)), Renderer(z_bins=np.zeros(99, float)))
        assert not same(renderer, Renderer(z_bins=edges.reshape(10, 100)))
        assert not same(renderer, Renderer(z_bins=np.append(edges[:-1], 999.0000001)))
        assert len(json.dumps(describe_estimator(renderer))) < 1000

    def test_objects_within_are_described(self):
        grid = PixelGrid((0, 0), 10, (5, 6))
        assert same(Renderer(grid=grid), Renderer(grid=PixelGrid((0, 0), 10, (5, 6))))
        assert not same(Renderer(grid=grid), Renderer(grid=PixelGrid((0, 0), 10, (5, 7))))
        estimates = [{"scale": 1}, {"scale": 1, "n_threads": 2}, {"scale": 2}]
        first, equal, other = (
            N2NReconstructor(SparseToDense(target=AnisotropicKDE(**options)))
            for options in estimates
        )
        assert same(first, equal)
        assert not same(first, other)

    def test_do_not_depend_on_the_order_of_a_mapping(self):
        first = LocalizationFilter(photons=(5, None), frame=(0, 9))
        assert same(first, LocalizationFilter(frame=(0, 9), photons=(5, None)))
        assert not same(first, LocalizationFilter(frame=(5, None), photons=(0, 9)))
        root = FunctionTransformer(np.sqrt, kw_args={"casting": "no", "order": "C"})
        assert same(root, FunctionTransformer(np.sqrt, kw_args={"order": "C", "casting": "no"}))

    def test_of_a_column_called_like_a_switch_count(self):
        first = LocalizationFilter(device=(0, 1), verbose=(0, 1))
        assert not same(first, LocalizationFilter(device=(0, 1), verbose=(0, 2)))

    def test_random_states_are_told_apart(self):
        source = np.random.RandomState(0)
        first = Thin(0.5, random_state=source)
        assert same(first, Thin(0.5, random_state=np.random.RandomState(0)))
        before = describe_estimator(first)
        source.random_sample()
        assert describe_estimator(first) != before

    def test_functions_are_their_names_and_lambdas_are_refused(self):
        assert same(FunctionTransformer(np.sqrt), FunctionTransformer(np.sqrt))
        assert not same(FunctionTransformer(np.sqrt), FunctionTransformer(np.exp))
        assert not same(FunctionTransformer(same), FunctionTransformer(pytest.fixture))
        with pytest.raises(InvalidTypeError, match="FunctionTransformer's func, <function"):
            describe_estimator(FunctionTransformer(lambda image: image))

    @pytest.mark.parametrize("thing", [7, "Renderer", Renderer, None])
    def test_of_what_is_no_estimator_are_an_error(self, thing):
        with pytest.raises(InvalidTypeError, match="an estimator has get_params, got"):
            describe_estimator(thing)


class TestPipelines:
    def test_are_their_steps_in_order(self):
        description = describe_estimator(make_pipeline(IsolatedFilter(), Renderer(n_threads=1)))
        assert description == {
            "class": "sklearn.pipeline.Pipeline",
            "steps": [describe_estimator(IsolatedFilter()), describe_estimator(Renderer())],
        }
        assert not same(
            make_pipeline(Thin(), IsolatedFilter()), make_pipeline(IsolatedFilter(), Thin())
        )

    def test_names_and_steps_that_do_nothing_do_not_count(self):
        plain = make_pipeline(IsolatedFilter(), Renderer())
        steps = [("a", "passthrough"), ("b", IsolatedFilter()), ("c", None), ("d", Renderer())]
        assert same(plain, Pipeline(steps, verbose=True))


class TestFitted:
    def test_networks_are_the_same_after_pickling_copying_and_saving(self, small, tmp_path):
        small.save(tmp_path / "model.smlmkit")
        assert same(small, pickle.loads(pickle.dumps(small)))
        assert same(small, copy.deepcopy(small))
        assert same(small, load_model(tmp_path / "model.smlmkit", device="cpu"))

    def test_the_session_does_not_count(self, small):
        moved = copy.deepcopy(small).set_params(**SESSION, random_state=5)
        moved.fitted_parameters_ |= SESSION | {"random_state": 5, "precision": "bfloat16"}
        moved.histories_, moved.refit_time_, moved._progress = [], 5.0, []
        assert same(small, moved)

    def test_the_same_training_gives_the_same(self, small, blinks):
        assert same(small, clone(small).fit(blinks))

    def test_is_not_the_same_as_unfitted(self, small):
        assert "fitted" not in describe_estimator(clone(small))
        assert not same(small, clone(small))

    def test_every_weight_counts(self, small):
        for name in small.networks_[0].state_dict():
            changed = copy.deepcopy(small)
            weights = changed.networks_[0].state_dict()[name]
            last = tuple(length - 1 for length in weights.shape)
            weights[last] = torch.nextafter(weights[last], torch.tensor(9.0))
            assert not same(small, changed), name

    @pytest.mark.parametrize(
        "change",
        [
            lambda model: model.set_params(tta=True),
            lambda model: model.set_params(precision="bfloat16"),
            lambda model: model.fitted_parameters_.update(pixel_size=11.0),
            lambda model: model.training_summary_.update(intensity=3.0),
            lambda model: model.networks_.append(model.networks_[0]),
        ],
    )
    def test_whatever_else_changes_the_image_counts(self, small, change):
        changed = copy.deepcopy(small)
        change(changed)
        assert not same(small, changed)

    def test_estimators_of_other_libraries_are_told_by_what_they_learned(self):
        X, y = np.arange(20.0).reshape(10, 2), np.arange(10.0)
        slow, fast = LinearRegression(n_jobs=1).fit(X, y), LinearRegression(n_jobs=2).fit(X, y)
        assert same(slow, fast)
        assert not same(slow, LinearRegression(n_jobs=1).fit(X, 2 * y))
        forests = [
            RandomForestRegressor(2, random_state=0).fit(X, target) for target in (y, y, y[::-1])
        ]
        assert same(forests[0], forests[1])
        assert not same(forests[0], forests[2])


def test_a_description_is_the_same_in_every_process(small, tmp_path):
    estimators = [
        small,
        make_pipeline(IsolatedFilter(), Renderer(z_bins=np.arange(100.0))),
        FunctionTransformer(np.sqrt, kw_args={"where": {"b", "a", "c"}, "b": 1}),
        Thin(random_state=np.random.RandomState(3)),
    ]
    file = tmp_path / "estimators.pickle"
    file.write_bytes(pickle.dumps(estimators))
    code = """
import json, pickle, sys
from smlmkit.batch.identity import describe_estimator
with open(sys.argv[1], "rb") as file:
    print(json.dumps([describe_estimator(estimator) for estimator in pickle.load(file)]))
"""
    here = json.dumps([describe_estimator(estimator) for estimator in estimators])
    there = subprocess.run(
        [sys.executable, "-c", code, file],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        capture_output=True,
        check=True,
        text=True,
    )
    assert there.stdout == here + "\n"


COLUMNS = {"x": [10.0, 20.0], "y": [30.0, 40.0], "photons": [5, 6]}


class TestTables:
    def digest(self, columns=COLUMNS, field_of_view=(0, 0, 100, 100), **options):
        return digest_table(Localizations(columns, field_of_view=field_of_view, **options))

    def test_have_equal_digests_if_they_hold_the_same(self):
        assert len(self.digest()) == 32
        shuffled = {name: COLUMNS[name] for name in ("photons", "y", "x")}
        assert self.digest(shuffled) == self.digest()
        assert self.digest(metadata={"source": "fov.csv"}) == self.digest()
        assert self.digest(field_of_view=(0, 0, 100.0, 100)) == self.digest()

    @pytest.mark.parametrize(
        "change",
        [
            {"x": [10.0, np.nextafter(20.0, 0)]},
            {"x": [20.0, 10.0], "y": [40.0, 30.0], "photons": [6, 5]},
            {"x": [30.0, 40.0], "y": [10.0, 20.0]},
            {"photons": [5.0, 6.0]},
            {"photons": [6, 5]},
            {"more": [0, 0]},
        ],
    )
    def test_have_other_digests_for_any_change(self, change):
        assert self.digest(COLUMNS | change) != self.digest()

    def test_have_other_digests_for_other_names(self):
        renamed = {name.replace("photons", "counts"): COLUMNS[name] for name in COLUMNS}
        assert self.digest(renamed) != self.digest()

    def test_have_other_digests_for_another_field(self):
        assert self.digest(field_of_view=(0, 0, 100, 101)) != self.digest()

    def test_may_hold_text(self):
        texts = [np.array(values, object) for values in (["a", "b"], ["a", "b"], ["a", "c"])]
        first, equal, other = (self.digest(COLUMNS | {"label": text}) for text in texts)
        assert first == equal != other


class TestFiles:
    def test_have_the_digest_of_their_bytes(self, tmp_path):
        file = tmp_path / "data"
        content = os.urandom(300_000)
        file.write_bytes(content)
        assert digest_file(file) == xxhash.xxh3_128(content).hexdigest()
        assert digest_file(str(file)) == digest_file(file)
        file.write_bytes(content[:-1])
        assert digest_file(file) != xxhash.xxh3_128(content).hexdigest()

    def test_that_cannot_be_read_are_an_error(self, tmp_path):
        with pytest.raises(FileFormatError, match="missing: cannot read: No such file"):
            digest_file(tmp_path / "missing")
        with pytest.raises(FileFormatError, match="cannot read: Is a directory"):
            digest_file(tmp_path)
