"""The acquisitions below a folder: found, listed, and read when they are asked for."""

import builtins
import io
import os
import pickle
import re
import weakref
import zipfile
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.io import savemat
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


def zipped(name):
    """Give an archive that holds one empty file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(name, "")
    return archive.getvalue()


def make_one_of_each_kind(folder):
    """Make files that formats look into in different ways; give the format of each name."""
    formats = {
        "a.csv": "thunderstorm",
        "b.parquet": "parquet",
        "c.smlm": "smlm",
        "d.h5": "decode",
        "e.hdf5": "picasso",
        "f.hdf5": "smappy",
        "g.mat": "smap",
        "h.mat": "smap",
    }
    write_localizations(make_table(0), folder / "a.csv")
    write_localizations(make_table(0), folder / "b.parquet")
    write_localizations(make_table(0), folder / "d.h5", format="decode", pixel_size=1)
    write_localizations(make_table(0), folder / "e.hdf5", pixel_size=1, uncertainty=8)
    with zipfile.ZipFile(folder / "c.smlm", "w") as archive:
        archive.writestr("table.bin", bytes(70_000))  # so that the manifest's name stands behind
        archive.writestr("manifest.json", "{}")
    with h5py.File(folder / "f.hdf5", "w") as file:
        file["locs/x_nm"] = file["locs/y_nm"] = np.zeros(3)
    savemat(folder / "g.mat", {"saveloc": {"loc": {"xnm": np.zeros(3)}}})
    with h5py.File(folder / "h.mat", "w", userblock_size=512) as file:
        file["saveloc/loc/xnm"] = np.zeros((1, 3))
    with (folder / "h.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return formats


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
        (path,), _ = make_acquisitions(tmp_path, 1, field_size=1000.0, density=100.0)
        assert path.with_suffix(".yaml").exists()
        X = scan_acquisitions(tmp_path)
        assert (names(X), X.unreadable) == ([path.name], {})
        assert X[0] == read_localizations(path)

    def test_the_protocol_of_a_table_is_no_unreadable_file(self, tmp_path):
        write_localizations(make_table(0), tmp_path / "cell.csv")
        for name in ("cell-protocol.txt", "lost-protocol.txt"):
            (tmp_path / name).write_text('{"version": "ThunderSTORM (dev-2016-09-10-b1)"}')
        X = scan_acquisitions(tmp_path)
        assert (names(X), list(X.unreadable)) == (["cell.csv"], [tmp_path / "lost-protocol.txt"])

    def test_the_reason_is_that_of_the_reader(self, tmp_path):
        (path,), _ = make_acquisitions(tmp_path, 1, field_size=1000.0, density=100.0)
        path.write_bytes(path.read_bytes()[:-1000])
        write_localizations(make_table(0), tmp_path / "good.parquet")
        with h5py.File(tmp_path / "other.h5", "w") as file:
            file["images"] = np.zeros(3)
        (tmp_path / "book.smlm").write_bytes(zipped("notes.txt"))
        X = scan_acquisitions(tmp_path)
        assert names(X) == ["good.parquet"]
        of_archive, of_picasso, of_other = X.unreadable.values()
        assert of_archive == "no 'manifest.json' in the archive"
        assert re.match("the HDF5 file is damaged: .*truncated file", of_picasso)
        assert of_other.startswith("no dataset /locs: there are images")

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
        known = make_one_of_each_kind(tmp_path)
        (tmp_path / "notes.txt").write_text("A wet day.")
        opened = Counter()
        open_file, open_hdf5 = io.open, h5py.File.__init__

        def note(file):
            """Note what is opened by its name; HDF5 opens such files itself."""
            if isinstance(file, str | os.PathLike) and Path(file).parent == tmp_path:
                opened[Path(file).name] += 1

        def count(file, *arguments, **options):
            note(file)
            return open_file(file, *arguments, **options)

        def count_hdf5(self, file, *arguments, **options):
            note(file)
            return open_hdf5(self, file, *arguments, **options)

        monkeypatch.setattr(io, "open", count)
        monkeypatch.setattr(builtins, "open", count)
        monkeypatch.setattr(h5py.File, "__init__", count_hdf5)
        X = scan_acquisitions(tmp_path)
        assert dict(zip(names(X), X.formats, strict=True)) == known
        assert opened == dict.fromkeys([*known, "notes.txt"], 1)

    def test_a_table_is_not_looked_into_again_when_it_is_read(self, folder, monkeypatch):
        X = scan_acquisitions(folder)
        monkeypatch.setattr("smlmkit.io.tables.find_format", None)
        assert len(list(X)) == 6

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

    def test_the_field_of_view_goes_to_every_file(self, tmp_path):
        for name, x in (("a.csv", 10), ("b.csv", 700)):
            (tmp_path / name).write_text(f'"x [nm]","y [nm]"\n{x},2\n')
        assert len({table.field_of_view for table in scan_acquisitions(tmp_path)}) == 2
        X = scan_acquisitions(tmp_path, field_of_view=(0, 0, 500, 1000))
        for same in (X, X[::-1], pickle.loads(pickle.dumps(X))):
            assert {table.field_of_view for table in same} == {(0, 0, 500, 1000)}
        with pytest.raises(InvalidInputError, match="field_of_view"):
            scan_acquisitions(tmp_path, field_of_view=(0, 0, 1))


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

    @pytest.mark.usefixtures("joblib_workers")
    def test_processes_score_what_one_does(self, folder):
        X = scan_acquisitions(folder)
        pipeline = make_pipeline(Renderer(10), GaussianKDE())
        options = {"scoring": PoissonScorer(), "cv": KFold(3), "error_score": "raise"}
        scores = cross_val_score(pipeline, X, n_jobs=2, **options)
        np.testing.assert_array_equal(scores, cross_val_score(pipeline, X, **options))

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
    X, y = scan_acquisitions(folder), scan_acquisitions(folder)
    Renderer(10).transform(X)
    PoissonScorer()(make_pipeline(Renderer(10), GaussianKDE()), X)
    assert len(seen) == 2 * len(X) == 12
    assert most <= 2
    FRCScorer(reference="target", cutoff=0.2)(Renderer(10), X, y)
    assert len(seen) == 4 * len(X)
    assert most <= 4
