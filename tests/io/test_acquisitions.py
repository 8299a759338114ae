"""The acquisitions below a folder: found, listed, and read when they are asked for."""

import builtins
import io
import os
import pickle
import weakref
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import make_pipeline

from smlmkit import (
    FRCScorer,
    GaussianKDE,
    Localizations,
    N2NReconstructor,
    PoissonScorer,
    Renderer,
    make_acquisitions,
    read_localizations,
    scan_acquisitions,
    write_localizations,
)
from smlmkit.errors import FileFormatError, InvalidInputError
from smlmkit.io import acquisitions
from smlmkit.io.acquisitions import Acquisitions

SIDE = 640.0


def make_table(seed, n=300):
    rng = np.random.default_rng(seed)
    columns = {"x": rng.normal(SIDE / 2, 40, n), "y": rng.uniform(0, SIDE, n)}
    return Localizations(
        columns | {"frame": rng.integers(500, size=n)}, field_of_view=(0, 0, SIDE, SIDE)
    )


@pytest.fixture
def folder(tmp_path):
    """Six tables in one folder."""
    for seed in range(6):
        write_localizations(make_table(seed), tmp_path / f"fov_{seed}.parquet")
    return tmp_path


def names(X):
    return [path.name for path in X.paths]


class TestScanning:
    def test_what_is_found_and_what_is_not(self, tmp_path):
        make_acquisitions(tmp_path / "b", 2, field_size=1000.0, density=100.0)
        deep = tmp_path / "a" / "deep"
        for folder in (deep, tmp_path / ".hidden", tmp_path / "image.ome.zarr"):
            folder.mkdir(parents=True)
            write_localizations(make_table(0), folder / "table.csv")
        write_localizations(make_table(0), tmp_path / "z.parquet")
        (tmp_path / "._z.parquet").write_bytes(b"PAR1")
        (tmp_path / "z.png").write_bytes(b"PNG")
        (tmp_path / "README.txt").write_text("Measured on a wet day.")
        (tmp_path / "a" / "empty.csv").touch()
        X = scan_acquisitions(tmp_path)
        found = [path.relative_to(tmp_path).as_posix() for path in X.paths]
        assert found == ["a/deep/table.csv", "b/fov_01.hdf5", "b/fov_02.hdf5", "z.parquet"]
        assert X.formats == ("thunderstorm", "picasso", "picasso", "parquet")
        assert list(X.unreadable) == [tmp_path / "README.txt", tmp_path / "a" / "empty.csv"]
        of_notes, of_empty = X.unreadable.values()
        assert of_notes.startswith("its beginning is that of no known format")
        assert of_empty == "the file is empty"
        assert repr(X) == ("Acquisitions(4: table.csv, fov_01.hdf5, ..., z.parquet; 2 unreadable)")

    def test_what_belongs_to_a_table_goes_with_it(self, tmp_path):
        (path,) = make_acquisitions(tmp_path, 1, field_size=1000.0, density=100.0)
        assert path.with_suffix(".yaml").exists()
        X = scan_acquisitions(tmp_path)
        assert (names(X), X.unreadable) == ([path.name], {})
        assert X[0] == read_localizations(path)

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
    def test_what_is_no_plain_file_is_not_waited_for(self, folder):
        os.mkfifo(folder / "pipe.csv")
        (folder / "lost.csv").symlink_to(folder / "nowhere.csv")
        X = scan_acquisitions(folder)
        assert len(X) == 6
        reason = "a link to nothing, or no plain file"
        assert X.unreadable == {folder / "lost.csv": reason, folder / "pipe.csv": reason}

    def test_what_may_not_be_read_is_listed(self, folder, monkeypatch):
        closed = folder / "fov_3.parquet"
        open_file, list_folder = io.open, os.scandir
        (folder / "locked").mkdir()

        def refuse(path, *arguments, **options):
            if path == closed:
                raise PermissionError(13, "Permission denied", str(path))
            return open_file(path, *arguments, **options)

        def refuse_folder(path):
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return list_folder(path)

        monkeypatch.setattr(io, "open", refuse)
        monkeypatch.setattr(os, "scandir", refuse_folder)
        X = scan_acquisitions(folder)
        reason = "cannot be read: Permission denied"
        assert X.unreadable == {folder / "locked": reason, closed: reason}
        assert len(X) == 5

    def test_no_file_is_opened_twice(self, tmp_path, monkeypatch):
        for name in ("a.csv", "b.csv", "b.parquet"):
            write_localizations(make_table(0), tmp_path / name)
        (tmp_path / "c.txt").write_text("notes")
        opened = Counter()
        open_file = io.open

        def count(path, *arguments, **options):
            opened[Path(path).name] += 1
            return open_file(path, *arguments, **options)

        monkeypatch.setattr(io, "open", count)
        monkeypatch.setattr(builtins, "open", count)
        scan_acquisitions(tmp_path)
        assert opened == {"a.csv": 1, "b.csv": 1, "b.parquet": 1, "c.txt": 1}

    def test_nothing_to_find_is_an_error_that_says_what_was_there(self, tmp_path):
        with pytest.raises(InvalidInputError, match="nowhere: no such folder"):
            scan_acquisitions(tmp_path / "nowhere")
        for number in range(5):
            (tmp_path / f"{number}.csv").touch()
        with pytest.raises(InvalidInputError, match=r"no tables of localizations .* below it") as e:
            scan_acquisitions(tmp_path)
        assert str(e.value).splitlines()[1:] == [
            *(f"{tmp_path / name}: the file is empty" for name in ("0.csv", "1.csv", "2.csv")),
            "...",
        ]

    def test_the_camera_pixel_size_goes_to_every_file(self, tmp_path):
        (tmp_path / "a.csv").write_text('"x [px]","y [px]"\n1,2\n')
        with pytest.raises(FileFormatError, match="pass pixel_size="):
            scan_acquisitions(tmp_path)[0]
        X = scan_acquisitions(tmp_path, pixel_size=100)
        assert X[0].x.tolist() == X[[0]][0].x.tolist() == [100.0]
        assert pickle.loads(pickle.dumps(X))[0].x.tolist() == [100.0]
        with pytest.raises(InvalidInputError, match="pixel_size"):
            scan_acquisitions(tmp_path, pixel_size=0)


class TestIndexing:
    def test_as_any_sequence(self, folder):
        X = scan_acquisitions(folder)
        assert (len(X), X.shape) == (6, (6,))
        assert X[0] == X[np.int64(0)] == X[-6] == make_table(0)
        assert X[np.array(2)] == X[2] == make_table(2)
        assert list(X) == [make_table(seed) for seed in range(6)]
        assert next(reversed(X)) == make_table(5)
        with pytest.raises(IndexError):
            X[6]

    @pytest.mark.parametrize(
        "index",
        [
            slice(1, None, 2),
            [1, 3, 5],
            np.array([1, 3, 5]),
            np.arange(6) % 2 == 1,
            [False, True] * 3,
            (np.array([1, 3, 5]), ...),
            [-5, -3, -1],
        ],
    )
    def test_several_are_acquisitions_that_are_not_read(self, folder, index, monkeypatch):
        X = scan_acquisitions(folder)
        monkeypatch.setattr("smlmkit.io.acquisitions.read_localizations", None)
        some = X[index]
        assert isinstance(some, Acquisitions)
        assert names(some) == ["fov_1.parquet", "fov_3.parquet", "fov_5.parquet"]
        assert names(some[::-1]) == ["fov_5.parquet", "fov_3.parquet", "fov_1.parquet"]
        assert len(X[[]]) == len(X[6:]) == 0

    @pytest.mark.parametrize("index", ["a", 1.0, None, True, [[0, 1]], [6], (0, 1), [True]])
    def test_other_indices_are_refused(self, folder, index):
        with pytest.raises(IndexError):
            scan_acquisitions(folder)[index]

    def test_a_pickle_reads_the_same_and_holds_no_tables(self, folder):
        X = scan_acquisitions(folder)
        (folder / "broken.csv").touch()
        X = scan_acquisitions(folder)
        X[0]
        pickled = pickle.dumps(X)
        assert len(pickled) < 2000
        again = pickle.loads(pickled)
        assert (again.paths, again.formats) == (X.paths, X.formats)
        assert again.unreadable == X.unreadable != {}
        assert again[3] == make_table(3)

    def test_a_file_that_is_damaged_further_on_is_named_when_it_is_read(self, folder):
        path = folder / "fov_2.parquet"
        path.write_bytes(path.read_bytes()[:200])
        X = scan_acquisitions(folder)
        assert len(X) == 6
        with pytest.raises(FileFormatError, match=r"fov_2\.parquet"):
            list(X)
        path.unlink()
        with pytest.raises(FileFormatError, match=r"fov_2\.parquet: no such file"):
            X[2]


class TestMemory:
    def test_the_table_read_last_is_kept(self, folder):
        X = scan_acquisitions(folder)
        first = X[0]
        assert X[0] is X[[0, 1]][0] is first
        X[1:][0]
        assert X[0] is not first

    def test_no_two_tables_stay_in_memory(self, tmp_path):
        for seed in range(100):
            write_localizations(make_table(seed, 20), tmp_path / f"{seed:02}.parquet")
        X = scan_acquisitions(tmp_path)
        seen, most = [], 0
        for part in (X, X[::-1], X[np.arange(0, 100, 3)]):
            for table in part:
                seen.append(weakref.ref(table.x))
                del table
                alive = {id(array()) for array in seen if array() is not None}
                most = max(most, len(alive))
        assert len(seen) == 234
        assert most == 1


class Counting(BaseEstimator):
    """Sees its samples one by one and remembers how many there were."""

    def __init__(self, weight=1):
        self.weight = weight

    def fit(self, X, y=None):
        self.seen_ = X
        return self

    def score(self, X, y=None):
        return self.weight * sum(len(table) for table in X)


class TestModelSelection:
    def test_splits_hand_over_paths_not_tables(self, folder):
        X = scan_acquisitions(folder)
        folds = cross_validate(Counting(), X, cv=KFold(3), return_estimator=True)
        seen = [estimator.seen_ for estimator in folds["estimator"]]
        assert all(isinstance(part, Acquisitions) for part in seen)
        assert [len(part) for part in seen] == [4, 4, 4]
        assert names(seen[0]) == [f"fov_{seed}.parquet" for seed in (2, 3, 4, 5)]
        train, test = train_test_split(X, test_size=2, random_state=0)
        assert sorted(names(train) + names(test)) == names(X)

    def test_scores_are_those_of_a_list(self, folder):
        X = scan_acquisitions(folder)
        pipeline = make_pipeline(Renderer(10), GaussianKDE())
        options = {"scoring": PoissonScorer(), "cv": KFold(3), "error_score": "raise"}
        scores = cross_val_score(pipeline, X, **options)
        np.testing.assert_array_equal(scores, cross_val_score(pipeline, list(X), **options))
        assert len(set(scores)) == 3

    def test_a_search_finds_the_same(self, folder):
        X = scan_acquisitions(folder)
        pipeline = make_pipeline(Renderer(10), GaussianKDE())
        grid = {"gaussiankde__sigma": [5.0, 20.0, 80.0]}
        lazy, eager = (
            GridSearchCV(pipeline, grid, scoring=PoissonScorer(), cv=2).fit(samples)
            for samples in (X, list(X))
        )
        for name in ("split0_test_score", "split1_test_score"):
            np.testing.assert_array_equal(lazy.cv_results_[name], eager.cv_results_[name])
        assert lazy.best_params_ == eager.best_params_

    def test_a_network_is_trained_and_scored(self, folder):
        X = scan_acquisitions(folder)
        tiny = {"max_samples": 8, "batch_size": 4, "patch_size": 16, "depth": 1, "width": 2}
        model = N2NReconstructor(pixel_size=10, **tiny, device="cpu", random_state=0)
        scores = cross_val_score(
            model, X[:4], scoring=FRCScorer(cutoff=0.5), cv=KFold(2), error_score="raise"
        )
        assert np.isfinite(scores).all()
        images = model.fit(X[:2]).predict(X[2:4])
        expected = model.fit(list(X[:2])).predict(list(X[2:4]))
        for image, other in zip(images, expected, strict=True):
            np.testing.assert_array_equal(image, other)


def test_transformers_and_scorers_hold_few_tables_however_many_there_are(folder, monkeypatch):
    read, seen, most = acquisitions.read_localizations, [], 0

    def watch(*args, **options):
        nonlocal most
        most = max(most, len({id(array()) for array in seen if array() is not None}))
        table = read(*args, **options)
        seen.append(weakref.ref(table.x))
        return table

    monkeypatch.setattr(acquisitions, "read_localizations", watch)
    X = scan_acquisitions(folder)
    Renderer(10).transform(X)
    PoissonScorer()(make_pipeline(Renderer(10), GaussianKDE()), X)
    assert len(seen) >= 2 * len(X) == 12
    assert most <= 2
