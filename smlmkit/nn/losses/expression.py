"""Losses from text such as ``"ms_ssim + frc(cutoff=0.5) + 0.1*l1"``."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from torch import Tensor, nn

from smlmkit._checks import check_positive
from smlmkit.errors import InvalidInputError, InvalidTypeError
from smlmkit.nn.losses._base import ImageLoss
from smlmkit.nn.losses.frc import AreaFRCLoss
from smlmkit.nn.losses.pixelwise import PoissonLoss, SmoothL1Loss
from smlmkit.nn.losses.similarity import MSSSIMLoss, SSIMLoss

_MAX_CHARACTERS = 1000
_QUOTED_CHARACTERS = 80


class _Kind(NamedTuple):
    """A loss that can be named."""

    make: Callable[..., nn.Module]
    options: tuple[str, ...] = ()
    needs_range: bool = False


_KINDS = {
    "smooth_l1": _Kind(SmoothL1Loss, ("beta",)),
    "l1": _Kind(nn.L1Loss),
    "mse": _Kind(nn.MSELoss),
    "poisson": _Kind(PoissonLoss, ("least_rate",)),
    "ssim": _Kind(SSIMLoss, needs_range=True),
    "ms_ssim": _Kind(MSSSIMLoss, ("scales",), needs_range=True),
    "frc": _Kind(AreaFRCLoss, ("cutoff", "signed", "window")),
}
LOSS_NAMES = tuple(_KINDS)
"""The losses that an expression may name."""

_CONSTANTS = {"true": True, "false": False, "none": None}


class WeightedSum(ImageLoss):
    """A sum of losses, each times a factor.

    Parameters
    ----------
    terms : sequence of (float, Module)
        Factor and loss, each of which takes predictions and targets and gives one number, the mean
        over images.

    Raises
    ------
    InvalidInputError
        If there is no term or a factor is not a positive number; for images what the terms raise.
    InvalidTypeError
        If an input is no tensor of floating-point numbers.

    See Also
    --------
    parse_loss : Makes one from text.

    Examples
    --------
    >>> import torch
    >>> loss = WeightedSum([(1, torch.nn.MSELoss()), (0.1, torch.nn.L1Loss())])
    >>> loss
    WeightedSum(MSELoss() + 0.1 * L1Loss())
    >>> loss(torch.full((1, 1, 8, 8), 2.0), torch.zeros(1, 1, 8, 8))
    tensor(4.2000)
    """

    def __init__(self, terms: Sequence[tuple[float, nn.Module]]) -> None:
        super().__init__()
        if not terms:
            raise InvalidInputError("terms must hold at least one loss, got none")
        for i, (factor, _) in enumerate(terms):
            check_positive(**{f"the factor of terms[{i}]": factor})
        self.factors = tuple(float(factor) for factor, _ in terms)
        self.losses = nn.ModuleList(loss for _, loss in terms)

    def __repr__(self) -> str:
        terms = [
            repr(loss) if factor == 1 else f"{factor!r} * {loss!r}"
            for factor, loss in zip(self.factors, self.losses, strict=True)
        ]
        return f"WeightedSum({' + '.join(terms)})"

    def _compare(self, first: Tensor, second: Tensor) -> Tensor:
        total = first.new_zeros(())
        for factor, loss in zip(self.factors, self.losses, strict=True):
            total = total + factor * loss(first, second)
        return total


def parse_loss(text: str, *, data_range: float) -> WeightedSum:
    """Make a loss from an expression.

    Parameters
    ----------
    text : str
        Terms joined by ``+``. A term is the name of a loss; before it a factor and ``*`` where it
        is not 1, behind it options in parentheses where they are not the default ones.
    data_range : float
        Highest value of an image minus lowest, for the losses that ask for it.

    Returns
    -------
    WeightedSum
        The loss, a module that maps predictions and targets of shape (..., height, width) to the
        mean over images.

    Raises
    ------
    InvalidTypeError
        If `text` is no string.
    InvalidInputError
        If it is no such expression; the message tells the place. If `data_range` is not a positive
        number.

    Notes
    -----
    The losses, with the default values of their options:

    - ``smooth_l1(beta=1)``, ``l1`` and ``mse``: torch's, by the difference of pixels;
    - ``poisson(least_rate=0.1)``: `PoissonLoss`;
    - ``ssim``: `SSIMLoss`;
    - ``ms_ssim(scales=none)``: `MSSSIMLoss`;
    - ``frc(cutoff=0.2, signed=true, window=tukey)``: `AreaFRCLoss`.

    The grammar, with any white space between symbols::

        loss   = term {"+" term}
        term   = [number "*"] name ["(" option {"," option} ")"]
        option = name "=" (number | "true" | "false" | "none" | word)

    Nothing is evaluated. Numbers have no sign, since a factor must be positive. A loss may be named
    twice: ``frc(cutoff=0.2) + frc(cutoff=0.5)`` counts low frequencies twice.

    Examples
    --------
    >>> parse_loss("ms_ssim + 0.1*smooth_l1(beta=0.5)", data_range=4)
    WeightedSum(MSSSIMLoss(data_range=4.0, scales=None) + 0.1 * SmoothL1Loss(beta=0.5))
    >>> parse_loss("ms_ssim + lpips", data_range=4)
    Traceback (most recent call last):
    smlmkit.errors.InvalidInputError: loss 'ms_ssim + lpips', at character 11: there is no loss
    'lpips'; there are smooth_l1, l1, mse, poisson, ssim, ms_ssim, frc
    """
    check_positive(data_range=data_range)
    reader = _Reader(text)
    terms = [_read_term(reader, data_range)]
    while not reader.is_at_end():
        reader.take("+", "'+' or the end")
        terms.append(_read_term(reader, data_range))
    return WeightedSum(terms)


def check_loss(text: str) -> None:
    """Refuse a text that `parse_loss` would refuse.

    Parameters
    ----------
    text : str
        The expression.

    Raises
    ------
    InvalidTypeError
        If it is no string.
    InvalidInputError
        If it is no expression for a loss; the message tells the place.

    Examples
    --------
    >>> check_loss("ms_ssim + frc + 0.1*l1")
    """
    parse_loss(text, data_range=1.0)


@dataclass(frozen=True)
class _Token:
    kind: str
    """``"number"``, ``"word"``, ``"end"``, or the symbol itself."""
    text: str
    start: int


_SYMBOL = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    r"|[+*(),=]"
)
_SPACE = re.compile(r"[ \t\r\n]*")


class _Reader:
    """The tokens of a text, one after the other."""

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidTypeError(
                f"loss must be a string such as 'ms_ssim + 0.1*l1', got {type(text).__name__}"
            )
        self._text = text
        if len(text) > _MAX_CHARACTERS:
            self.refuse(
                _MAX_CHARACTERS,
                f"must end within {_MAX_CHARACTERS:,} characters, got {len(text):,}",
            )
        self.next = self._find(0)

    def is_at_end(self) -> bool:
        return self.next.kind == "end"

    def take(self, kind: str, wanted: str) -> _Token:
        """Step over the next token, which must be of a kind."""
        token = self.next
        if token.kind != kind:
            got = "the end" if token.kind == "end" else repr(token.text)
            self.refuse(token.start, f"expected {wanted}, got {got}")
        self.next = self._find(token.start + len(token.text))
        return token

    def take_if(self, kind: str) -> _Token | None:
        """Step over the next token if it is of a kind."""
        return self.take(kind, kind) if self.next.kind == kind else None

    def refuse(self, position: int, problem: str) -> NoReturn:
        text = self._text
        if len(text) > _QUOTED_CHARACTERS:
            text = f"{text[:_QUOTED_CHARACTERS]}..."
        raise InvalidInputError(f"loss {text!r}, at character {position + 1}: {problem}") from None

    def _find(self, position: int) -> _Token:
        start = _SPACE.match(self._text, position).end()  # type: ignore[union-attr]
        if start == len(self._text):
            return _Token("end", "", start)
        match = _SYMBOL.match(self._text, start)
        if match is None:
            self.refuse(start, f"{self._text[start]!r} has no meaning here")
        return _Token(match.lastgroup or match.group(), match.group(), start)


def _read_term(reader: _Reader, data_range: float) -> tuple[float, nn.Module]:
    factor = _read_factor(reader)
    known = ", ".join(LOSS_NAMES)
    name = reader.take("word", f"a loss ({known})")
    if name.text not in _KINDS:
        reader.refuse(name.start, f"there is no loss {name.text!r}; there are {known}")
    kind = _KINDS[name.text]
    options: dict[str, Any] = {"data_range": data_range} if kind.needs_range else {}
    if reader.take_if("("):
        options |= _read_options(reader, name.text, kind.options)
    try:
        return factor, kind.make(**options)
    except InvalidInputError as error:
        reader.refuse(name.start, f"{name.text}: {error}")


def _read_factor(reader: _Reader) -> float:
    number = reader.take_if("number")
    if number is None:
        return 1.0
    factor = float(number.text)
    if not 0 < factor < math.inf:
        reader.refuse(number.start, f"a factor must be a positive finite number, got {number.text}")
    reader.take("*", "'*' between a factor and its loss")
    return factor


def _read_options(reader: _Reader, loss: str, known: tuple[str, ...]) -> Mapping[str, Any]:
    options: dict[str, Any] = {}
    are_known = f"has the options {', '.join(known)}" if known else "has no options"
    while True:
        name = reader.take("word", f"an option: {loss} {are_known}")
        if name.text not in known:
            reader.refuse(name.start, f"there is no option {name.text!r}: {loss} {are_known}")
        if name.text in options:
            reader.refuse(name.start, f"the option {name.text!r} is given twice")
        reader.take("=", "'=' after the option's name")
        options[name.text] = _read_value(reader)
        if not reader.take_if(","):
            break
    reader.take(")", "',' or ')'")
    return options


def _read_value(reader: _Reader) -> int | float | str | bool | None:
    number = reader.take_if("number")
    if number is not None:
        is_whole = number.text.isdecimal() and len(number.text) < 16
        return int(number.text) if is_whole else float(number.text)
    word = reader.take("word", "a number, true, false, none or a word").text
    return _CONSTANTS.get(word.lower(), word)
