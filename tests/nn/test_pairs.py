import json

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import map_coordinates

from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView, PixelGrid
from smlmkit.nn.clouds import PointCloud, TargetImage
from smlmkit.nn.pairs import CropPairs, Draw

FIELD = FieldOfView(-500.0, 2000.0, 2500.0, 6000.0)


def cloud_in(field, n, seed=0, **columns):
    # Not the generator of the pairs: coins that follow y would put the halves side by side.
    rng = np.random.default_rng([seed, n, 1])
    y = rng.uniform(field.y_min, field.y_max, n)
    return PointCloud(y, rng.uniform(field.x_min, field.x_max, n), field, **columns)


def ticketed(field, n, seed=0):
    return cloud_in(field, n, seed, ticket=np.random.default_rng([seed, n, 2]).random(n))


def halves(keep):
    return lambda uniform: np.tile([[0, keep / 2], [keep / 2, keep]], (len(uniform), 1, 1))


def either_half(uniform):
    lower, upper = [0, 0.5], [0.5, 1]
    return np.where(uniform[:, :1, None] < 0.5, [lower, upper], [upper, lower])


def only_input(uniform):
    return np.tile([[0.0, 1.0], [0.0, 0.0]], (len(uniform), 1, 1))


def random_share(uniform):
    intervals = np.zeros((len(uniform), 2, 2))
    intervals[:, 0, 1] = uniform[:, 0]
    return intervals


def make_pairs(*clouds, keep=1.0, draw=None, targets=None, patch_size=16, pixel_size=50.0, **more):
    draw = draw or Draw(halves(keep))
    sizes = {"patch_size": patch_size, "pixel_size": pixel_size}
    return CropPairs(clouds, draw, targets, **sizes, **{"seed": 0, **more})


def make_aligned_pairs(*clouds, **more):
    return make_pairs(*clouds, draw=Draw(either_half, lot=0.0, aligned=True), **more)


either_kind = pytest.mark.parametrize(
    ("make_pairs", "make_cloud"), [(make_pairs, cloud_in), (make_aligned_pairs, ticketed)]
)


class CropByFormula:
    """The crop that the kernel draws first, with numpy's own rotation of complex numbers."""

    def __init__(self, boxes, patch_size, pixel_size, seed):
        rng = np.random.default_rng(seed)
        areas = np.cumsum([box.height * box.width for box in boxes])
        self.field = int(np.searchsorted(areas / areas[-1], rng.random(), side="right"))
        box = boxes[self.field]
        self.turn, self.flip = np.exp(2j * np.pi * rng.random()), -1 if rng.random() < 0.5 else 1
        half = patch_size * pixel_size / 2
        margin = np.sqrt(2) * half
        y = box.y_min + margin + rng.random() * (box.height - 2 * margin)
        x = box.x_min + margin + rng.random() * (box.width - 2 * margin)
        self.center, self.edges = y + 1j * x, np.linspace(-half, half, patch_size + 1)

    def count(self, cloud, rows=slice(None)):
        turned = (cloud.y[rows] + 1j * cloud.x[rows] - self.center) * self.turn
        return np.histogram2d(turned.real, self.flip * turned.imag, bins=[self.edges] * 2)[0]

    def sample(self, image):
        centers = (self.edges[:-1] + self.edges[1:]) / 2
        down, across = np.meshgrid(centers, self.flip * centers, indexing="ij")
        place = self.center + (down + 1j * across) / self.turn
        (y, x), size = image.grid.origin, image.grid.pixel_size
        places = [(place.real - y) / size - 0.5, (place.imag - x) / size - 0.5]
        area = ((centers[1] - centers[0]) / size) ** 2
        return [area * map_coordinates(p, places, order=1, mode="nearest") for p in image.pixels]


def random_image(box, size):
    """Make an image of two planes whose pixels lie askew to the field's corner."""
    shape = (int(np.ceil(box.height / size)), int(np.ceil(box.width / size)))
    pixels = np.random.default_rng(2).random((2, *shape), dtype=np.float32)
    corner = (box.y_min - 0.3 * size, box.x_min + 0.4 * size)
    return TargetImage(pixels, PixelGrid(corner, size, shape))


SMALL_FIELD = FieldOfView(0, 0, 3000, 1500)
BOXES = [FIELD, SMALL_FIELD]
seeds = pytest.mark.parametrize("seed", range(20))


@seeds
def test_the_halves_together_are_the_rotated_mirrored_crop(seed):
    clouds = [cloud_in(FIELD, 20_000), cloud_in(SMALL_FIELD, 9_000)]
    inputs, targets = make_pairs(*clouds, seed=seed).draw(1)
    assert inputs.shape == targets.shape == (1, 1, 16, 16)
    assert inputs.dtype == targets.dtype == np.float32
    crop = CropByFormula(BOXES, 16, 50.0, seed)
    np.testing.assert_array_equal((inputs + targets)[0, 0], crop.count(clouds[crop.field]))


@seeds
def test_a_second_cloud_is_counted_in_the_same_crop_plane_by_plane(seed):
    planes = np.random.default_rng(1).integers(0, 3, 20_000, dtype=np.int32)
    sparse = [cloud_in(box, 2_000, plane=planes[:2_000]) for box in BOXES]
    dense = [cloud_in(box, 20_000, plane=planes) for box in BOXES]
    draw = Draw(only_input)
    pairs = make_pairs(*sparse, draw=draw, targets=dense, n_slices=3, seed=seed)
    inputs, targets = pairs.draw(1)
    assert inputs.shape == targets.shape == (1, 3, 16, 16)
    crop = CropByFormula(BOXES, 16, 50.0, seed)
    for images, cloud in ((inputs, sparse[crop.field]), (targets, dense[crop.field])):
        expected = [crop.count(cloud, cloud.plane == plane) for plane in range(3)]
        np.testing.assert_array_equal(images[0], expected)


@seeds
@pytest.mark.parametrize("size", [50.0, 20.0, 130.0])
def test_an_image_is_sampled_at_the_centres_of_the_pixels_of_the_same_crop(seed, size):
    images = [random_image(box, size) for box in BOXES]
    clouds = [cloud_in(box, 9_000) for box in BOXES]
    pairs = make_pairs(*clouds, draw=Draw(only_input), targets=images, n_slices=2, seed=seed)
    inputs, targets = pairs.draw(1)
    crop = CropByFormula(BOXES, 16, 50.0, seed)
    np.testing.assert_array_equal(inputs[0, 0], crop.count(clouds[crop.field]))
    np.testing.assert_allclose(targets[0], crop.sample(images[crop.field]), rtol=1e-5)


def test_samples_of_an_image_do_not_reach_beyond_its_border():
    # The least field that holds the crop: in the corners of it, crops meet the border of the image.
    box = FieldOfView(0, 0, 1132, 1132)
    image = TargetImage(np.ones((1, 11, 11), np.float32), PixelGrid((50, 50), 100, (11, 11)))
    pairs = make_pairs(cloud_in(box, 99), draw=Draw(only_input), targets=[image])
    _, targets = pairs.draw(50)
    np.testing.assert_allclose(targets, 0.25, rtol=1e-6)


def test_each_localization_goes_to_one_half_and_five_percent_to_none():
    pairs = make_pairs(cloud_in(FIELD, 50_000), keep=0.95)
    everything = make_pairs(cloud_in(FIELD, 50_000), keep=1.0)
    inputs, targets = pairs.draw(400)
    total = sum(half.sum() for half in everything.draw(400))
    # Binomial: 400 crops of about 2,700 points.
    assert inputs.sum() / total == pytest.approx(0.475, abs=0.01)
    assert targets.sum() / total == pytest.approx(0.475, abs=0.01)


def test_halves_are_independent_draws():
    # One point in the middle of a field that a crop always covers: it is never in both halves.
    middle = PointCloud(np.array([500.0]), np.array([500.0]), FieldOfView(0, 0, 1000, 1000))
    inputs, targets = make_pairs(middle, patch_size=32, pixel_size=20.0, keep=0.95).draw(1000)
    n_inputs, n_targets = inputs.sum(axis=(1, 2, 3)), targets.sum(axis=(1, 2, 3))
    assert set(n_inputs) <= {0, 1}
    assert np.all(n_inputs + n_targets <= 1)
    # Crops with an empty input are drawn again, up to 20 times: 0.525^20 of them stay.
    assert n_inputs.mean() > 0.99


def test_a_ticket_is_its_own_one_and_a_lot():
    # Two points in the middle, with the tickets 0 and 0.5 and half a lot: each stays in its half.
    at, box = np.array([495.0, 505.0]), FieldOfView(0, 0, 1000, 1000)
    cloud = PointCloud(at, at, box, np.array([0, 1], np.int32), np.array([0.0, 0.5]))

    def draw_totals(lot):
        draw = Draw(lambda uniform: np.tile([[0, 0.4], [0.5, 0.9]], (len(uniform), 1, 1)), lot)
        pairs = make_pairs(cloud, draw=draw, patch_size=32, pixel_size=20.0, n_slices=2)
        return [images.sum(axis=(0, 2, 3)).tolist() for images in pairs.draw(1000)]

    assert draw_totals(0.0) == [[1000, 0], [0, 1000]]
    (inputs, stray), (other_stray, targets) = draw_totals(0.5)
    assert (inputs, stray, other_stray) == (1000, 0, 0)
    assert stats.binomtest(int(targets), 1000, p=0.8).pvalue > 0.01


def test_angles_are_uniform_and_half_of_the_crops_are_mirrored():
    # An arrow: the angle is that of the long edge, the hand that of the third point.
    y, x = np.array([1500.0, 1500.0, 1700.0]), np.array([1500.0, 2100.0, 1500.0])
    arrow = PointCloud(y, x, FieldOfView(0, 0, 3000, 3600))
    pairs = make_pairs(arrow, patch_size=256, pixel_size=5.0, seed=3)
    angles, hands = [], []
    for _ in range(600):
        crop = sum(pairs.draw(1))[0, 0]
        points = np.argwhere(crop) * 5.0
        if len(points) < 3 or crop.max() > 1:
            continue  # part of the arrow lies outside of this crop
        distance = np.hypot(*(points[:, None] - points[None]).transpose(2, 0, 1))
        corner = int(np.argmin(distance.max(axis=1)))  # the corner is nearest to its farthest
        tip = int(np.argmax(distance[corner]))
        side = 3 - corner - tip
        assert distance[corner, tip] == pytest.approx(600, abs=10)
        assert distance[corner, side] == pytest.approx(200, abs=10)
        long, short = points[tip] - points[corner], points[side] - points[corner]
        angles.append(np.arctan2(*long))
        hands.append(np.sign(long[0] * short[1] - long[1] * short[0]))
    assert len(angles) > 100
    assert stats.kstest(angles, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 0.01
    assert stats.binomtest(hands.count(1.0), len(hands)).pvalue > 0.01


def orientations(crop):
    """Give the eight flips and quarter turns of a crop, or of a pair of crops alike."""
    return [
        np.rot90(flipped, n_turns, axes=(-2, -1))
        for flipped in (crop, np.swapaxes(crop, -2, -1))
        for n_turns in range(4)
    ]


def test_aligned_pairs_of_a_field_as_large_as_a_patch_are_two_halves_in_sixteen_ways():
    # Whole nm: many points lie on the edges of pixels, and stay in theirs in every orientation.
    field = FieldOfView(-500, 2000, 300, 2800)
    cloud = ticketed(field, 3000)
    cloud = PointCloud(np.floor(cloud.y), np.floor(cloud.x), field, None, cloud.ticket)
    edges = [np.linspace(-500, 300, 17), np.linspace(2000, 2800, 17)]
    counts = [
        np.histogram2d(cloud.y[rows], cloud.x[rows], bins=edges)[0].astype(np.float32)
        for rows in (cloud.ticket < 0.5, cloud.ticket >= 0.5)
    ]
    ways = [way.tobytes() for pair in (counts, counts[::-1]) for way in orientations(pair)]
    drawn = np.stack(make_aligned_pairs(cloud).draw(3000), axis=1)
    drawn = [pair.tobytes() for pair in drawn]
    assert len(set(ways)) == 16
    assert set(drawn) == set(ways)
    assert stats.chisquare([drawn.count(way) for way in ways]).pvalue > 0.01


def test_aligned_crops_lie_at_every_pixel_alike_and_the_halves_stay():
    # The last row and column of pixels reach past the field: the grid is that of a rendering.
    cloud = ticketed(FieldOfView(0, 0, 990, 1195), 4_000)
    edges = [np.arange(0, 1001, 50), np.arange(0, 1201, 50)]
    counts, _, _ = np.histogram2d(cloud.y, cloud.x, bins=edges)
    place_of = {
        turned.astype(np.float32).tobytes(): (top, left)
        for top in range(20 - 16 + 1)
        for left in range(24 - 16 + 1)
        for turned in orientations(counts[top : top + 16, left : left + 16])
    }
    assert len(place_of) == 8 * 5 * 9
    pairs_at = {crop: [] for crop in place_of}
    inputs, targets = make_aligned_pairs(cloud).draw(4500)
    for one, other in zip(inputs, targets, strict=True):
        pairs_at[(one + other).tobytes()].append(frozenset((one.tobytes(), other.tobytes())))
    n_at = dict.fromkeys(place_of.values(), 0)
    for crop, pairs in pairs_at.items():
        assert len(set(pairs)) == 1
        n_at[place_of[crop]] += len(pairs)
    assert stats.chisquare(list(n_at.values())).pvalue > 0.01


def test_one_localization_is_the_input_of_nearly_all_pairs_of_halves_that_stay():
    at, box = np.array([500.0]), FieldOfView(0, 0, 1000, 1000)
    intervals = np.array([[[0, 0.5], [0.5, 1]]])
    always_the_first = Draw(lambda uniform: intervals.repeat(len(uniform), 0), 0.0, aligned=True)
    one, other = (PointCloud(at, at, box, None, np.array([ticket])) for ticket in (0.2, 0.7))
    inputs, targets = make_pairs(one, other, draw=always_the_first, patch_size=20).draw(1000)
    # A crop of the field with an empty input is drawn again, from the other field at last.
    assert inputs.sum() == 1000
    assert not targets.any()


@either_kind
def test_the_target_of_a_sparse_crop_is_unbiased(make_pairs, make_cloud):
    # 1.5 localizations a crop: choosing crops by these would raise the targets by 1.29.
    field = FieldOfView(0, 0, 20_000, 20_000)
    n_points = int(1.5 * (20_000 / 200) ** 2)
    means = []
    for seed in range(3):
        cloud = make_cloud(field, n_points, seed)
        inputs, targets = make_pairs(cloud, patch_size=4, seed=seed).draw(3000)
        assert np.count_nonzero(inputs.any(axis=(1, 2, 3))) > 2990
        means.append(targets.sum(axis=(1, 2, 3)).mean())
    assert np.mean(means) == pytest.approx(0.75, abs=0.05)


@either_kind
def test_same_seed_same_pairs_however_they_are_batched(make_pairs, make_cloud):
    cloud = make_cloud(FIELD, 5_000)
    together = make_pairs(cloud).draw(6)
    pairs = make_pairs(cloud)
    in_batches = [np.concatenate(half) for half in zip(*map(pairs.draw, (1, 3, 2)), strict=True)]
    np.testing.assert_array_equal(together, in_batches)
    assert not np.array_equal(together, make_pairs(cloud, seed=1).draw(6))


def test_intervals_are_those_of_the_sample_however_it_is_batched():
    # Sparse: crops are drawn anew, each with the interval of its sample.
    cloud, draw = cloud_in(FIELD, 200), Draw(random_share)
    together = make_pairs(cloud, draw=draw).draw(40)
    pairs = make_pairs(cloud, draw=draw)
    drawn = zip(*(pairs.draw(1) for _ in range(40)), strict=True)
    one_by_one = [np.concatenate(half) for half in drawn]
    np.testing.assert_array_equal(together, one_by_one)


def test_an_interval_stays_where_a_crop_is_drawn_anew():
    n_points = 40
    at = np.full(n_points, 500.0)
    middle = PointCloud(at, at, FieldOfView(0, 0, 1000, 1000))
    pairs = make_pairs(middle, draw=Draw(random_share), patch_size=32, pixel_size=20.0)
    n_inputs = pairs.draw(4000)[0].sum(axis=(1, 2, 3))
    # One point at the m-th try: the integral of n u (1 - u)^(n m - 1) over shares u from 0 to 1.
    # If shares were drawn anew, too, all numbers from 1 to n would be as likely: 1 / n.
    tries = np.arange(1, 21)
    p = (1 / (tries * (n_points * tries + 1))).sum()
    assert p > 1.5 / n_points
    assert stats.binomtest(np.count_nonzero(n_inputs == 1), 4000, p=p).pvalue > 0.01


@either_kind
def test_pairs_go_on_from_a_state_that_went_through_json(make_pairs, make_cloud):
    pairs = make_pairs(make_cloud(FIELD, 5_000))
    pairs.draw(5)
    state = json.dumps(pairs.get_state())
    following = pairs.draw(7)
    others = make_pairs(make_cloud(FIELD, 5_000))
    others.set_state(json.loads(state))
    np.testing.assert_array_equal(others.draw(7), following)


@pytest.mark.parametrize("state", [{}, {"crops": {}, "intervals": {}}, {"crops": 1}, []])
def test_what_is_no_state_is_refused(state):
    with pytest.raises(InvalidInputError, match="no state of training pairs"):
        make_pairs(cloud_in(FIELD, 10)).set_state(state)


@either_kind
def test_fields_are_drawn_in_proportion_to_their_area(make_pairs, make_cloud):
    thin = make_cloud(FieldOfView(0, 0, 2000, 2000), 2_000)
    dense = make_cloud(FieldOfView(0, 0, 6000, 2000), 60_000)
    inputs, targets = make_pairs(thin, dense).draw(2000)
    # A crop of the thin field holds 320 points, one of the dense field 3,200.
    from_dense = (inputs + targets).sum(axis=(1, 2, 3)) > 1000
    assert stats.binomtest(int(from_dense.sum()), 2000, p=0.75).pvalue > 0.01


@either_kind
def test_a_field_that_an_outlier_blows_up_is_refused(make_pairs, make_cloud):
    huge = make_cloud(FieldOfView(0, 0, 1e9, 1e9), 10)
    with pytest.raises(InvalidInputError, match="too large to train on"):
        make_pairs(huge)


def test_a_field_too_small_for_a_rotated_patch_is_named():
    good = cloud_in(FIELD, 100)
    small = cloud_in(FieldOfView(0, 0, 3000, 1000), 100)
    with pytest.raises(InvalidInputError, match=r"field of view 1 is 3000 x 1000 nm.*1131 nm"):
        make_pairs(good, small)
    make_pairs(cloud_in(FieldOfView(0, 0, 1132, 1132), 100)).draw(4)


def test_a_field_too_small_for_an_aligned_patch_is_named():
    good = ticketed(FIELD, 100)
    small = ticketed(FieldOfView(0, 0, 3000, 799), 100)
    with pytest.raises(
        InvalidInputError, match=r"view 1 is 3000 x 799 nm: a patch of 16 px of 50 nm needs 800 nm"
    ):
        make_aligned_pairs(good, small)
    # In floating-point numbers, 3 * 0.1 is more than 0.3.
    tiny = ticketed(FieldOfView(0, 0, 0.3, 0.3), 9)
    make_aligned_pairs(tiny, patch_size=3, pixel_size=0.1).draw(4)


@either_kind
def test_nothing_to_learn_from(make_pairs, make_cloud):
    with pytest.raises(InvalidInputError, match="no localizations to learn from"):
        make_pairs(make_cloud(FIELD, 0))
