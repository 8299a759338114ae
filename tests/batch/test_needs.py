import pickle
from collections import defaultdict

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from smlmkit import (
    AdaptiveKDE,
    AnisotropicKDE,
    CountFilter,
    FrameWindow,
    GaussianKDE,
    IsolatedFilter,
    LocalizationFilter,
    Localizations,
    N2NReconstructor,
    PixelGrid,
    Renderer,
    Thin,
)
from smlmkit.batch.needs import needs_of
from smlmkit.errors import InvalidInputError, InvalidTypeError, UnfamiliarTableWarning
from smlmkit.reconstruct.familiarity import CELL_SIZE, describe_table, typical_density
from smlmkit.tiling import FieldFacts, TileGrid, TileNeeds

TABLES = FieldFacts(pixel_size=None, maxima={"uncertainty_y": 12.0, "uncertainty_x": 15.0})
NO_COLUMNS = FieldFacts(pixel_size=None, maxima={})
# Positions in float32, relative to corners that are others in a tile.
ROUNDING = 3e-6
DEPTHS = [-200.0, -50.0, 100.0, 200.0]
NETWORK = {
    "max_samples": 8,
    "batch_size": 4,
    "patch_size": 32,
    "width": 4,
    "random_state": 0,
}


def field(seed=0, n=3000):
    """Draw points, half of them in clusters, in a field of 104 x 111 pixels of 10 nm.

    Neither do the pixels fill it up, nor does its corner lie at 0.
    """
    rng = np.random.default_rng(seed)
    box = (-130.0, 70.0, 903.0, 1174.0)
    low, high = np.array(box[:2]), np.array(box[2:])
    positions = rng.uniform(low, high, (n, 2))
    centers = rng.uniform(low, high, (30, 2))
    n_clustered = n // 2
    positions[:n_clustered] = rng.normal(centers[rng.integers(0, 30, n_clustered)], 15)
    positions = np.clip(positions, low, high - 0.1)
    columns = {
        "y": positions[:, 0],
        "x": positions[:, 1],
        "z": rng.uniform(-200, 200, n),
        "frame": rng.integers(0, 500, n),
        "photons": rng.uniform(100, 1000, n),
        "uncertainty_y": rng.uniform(2, 12, n),
        "uncertainty_x": rng.uniform(2, 15, n),
        "channel": rng.integers(0, 3, n),
    }
    return Localizations(columns, field_of_view=box)


def facts_of(table):
    return FieldFacts(None, {name: float(table[name].max()) for name in table})


def image_of(estimator, table):
    if hasattr(estimator, "predict"):
        return estimator.predict(table, scale_to_mass=False)
    return estimator.transform(table)


def tile_by_tile(estimator, table, side, halo=None, image_of=image_of):
    """Put the image together from tiles, each of which is all that the estimator sees."""
    needs = needs_of(estimator, facts_of(table))
    size = needs.pixel_size
    grid = PixelGrid.covering(table.field_of_view, size)
    whole = None
    for tile in TileGrid(grid.shape, side, needs.halo_px if halo is None else halo):
        (top, bottom), (left, right) = ((part.start, part.stop) for part in tile.read)
        y, x = grid.origin
        seen = table.crop((y + top * size, x + left * size, y + bottom * size, x + right * size))
        values = image_of(estimator, seen).to_numpy()[(..., *tile.crop)]
        if whole is None:
            whole = np.full((*values.shape[:-2], *grid.shape), np.nan)
        whole[(..., *tile.write)] = values
    return whole


def difference(tiled, whole):
    """Give the largest difference as a fraction of the largest value."""
    assert tiled.shape == whole.shape
    return np.abs(tiled - whole.to_numpy()).max() / float(whole.max())


# Each with a halo in pixels that is too small, and what a tile may differ by.
STEPS = {
    "histogram": (Renderer(10), None, 0),
    "histogram of large pixels": (Renderer(13.3, weights="photons"), None, ROUNDING),
    "counts": (Renderer(10, dtype="uint32"), None, 0),
    "stack": (Renderer(10, z_bins=DEPTHS, channels=[2, 0]), None, 0),
    "Gaussians": (Renderer(10, mode="gaussian"), 6, ROUNDING),
    "equal Gaussians": (Renderer(10, "gaussian", sigma=25.0), 13, ROUNDING),
    "points": (Renderer(10, "gaussian", sigma=1e-6), 0, 1e-4),
    "capped Gaussians": (Renderer(10, "gaussian", sigma_scale=2, max_sigma=12), 5, ROUNDING),
    "floored Gaussians": (Renderer(10, "gaussian", min_sigma=20), 10, ROUNDING),
    "shifted averages": (Renderer(10, "average_shifted", n_shifts=5), 3, ROUNDING),
    "ranges": (make_pipeline(LocalizationFilter(photons=(300, None)), Renderer(10)), None, 0),
    "no loners": (make_pipeline(IsolatedFilter(40, 3), Renderer(10)), 3, 0),
    "no loners, of large pixels": (make_pipeline(IsolatedFilter(45, 3), Renderer(20)), None, 0),
    "no single counts": (make_pipeline(Renderer(10), CountFilter()), None, 0),
    "Gaussian": (make_pipeline(Renderer(10), GaussianKDE(22)), 8, ROUNDING),
    "narrow Gaussian": (make_pipeline(Renderer(10), GaussianKDE(1)), None, ROUNDING),
    "adaptive": (make_pipeline(Renderer(10), AdaptiveKDE(8, reference=2000.0)), 3, ROUNDING),
    "windows": (make_pipeline(Renderer(10), AnisotropicKDE(7, 2.0)), 5, 0),
    "Berberich's windows": (make_pipeline(Renderer(10), AnisotropicKDE(9, 3, "berberich")), 7, 0),
    "neighbours in an image": (
        make_pipeline(Renderer(10), AnisotropicKDE(support="neighbors", radius=25, sigma=7)),
        *(9, ROUNDING),
    ),
    "neighbours in a table": (
        AnisotropicKDE(support="neighbors", radius=35, sigma=7, sharpening=1.0, pixel_size=9),
        *(11, ROUNDING),
    ),
    "tiny neighbourhoods": (
        AnisotropicKDE(support="neighbors", radius=4, sigma=1, max_aspect=1.2),
        *(2, ROUNDING),
    ),
    "one after the other": (
        make_pipeline(
            LocalizationFilter(uncertainty_x=(None, 9.5)),
            IsolatedFilter(30, 2),
            Renderer(10, "average_shifted", z_bins=DEPTHS),
            CountFilter(0.3),
            AnisotropicKDE(5),
            GaussianKDE(13),
        ),
        *(9, ROUNDING),
    ),
    "steps that do nothing": (
        Pipeline([("a", None), ("b", make_pipeline("passthrough", Renderer(10)))]),
        *(None, 0),
    ),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize(("seed", "side"), [(0, 23), (1, 64)])
def test_tiles_are_parts_of_the_whole(name, seed, side):
    estimator, _, tolerance = STEPS[name]
    table = field(seed)
    whole = image_of(estimator, table)
    assert difference(tile_by_tile(estimator, table, side), whole) <= tolerance


@pytest.mark.parametrize(
    "name", [name for name, (_, too_few, _) in STEPS.items() if too_few is not None]
)
def test_with_less_around_them_tiles_are_others(name):
    estimator, too_few, tolerance = STEPS[name]
    table = field()
    assert too_few < needs_of(estimator, facts_of(table)).halo_px
    whole = image_of(estimator, table)
    assert difference(tile_by_tile(estimator, table, 23, halo=too_few), whole) > tolerance


@pytest.fixture(scope="module")
def table():
    return field()


@pytest.fixture(scope="module")
def train(table):
    """Give a function that trains a network for a moment."""

    def fit(sample=table, **parameters):
        return N2NReconstructor(**NETWORK | parameters).fit(sample)

    return fit


NETWORKS = {
    "unet": ({"depth": 2}, 8),
    "light": ({"network": "light", "depth": 1}, 4),
    "pix2pix": ({"network": "pix2pix", "depth": 3}, 0),
    "all orientations": ({"depth": 1, "tta": True}, 4),
    "slices": ({"depth": 1, "z_bins": DEPTHS}, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_of_networks_are_parts_of_the_whole(name, table, train):
    parameters, too_few = NETWORKS[name]
    model = train(**parameters)
    needs = needs_of(model, facts_of(table))
    assert needs.scales_to_mass
    assert not needs.empty_is_zero
    whole = image_of(model, table)
    assert "mass_factor" not in whole.attrs
    assert difference(tile_by_tile(model, table, 56), whole) <= ROUNDING
    assert difference(tile_by_tile(model, table, 56, halo=too_few), whole) > ROUNDING


def test_borders_off_the_grid_of_a_networks_poolings_make_other_tiles(table, train):
    model = train(depth=2)
    halo = needs_of(model, facts_of(table)).halo_px
    whole = image_of(model, table)
    assert difference(tile_by_tile(model, table, 56, halo=halo + 1), whole) > ROUNDING


def test_a_filter_before_a_network_widens_its_halo_by_whole_multiples(table, train):
    model = train(depth=2)
    pipeline = Pipeline([("filter", IsolatedFilter(45, 16)), ("model", model)])
    alone, together = (needs_of(one, facts_of(table)).halo_px for one in (model, pipeline))
    assert (alone, together) == (16, 24)
    whole = image_of(pipeline, table)
    assert difference(tile_by_tile(pipeline, table, 56), whole) <= ROUNDING


def test_tiles_put_together_and_scaled_are_what_predict_gives(table, train):
    within = table.select((table["z"] >= DEPTHS[0]) & (table["z"] <= DEPTHS[2]))
    model = train(within, depth=1, z_bins=DEPTHS[:3], tta=True)
    image, deviation = model.predict(table, return_deviation=True)

    def deviation_of(model, tile):
        return model.predict(tile, return_deviation=True, scale_to_mass=False)[1]

    raw, raw_deviation = (
        tile_by_tile(model, table, 56, image_of=of) for of in (image_of, deviation_of)
    )
    counts = tile_by_tile(model, table, 56, image_of=lambda model, tile: model.render_input(tile))
    factor = counts.sum() / raw.sum()
    assert counts.sum() == len(within) < len(table)
    assert factor == pytest.approx(image.attrs["mass_factor"], rel=1e-5)
    assert difference(factor * raw, image) <= 3e-5
    assert difference(factor * raw_deviation, deviation) <= 3e-5


def test_input_of_networks_is_rendered_like_their_output(table, train):
    model = train(depth=2)
    counts = model.render_input([table, table])
    assert len(counts) == 2
    np.testing.assert_array_equal(counts[0], Renderer(10).transform(table))
    assert counts[0].indexes["y"].equals(model.predict(table).indexes["y"])


def test_the_density_of_a_field_follows_from_its_cells(table):
    density, uncertainty = describe_table(table)
    assert typical_density(Renderer(CELL_SIZE).transform(table).to_numpy()) == density
    assert uncertainty == float(np.median(table["uncertainty_x"]))
    twice_on_half = np.array([[3, 0], [0, 1]])
    assert typical_density(twice_on_half) == pytest.approx(2.5 / 0.64**2)
    assert describe_table(table.select(slice(0, 0))) == (None, None)


def test_of_a_field_in_tiles_is_warned_once_and_not_of_each_tile(table, train):
    model = train(depth=1)
    thin = table.thin(0.05, random_state=0)
    uncertain = 10 * float(np.median(table["uncertainty_x"]))
    model.predict(thin, scale_to_mass=False)
    density = table.density
    model.warn_if_unfamiliar(density, uncertain / 10)
    model.warn_if_unfamiliar(None, None)
    with pytest.warns(UnfamiliarTableWarning, match="a.csv: its density .* below the least"):
        model.warn_if_unfamiliar(density / 20, None, "a.csv")
    with pytest.warns(UnfamiliarTableWarning, match="the field of view: its median uncertainty"):
        model.warn_if_unfamiliar(density, uncertain)
    model.set_params(pixel_size=20)
    model.predict(table, scale_to_mass=False)
    with pytest.warns(UnfamiliarTableWarning, match="pixel_size is 20 now") as caught:
        model.warn_if_unfamiliar(density, None)
    assert caught[0].filename == __file__


REFUSED = [
    (Thin(0.5), "Thin draws anew .* thin the whole table before"),
    (FrameWindow(0.5), r"no tile knows: give LocalizationFilter\(frame"),
    (Renderer(10, z_bins=4), "z_bins=4 slices would lie elsewhere .* give their edges"),
    (Renderer(10, channels="all"), "channels='all' would be others in every tile: list them"),
    (Renderer(10, grid=PixelGrid((0, 0), 10, (5, 5))), "give pixel_size instead of grid"),
    (Renderer(-1), "pixel_size must be a positive number, got -1"),
    (make_pipeline(Renderer(10), AdaptiveKDE(20)), "give reference in localizations per square"),
    (GaussianKDE(20), "GaussianKDE takes images, but tables reach it: put a Renderer before"),
    (AnisotropicKDE(), "AnisotropicKDE takes images, but tables reach it"),
    (make_pipeline(Renderer(10), IsolatedFilter()), "'isolatedfilter'.*takes tables, but images"),
    (make_pipeline(Renderer(10), IsolatedFilter(0)), "radius must be a positive number, got 0"),
    (IsolatedFilter(), r"IsolatedFilter\(\) makes no image of a table: put a Renderer last"),
    (Pipeline([("all", "passthrough")]), "makes no image of a table"),
]


@pytest.mark.parametrize(("estimator", "message"), REFUSED)
def test_what_cannot_be_done_tile_by_tile_says_what_to_do_instead(estimator, message):
    with pytest.raises(InvalidInputError, match=message):
        needs_of(estimator, TABLES)


def test_the_step_that_cannot_be_done_is_named():
    nested = Pipeline([("clean", make_pipeline(IsolatedFilter(), Thin())), ("draw", Renderer())])
    with pytest.raises(InvalidInputError, match="the step 'clean__thin' cannot work tile by tile"):
        needs_of(nested, TABLES)


def test_networks_that_cannot_work_on_tiles_say_why(train):
    with pytest.raises(NotFittedError):
        needs_of(N2NReconstructor(), TABLES)
    model = train(depth=1)
    with pytest.raises(InvalidInputError, match=r"n_splits=2 would split tiles .* set it to 0"):
        needs_of(model.set_params(n_splits=2), TABLES)
    model.set_params(n_splits=0)
    with pytest.raises(InvalidInputError, match="N2NReconstructor takes tables, but images reach"):
        needs_of(make_pipeline(Renderer(10), model), TABLES)


def test_gaussians_without_a_column_of_uncertainties_are_refused():
    with pytest.raises(InvalidInputError, match="no column 'uncertainty_y': give sigma in nm"):
        needs_of(Renderer(mode="gaussian"), NO_COLUMNS)
    assert needs_of(Renderer(mode="gaussian", sigma=3), NO_COLUMNS).reach == 34


def test_maxima_that_make_all_columns_up_are_taken():
    cut = make_pipeline(LocalizationFilter(photons=(None, 5)), Renderer(mode="gaussian"))
    assert needs_of(cut, FieldFacts(None, defaultdict(float))).reach == 10
    nothing = FieldFacts(None, {"uncertainty_x": -np.inf, "uncertainty_y": -np.inf})
    assert needs_of(cut, nothing).reach == 10


def test_a_filter_of_uncertainties_narrows_the_halo_of_gaussians():
    render = Renderer(pixel_size=10, mode="gaussian")

    def reach_with(**ranges):
        return needs_of(make_pipeline(LocalizationFilter(**ranges), render), TABLES).reach

    assert needs_of(render, TABLES).reach == 8 * 15 + 10
    assert reach_with(uncertainty_x=(1, 5)) == 8 * 12 + 10
    assert reach_with(uncertainty_x=(None, 5), uncertainty_y=(None, 6)) == 8 * 6 + 10
    assert reach_with(uncertainty_x=(1, None), uncertainty_y=(None, 20)) == 8 * 15 + 10
    filters = (LocalizationFilter(uncertainty_x=(0, high)) for high in (4, 13))
    twice = make_pipeline(*filters, render)
    lower_y = FieldFacts(None, {"uncertainty_x": 15.0, "uncertainty_y": 1.0})
    assert needs_of(twice, lower_y).reach == 8 * 4 + 10


class Shift(TransformerMixin, BaseEstimator):
    """What a user may write, on a coarser grid of tiles."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X

    def tile_needs(self, facts):
        return TileNeeds(7.0, 6, facts.pixel_size)


class Odd(Shift):
    def tile_needs(self, facts):
        return 5


def test_ones_own_steps_are_asked_like_the_others(train):
    assert needs_of(make_pipeline(Renderer(5), Shift()), TABLES) == TileNeeds(7.0, 6, 5.0)
    both = needs_of(make_pipeline(Shift(), train(depth=2)), TABLES)
    assert both.multiple == 12
    assert both.halo_px == 24


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (FunctionTransformer(), "'functiontransformer', FunctionTransformer, does not say what"),
        (Odd(), "tile_needs of the step 'odd' gives no TileNeeds but 5"),
    ],
)
def test_steps_that_do_not_say_what_they_need_are_refused(step, message):
    with pytest.raises(InvalidTypeError, match=message):
        needs_of(make_pipeline(Renderer(10), step), TABLES)


def test_an_estimator_alone_that_does_not_say_what_it_needs_is_named():
    with pytest.raises(InvalidTypeError, match="the step 'FunctionTransformer'"):
        needs_of(FunctionTransformer(), TABLES)


def test_the_reach_can_be_given():
    pipeline = make_pipeline(Renderer(10), GaussianKDE(20))
    own, given = needs_of(pipeline, TABLES), needs_of(pipeline, TABLES, reach=12)
    assert given == own._replace(reach=12.0)
    assert given.halo_px == 2
    with pytest.raises(InvalidInputError, match="reach must be a number from 0 on, got -1"):
        needs_of(pipeline, TABLES, reach=-1)


def test_needs_travel_to_workers():
    needs = needs_of(make_pipeline(LocalizationFilter(x=(0, 9)), Renderer(10)), TABLES)
    assert pickle.loads(pickle.dumps(needs)) == needs
