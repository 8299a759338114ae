import numpy as np
import pytest
from scipy import stats

from smlmkit.errors import InvalidInputError
from smlmkit.grid import FieldOfView
from smlmkit.nn.pairs import DynamicPairs, FixedPairs

FIELD = FieldOfView(-500.0, 2000.0, 2500.0, 6000.0)


def points_in(field, n, seed=0):
    # Not the generator of the pairs: coins that follow y would put the halves side by side.
    rng = np.random.default_rng([seed, n])
    return (
        rng.uniform(field.y_min, field.y_max, n),
        rng.uniform(field.x_min, field.x_max, n),
        field,
    )


def make_pairs(*fields, patch_size=16, pixel_size=50.0, keep=1.0, seed=0):
    return DynamicPairs(fields, patch_size=patch_size, pixel_size=pixel_size, keep=keep, seed=seed)


def make_fixed_pairs(*fields, patch_size=16, pixel_size=50.0, seed=0):
    return FixedPairs(fields, patch_size=patch_size, pixel_size=pixel_size, seed=seed)


either_strategy = pytest.mark.parametrize("make_pairs", [make_pairs, make_fixed_pairs])


def crop_by_formula(fields, patch_size, pixel_size, seed):
    """Draw the same crop as the kernel, from all points at once with numpy's own rotation."""
    rng = np.random.default_rng(seed)
    areas = np.cumsum([field.height * field.width for _, _, field in fields])
    y, x, field = fields[np.searchsorted(areas / areas[-1], rng.random(), side="right")]
    angle, flip = 2 * np.pi * rng.random(), -1 if rng.random() < 0.5 else 1
    half = patch_size * pixel_size / 2
    margin = np.sqrt(2) * half
    center_y = margin + rng.random() * (field.height - 2 * margin)
    center_x = margin + rng.random() * (field.width - 2 * margin)
    turned = (y - field.y_min - center_y + 1j * (x - field.x_min - center_x)) * np.exp(1j * angle)
    edges = np.linspace(-half, half, patch_size + 1)
    counts, _, _ = np.histogram2d(turned.real, flip * turned.imag, bins=[edges, edges])
    return counts


@pytest.mark.parametrize("seed", range(20))
def test_the_halves_together_are_the_rotated_mirrored_crop(seed):
    fields = [points_in(FIELD, 20_000), points_in(FieldOfView(0, 0, 3000, 1500), 9_000, seed=1)]
    inputs, targets = make_pairs(*fields, seed=seed).draw(1)
    assert inputs.shape == targets.shape == (1, 1, 16, 16)
    assert inputs.dtype == targets.dtype == np.float32
    expected = crop_by_formula(fields, 16, 50.0, seed)
    np.testing.assert_array_equal((inputs + targets)[0, 0], expected)


def test_each_localization_goes_to_one_half_and_five_percent_to_none():
    pairs = make_pairs(points_in(FIELD, 50_000), keep=0.95)
    everything = make_pairs(points_in(FIELD, 50_000), keep=1.0)
    inputs, targets = pairs.draw(400)
    total = sum(half.sum() for half in everything.draw(400))
    # Binomial: 400 crops of about 2,700 points.
    assert inputs.sum() / total == pytest.approx(0.475, abs=0.01)
    assert targets.sum() / total == pytest.approx(0.475, abs=0.01)


def test_halves_are_independent_draws():
    # One point in the middle of a field that a crop always covers: it is never in both halves.
    middle = (np.array([500.0]), np.array([500.0]), FieldOfView(0, 0, 1000, 1000))
    inputs, targets = make_pairs(middle, patch_size=32, pixel_size=20.0, keep=0.95).draw(1000)
    n_inputs, n_targets = inputs.sum(axis=(1, 2, 3)), targets.sum(axis=(1, 2, 3))
    assert set(n_inputs) <= {0, 1}
    assert np.all(n_inputs + n_targets <= 1)
    # Crops with an empty input are drawn again, up to 20 times: 0.525^20 of them stay.
    assert n_inputs.mean() > 0.99


def test_angles_are_uniform_and_half_of_the_crops_are_mirrored():
    # An arrow: the angle is that of the long edge, the hand that of the third point.
    y, x = np.array([1500.0, 1500.0, 1700.0]), np.array([1500.0, 2100.0, 1500.0])
    pairs = make_pairs(
        (y, x, FieldOfView(0, 0, 3000, 3600)), patch_size=256, pixel_size=5.0, seed=3
    )
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


def test_fixed_pairs_of_a_field_as_large_as_a_patch_are_two_halves_in_sixteen_ways():
    y, x, field = points_in(FieldOfView(-500, 2000, 300, 2800), 3000)
    halves = np.concatenate(make_fixed_pairs((y, x, field), seed=1).draw(1))[:, 0]
    edges = [np.linspace(-500, 300, 17), np.linspace(2000, 2800, 17)]
    whole, _, _ = np.histogram2d(y, x, bins=edges)
    assert any(np.array_equal(halves.sum(axis=0), crop) for crop in orientations(whole))
    assert stats.binomtest(int(halves[0].sum()), 3000).pvalue > 0.01
    ways = [way.tobytes() for pair in (halves, halves[::-1]) for way in orientations(pair)]
    inputs, targets = make_fixed_pairs((y, x, field), seed=1).draw(1600)
    drawn = [pair.tobytes() for pair in np.concatenate([inputs, targets], axis=1)]
    assert len(set(ways)) == 16
    assert set(drawn) == set(ways)
    assert stats.chisquare([drawn.count(way) for way in ways]).pvalue > 0.01


def test_crops_of_fixed_pairs_lie_at_every_pixel_alike_and_the_halves_stay():
    # The last row and column of pixels reach past the field: the grid is that of a rendering.
    y, x, field = points_in(FieldOfView(0, 0, 990, 1195), 20_000)
    counts, _, _ = np.histogram2d(y, x, bins=[np.arange(0, 1001, 50), np.arange(0, 1201, 50)])
    place_of = {
        turned.astype(np.float32).tobytes(): (top, left)
        for top in range(20 - 16 + 1)
        for left in range(24 - 16 + 1)
        for turned in orientations(counts[top : top + 16, left : left + 16])
    }
    assert len(place_of) == 8 * 5 * 9
    pairs_at = {crop: [] for crop in place_of}
    inputs, targets = make_fixed_pairs((y, x, field)).draw(4500)
    for one, other in zip(inputs, targets, strict=True):
        pairs_at[(one + other).tobytes()].append(frozenset((one.tobytes(), other.tobytes())))
    n_at = dict.fromkeys(place_of.values(), 0)
    for crop, pairs in pairs_at.items():
        assert len(set(pairs)) == 1
        n_at[place_of[crop]] += len(pairs)
    assert stats.chisquare(list(n_at.values())).pvalue > 0.01


def test_one_localization_is_the_input_of_nearly_all_fixed_pairs():
    single = (np.array([500.0]), np.array([500.0]), FieldOfView(0, 0, 1000, 1000))
    inputs, targets = make_fixed_pairs(single, patch_size=20).draw(1000)
    # The half without it is drawn again where it would be the input.
    assert inputs.sum() == 1000
    assert not targets.any()


@either_strategy
def test_the_target_of_a_sparse_crop_is_unbiased(make_pairs):
    # 1.5 localizations a crop: choosing crops by these would raise the targets by 1.29.
    field = FieldOfView(0, 0, 20_000, 20_000)
    n_points = int(1.5 * (20_000 / 200) ** 2)
    means = []
    for seed in range(3):
        points = points_in(field, n_points, seed=seed)
        inputs, targets = make_pairs(points, patch_size=4, seed=seed).draw(3000)
        assert np.count_nonzero(inputs.any(axis=(1, 2, 3))) > 2990
        means.append(targets.sum(axis=(1, 2, 3)).mean())
    assert np.mean(means) == pytest.approx(0.75, abs=0.05)


@either_strategy
def test_same_seed_same_pairs_however_they_are_batched(make_pairs):
    fields = points_in(FIELD, 5_000)
    together = make_pairs(fields).draw(6)
    pairs = make_pairs(fields)
    one_by_one = [
        np.concatenate(half) for half in zip(*(pairs.draw(2) for _ in range(3)), strict=True)
    ]
    np.testing.assert_array_equal(together, one_by_one)
    assert not np.array_equal(together, make_pairs(fields, seed=1).draw(6))


def test_the_strategies_differ():
    dynamic, fixed = (make(points_in(FIELD, 5_000)) for make in (make_pairs, make_fixed_pairs))
    assert not np.array_equal(dynamic.draw(6), fixed.draw(6))


@either_strategy
def test_fields_are_drawn_in_proportion_to_their_area(make_pairs):
    thin = points_in(FieldOfView(0, 0, 2000, 2000), 2_000)
    dense = points_in(FieldOfView(0, 0, 6000, 2000), 60_000)
    inputs, targets = make_pairs(thin, dense).draw(2000)
    # A crop of the thin field holds 320 points, one of the dense field 3,200.
    from_dense = (inputs + targets).sum(axis=(1, 2, 3)) > 1000
    assert stats.binomtest(int(from_dense.sum()), 2000, p=0.75).pvalue > 0.01


@either_strategy
def test_a_field_that_an_outlier_blows_up_is_refused(make_pairs):
    huge = points_in(FieldOfView(0, 0, 1e9, 1e9), 10)
    with pytest.raises(InvalidInputError, match="too large to train on"):
        make_pairs(huge)


def test_a_field_too_small_for_a_rotated_patch_is_named():
    good = points_in(FIELD, 100)
    small = points_in(FieldOfView(0, 0, 3000, 1000), 100)
    with pytest.raises(InvalidInputError, match=r"field of view 1 is 3000 x 1000 nm.*1131 nm"):
        make_pairs(good, small)
    make_pairs(points_in(FieldOfView(0, 0, 1132, 1132), 100)).draw(4)


def test_a_field_too_small_for_a_fixed_patch_is_named():
    good = points_in(FIELD, 100)
    small = points_in(FieldOfView(0, 0, 3000, 799), 100)
    with pytest.raises(
        InvalidInputError, match=r"view 1 is 3000 x 799 nm: a patch of 16 px of 50 nm needs 800 nm"
    ):
        make_fixed_pairs(good, small)
    # In floating-point numbers, 3 * 0.1 is more than 0.3.
    make_fixed_pairs(points_in(FieldOfView(0, 0, 0.3, 0.3), 9), patch_size=3, pixel_size=0.1)


@either_strategy
def test_nothing_to_learn_from(make_pairs):
    with pytest.raises(InvalidInputError, match="no localizations to learn from"):
        make_pairs(points_in(FIELD, 0))
