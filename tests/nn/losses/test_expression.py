import copy
import inspect
import pickle
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.nn.losses import (
    LOSS_NAMES,
    AreaFRCLoss,
    MSSSIMLoss,
    PoissonLoss,
    SSIMLoss,
    WeightedSum,
    check_loss,
    parse_loss,
)
from smlmkit.nn.losses.pixelwise import SmoothL1Loss

CLASSES = {
    "smooth_l1": SmoothL1Loss,
    "l1": nn.L1Loss,
    "mse": nn.MSELoss,
    "poisson": PoissonLoss,
    "ssim": SSIMLoss,
    "ms_ssim": MSSSIMLoss,
    "frc": AreaFRCLoss,
}
NUMBERS = st.floats(1e-30, 1e30)
OPTIONS = {
    "smooth_l1": {"beta": NUMBERS},
    "l1": {},
    "mse": {},
    "poisson": {"least_rate": NUMBERS},
    "ssim": {},
    "ms_ssim": {"scales": st.one_of(st.none(), st.integers(1, 5))},
    "frc": {
        "cutoff": st.floats(1e-3, 0.5),
        "signed": st.booleans(),
        "window": st.sampled_from([None, "tukey"]),
    },
}


def images_of(n, *, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    rates = 3 * torch.rand(n, 2, 48, 48, generator=generator)
    return rates.to(dtype), torch.poisson(rates, generator=generator).to(dtype)


@st.composite
def terms_in_words(draw):
    """Draw a term: its text, factor, name and options."""
    name = draw(st.sampled_from(LOSS_NAMES))
    options = draw(st.fixed_dictionaries({}, optional=OPTIONS[name]))
    factor = draw(st.one_of(st.none(), NUMBERS, st.integers(1, 1000)))
    space = st.sampled_from(["", " ", "\t", " \n  "])
    symbols = [] if factor is None else [repr(factor), "*"]
    symbols.append(name)
    for i, (option, value) in enumerate(draw(st.permutations(list(options.items())))):
        words = repr(value).strip("'")
        symbols += ["," if i else "(", option, "=", draw(st.sampled_from([words, words.lower()]))]
    symbols += [")"] if options else []
    text = "".join(draw(space) + symbol for symbol in symbols) + draw(space)
    return text, 1.0 if factor is None else factor, name, options


class TestParsing:
    @given(st.lists(terms_in_words(), min_size=1, max_size=4))
    def test_finds_the_terms_that_were_written(self, terms):
        loss = parse_loss("+".join(text for text, *_ in terms), data_range=3)
        assert loss.factors == tuple(factor for _, factor, _, _ in terms)
        assert [type(term) for term in loss.losses] == [CLASSES[name] for _, _, name, _ in terms]
        for term, (_, _, name, options) in zip(loss.losses, terms, strict=True):
            assert {option: getattr(term, option) for option in options} == options
            for option in OPTIONS[name].keys() - options.keys():
                default = inspect.signature(CLASSES[name]).parameters[option].default
                assert getattr(term, option) == default
            assert getattr(term, "data_range", 3) == 3

    @given(st.text(alphabet="l1 frc+*().,=2e\t\n√٣'\0", max_size=30))
    def test_of_any_text_gives_a_loss_or_tells_the_place(self, text):
        try:
            problem = None
            parse_loss(text, data_range=1)
        except InvalidInputError as error:
            problem = str(error)
        assert problem is None or re.match(r"loss ('.*'|\".*\"), at character \d+: ", problem)

    def test_takes_the_same_loss_twice(self):
        loss = parse_loss("frc(cutoff=0.2) + frc(cutoff=0.5)", data_range=1)
        assert [term.cutoff for term in loss.losses] == [0.2, 0.5]

    @pytest.mark.parametrize("name", [name for name in LOSS_NAMES if name not in ("l1", "mse")])
    def test_knows_all_options_of_a_loss(self, name):
        parameters = set(inspect.signature(CLASSES[name]).parameters) - {"data_range"}
        assert parameters == OPTIONS[name].keys()

    @pytest.mark.parametrize(
        ("text", "character", "problem"),
        [
            ("", 1, r"expected a loss \(smooth_l1, l1, mse, .*\), got the end"),
            ("  ", 3, "expected a loss .*, got the end"),
            ("l1 +", 5, "expected a loss .*, got the end"),
            ("+ l1", 1, r"expected a loss .*, got '\+'"),
            ("l1 + + l1", 6, r"expected a loss .*, got '\+'"),
            ("2l1", 2, r"expected '\*' between a factor and its loss, got 'l1'"),
            ("2", 2, r"expected '\*' between a factor and its loss, got the end"),
            ("2*3*l1", 3, "expected a loss .*, got '3'"),
            ("l1*2", 3, r"expected '\+' or the end, got '\*'"),
            ("l1 l1", 4, r"expected '\+' or the end, got 'l1'"),
            ("l1 - frc", 4, "'-' has no meaning here"),
            ("-1*l1", 1, "'-' has no meaning here"),
            ("0*l1", 1, "a factor must be a positive finite number, got 0"),
            ("l1+1e999*l1", 4, "a factor must be a positive finite number, got 1e999"),
            ("1e-999*l1", 1, "a factor must be a positive finite number, got 1e-999"),
            ("l1+nan*frc", 4, "there is no loss 'nan'; there are smooth_l1, l1, mse, poisson"),
            ("inf*l1", 1, "there is no loss 'inf'; there are .*ssim, ms_ssim, frc$"),
            ("L1", 1, "there is no loss 'L1'; there are"),
            ("__import__('os')", 1, "there is no loss '__import__'"),
            ("l1('os')", 4, '"\'" has no meaning here'),
            ("l1.forward", 3, r"'\.' has no meaning here"),
            ("(l1)", 1, r"expected a loss .*, got '\('"),
            ("(" * 900, 1, r"expected a loss .*, got '\('"),
            ("frc" + "(" * 900, 5, "expected an option: frc has the options cutoff, signed, wind"),
            ("frc((cutoff=0.5))", 5, r"expected an option: .*, got '\('"),
            ("frc()", 5, r"expected an option: .*, got '\)'"),
            ("frc(cutoff=0.5", 15, r"expected ',' or '\)', got the end"),
            ("frc(cutoff=0.5,)", 16, r"expected an option: .*, got '\)'"),
            ("frc(0.5)", 5, "expected an option: .*, got '0.5'"),
            ("frc(cutoff)", 11, r"expected '=' after the option's name, got '\)'"),
            ("frc(cutoff=)", 12, "expected a number, true, false, none or a word, got"),
            ("frc(cutoff=-1)", 12, "'-' has no meaning here"),
            ("frc(cutof=0.5)", 5, "there is no option 'cutof': frc has the options cutoff"),
            ("frc(cutoff=0.5, cutoff=0.5)", 17, "the option 'cutoff' is given twice"),
            ("l1(reduction=sum)", 4, "there is no option 'reduction': l1 has no options"),
            ("ssim(data_range=3)", 6, "there is no option 'data_range': ssim has no options"),
            ("l1 + frc(cutoff=3)", 6, r"frc: cutoff must be in \(0, 0\.5\], got 3"),
            ("frc(cutoff=true)", 1, "frc: cutoff must be in .*, got True"),
            ("frc(signed=none)", 1, "frc: signed must be True or False, got None"),
            ("frc(window=hann)", 1, "frc: window must be 'tukey' or None, got 'hann'"),
            ("ms_ssim(scales=2.5)", 1, "ms_ssim: scales must be a whole number from 1 to 5"),
            ("ms_ssim(scales=" + "9" * 900 + ")", 1, "ms_ssim: scales must be a whole number"),
            ("smooth_l1(beta=" + "9" * 900 + ")", 1, "smooth_l1: beta must be a positive number"),
            ("smooth_l1(beta=0)", 1, "smooth_l1: beta must be a positive number, got 0"),
            ("poisson(least_rate=none)", 1, "poisson: least_rate must be a positive number"),
            ("l1 + ٣*frc", 6, "'٣' has no meaning here"),
            ("l1\0", 3, r"'\\x00' has no meaning here"),
        ],
    )
    def test_tells_where_a_text_is_wrong(self, text, character, problem):
        for refuse in (check_loss, lambda text: parse_loss(text, data_range=1)):
            with pytest.raises(InvalidInputError, match=problem) as caught:
                refuse(text)
            quoted = text if len(text) <= 80 else f"{text[:80]}..."
            assert str(caught.value).startswith(f"loss {quoted!r}, at character {character}: ")
            assert len(str(caught.value)) < 300

    def test_refuses_a_text_without_end(self):
        longest = "+".join(["l1"] * 333)
        assert len(parse_loss(longest, data_range=1).factors) == 333
        with pytest.raises(InvalidInputError, match=r"must end within 1,000 characters, got 3,000"):
            check_loss("l1+" * 1_000_000)

    @pytest.mark.parametrize(("text", "got"), [(None, "NoneType"), (1, "int"), (b"l1", "bytes")])
    def test_refuses_what_is_no_text(self, text, got):
        with pytest.raises(InvalidTypeError, match=f"loss must be a string such as .*, got {got}"):
            check_loss(text)

    @pytest.mark.parametrize("data_range", [0, -1, None])
    def test_refuses_a_range_that_is_not_positive_whether_needed_or_not(self, data_range):
        with pytest.raises(InvalidInputError, match="data_range must be a positive number"):
            parse_loss("l1", data_range=data_range)


class TestWeightedSum:
    def test_adds_each_loss_times_its_factor(self):
        images = images_of(3)
        terms = [MSSSIMLoss(2, scales=2), AreaFRCLoss(0.5, signed=False), nn.L1Loss(), nn.MSELoss()]
        terms += [PoissonLoss(0.5), SSIMLoss(2)]
        expected = sum(
            factor * term(*images).item()
            for factor, term in zip((1, 0.5, 0.1, 2, 3e-1, 1), terms, strict=True)
        )
        text = "ms_ssim(scales=2) + 0.5*frc(cutoff=0.5, signed=false) + .1*l1 + 2.*mse"
        result = parse_loss(f"{text} + 3e-1*poisson(least_rate=0.5)+ssim", data_range=2)(*images)
        assert result.item() == pytest.approx(expected, rel=1e-6)
        assert result.shape == ()
        assert result.dtype == torch.float32

    @pytest.mark.parametrize("name", LOSS_NAMES)
    def test_of_a_batch_is_the_mean_over_its_parts(self, name):
        loss = parse_loss(f"0.5 * {name}", data_range=2)
        predictions, targets = images_of(6, dtype=torch.float64)
        predictions[0], targets[1], targets[2] = 0, 0, -targets[2]  # images unlike the others
        whole = predictions.clone().requires_grad_()
        expected = loss(whole, targets)
        expected.backward()
        parts = predictions.clone().requires_grad_()
        total = 0.0
        for some in (slice(0, 2), slice(2, 4), slice(4, 6)):
            part = loss(parts[some], targets[some]) / 3
            part.backward()
            total += part.item()
        assert total == pytest.approx(expected.item(), rel=1e-12)
        torch.testing.assert_close(parts.grad, whole.grad)
        assert whole.grad[3:].flatten(1).any(1).all()

    @pytest.mark.parametrize("name", LOSS_NAMES)
    def test_computes_in_float32_under_autocast_and_for_half_precision(self, name):
        loss = parse_loss(name, data_range=2)
        images = images_of(2, dtype=torch.bfloat16)
        expected = loss(*(image.float() for image in images))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            results = loss(*images), loss(*(image.float() for image in images))
        for result in results:
            assert result.dtype == torch.float32
            assert result == expected

    def test_switches_autocast_off_for_losses_that_do_not(self):
        class Product(nn.Module):
            def forward(self, first, second):
                return (first @ second).mean()

        images = images_of(1)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = WeightedSum([(1, Product())])(*images)
        assert result == Product()(*images)

    @pytest.mark.parametrize("name", LOSS_NAMES)
    def test_keeps_float64(self, name):
        predictions, targets = images_of(2, dtype=torch.float64)
        assert parse_loss(name, data_range=2)(predictions, targets.float()).dtype == torch.float64

    def test_runs_on_devices_without_autocast(self):
        images = [image.to("meta") for image in images_of(2)]
        assert parse_loss("l1 + ms_ssim + frc", data_range=2)(*images).device.type == "meta"

    def test_shows_its_terms_and_lives_on_as_copy_and_pickle(self):
        loss = parse_loss("ms_ssim + 0.1*l1+ 2 * frc", data_range=4)
        shown = "WeightedSum(MSSSIMLoss(data_range=4.0, scales=None) + 0.1 * L1Loss() + 2.0 * "
        shown += "AreaFRCLoss(cutoff=0.2, signed=True, window='tukey'))"
        images = images_of(1)
        assert not loss.state_dict()
        for twin in (loss, copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
            assert repr(twin) == shown
            assert twin(*images) == loss(*images)

    def test_refuses_shapes_that_pixelwise_losses_would_broadcast(self):
        with pytest.raises(InvalidInputError, match="must have the same shape"):
            parse_loss("l1", data_range=1)(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8))

    @pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), "1"])
    def test_refuses_factors_that_are_not_positive(self, factor):
        with pytest.raises(InvalidInputError, match=r"factor of terms\[1\] must be a positive"):
            WeightedSum([(1, nn.L1Loss()), (factor, nn.L1Loss())])

    def test_refuses_no_terms(self):
        with pytest.raises(InvalidInputError, match="at least one loss, got none"):
            WeightedSum([])
