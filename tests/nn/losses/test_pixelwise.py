import math

import pytest
import torch
from torch import nn

from smlmkit.errors import InvalidInputError
from smlmkit.nn.losses import PoissonLoss, parse_loss
from smlmkit.nn.losses.pixelwise import SmoothL1Loss


def loss_and_slope(loss, rate, count):
    rates = torch.full((1, 1), rate, dtype=torch.float64, requires_grad=True)
    value = loss(rates, torch.full_like(rates, count, requires_grad=False))
    value.backward()
    return value.item(), rates.grad.item()


class TestPoissonLoss:
    def test_is_the_negative_log_likelihood_of_rates_that_are_large_enough(self):
        generator = torch.Generator().manual_seed(0)
        rates = 0.1 + 5 * torch.rand(3, 1, 8, 9, generator=generator, dtype=torch.float64)
        counts = torch.poisson(rates, generator=generator)
        expected = nn.PoissonNLLLoss(log_input=False, eps=0)(rates, counts)
        torch.testing.assert_close(PoissonLoss()(rates, counts), expected)

    @pytest.mark.parametrize("least_rate", [0.01, 0.1, 1.0])
    @pytest.mark.parametrize("count", [0.0, 1.0, 7.0])
    @pytest.mark.parametrize("rate", [-20.0, -0.1, 0.0, 0.005, 0.1, 1.0, 30.0])
    def test_has_the_slope_of_a_square_over_the_variance(self, rate, count, least_rate):
        _, slope = loss_and_slope(PoissonLoss(least_rate), rate, count)
        assert slope == pytest.approx((rate - count) / max(rate, least_rate), rel=1e-12, abs=1e-12)

    @pytest.mark.parametrize("count", [0.0, 3.0])
    def test_does_not_jump_where_its_formulas_meet(self, count):
        below, above = (loss_and_slope(PoissonLoss(), 0.1 + d, count) for d in (-1e-9, 1e-9))
        assert below == pytest.approx(above, abs=1e-6)

    def test_of_no_count_is_least_at_rate_0(self):
        rates = torch.linspace(-3, 3, 61, dtype=torch.float64)
        values = [loss_and_slope(PoissonLoss(), rate.item(), 0.0)[0] for rate in rates]
        assert values.index(min(values)) == 30
        assert min(values) == pytest.approx(0.05)

    @pytest.mark.parametrize("count", [0.0, 0.5, 4.0])
    def test_is_convex(self, count):
        rates = torch.linspace(-2, 6, 801, dtype=torch.float64)[:, None].requires_grad_()
        PoissonLoss()(rates, torch.full_like(rates, count, requires_grad=False)).backward()
        assert (rates.grad.diff(dim=0) >= -1e-12).all()

    @pytest.mark.parametrize("start", [-0.5, 0.3, 10.0])
    @pytest.mark.parametrize("rate", [0.001, 0.01, 0.1, 1.0, 5.0])
    def test_leads_to_the_rate_that_counts_were_drawn_from(self, rate, start):
        generator = torch.Generator().manual_seed(1)
        expected = torch.full((1, 1, 500, 500), rate, dtype=torch.float64)
        counts = torch.poisson(expected, generator=generator)
        found = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        loss, optimizer = PoissonLoss(), torch.optim.LBFGS([found], line_search_fn="strong_wolfe")

        def evaluate():
            optimizer.zero_grad()
            value = loss(found.expand_as(counts), counts)
            value.backward()
            return value

        for _ in range(3):
            optimizer.step(evaluate)
        assert found.item() == pytest.approx(counts.mean().item(), rel=1e-4)
        assert found.item() == pytest.approx(rate, abs=5 * math.sqrt(rate / counts.numel()))

    def test_has_the_gradient_of_finite_differences(self):
        rates = torch.tensor([[-1.0, 0.03, 0.2, 4.0]], dtype=torch.float64, requires_grad=True)
        counts = torch.tensor([[0.0, 1.0, 2.0, 3.0]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(PoissonLoss(), (rates, counts))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_of_half_precision_is_computed_in_float32(self, dtype):
        rates, counts = torch.tensor([[300.0, 0.25]]), torch.tensor([[301.0, 0.0]])
        result = PoissonLoss()(rates.to(dtype), counts.to(dtype))
        assert result == PoissonLoss()(rates.to(dtype).float(), counts.to(dtype).float())
        assert result.dtype == torch.float32

    @pytest.mark.parametrize("least_rate", [0, -1, math.inf, math.nan, None, "1"])
    def test_refuses_a_least_rate_that_is_not_positive(self, least_rate):
        with pytest.raises(InvalidInputError, match="least_rate must be a positive number"):
            PoissonLoss(least_rate)

    def test_shows_its_parameter(self):
        assert repr(PoissonLoss(1)) == "PoissonLoss(least_rate=1.0)"


class TestSmoothL1Loss:
    def test_is_that_of_torch(self):
        images = torch.randn(2, 3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        expected = nn.functional.smooth_l1_loss(*images, beta=0.3)
        assert SmoothL1Loss(0.3)(*images) == expected
        assert parse_loss("smooth_l1(beta=0.3)", data_range=1)(*images) == expected
        assert SmoothL1Loss()(*images) == nn.SmoothL1Loss()(*images)

    @pytest.mark.parametrize("beta", [0, -1, math.nan, "a"])
    def test_refuses_a_beta_that_is_not_positive(self, beta):
        with pytest.raises(InvalidInputError, match="beta must be a positive number"):
            SmoothL1Loss(beta)
