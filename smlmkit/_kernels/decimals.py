"""Rows of decimal numbers in bytes of text, parted by one character or by runs of blanks.

**Exactly rounded.** A number is m * 10^e with a whole number m. Shifted until its highest bit is
set, m times the first 64 bits of 10^e gives the first bits of the product and a bound of what is
missing (after D. Lemire, "Number parsing at a gigabyte per second", 2021). Where the product is so
close to the middle between two floats that the bound does not tell to which of them it rounds, the
cell is left to the caller, and so is every cell that is neither a plain number nor empty nor NaN.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

IS_TEXT = -2
"""Where a column goes whose cells are text: only their places are noted."""
IS_SKIPPED = -1
"""Where a column goes that is not to be read."""
LINE_FEEDS_AT_END = b"\n" * 8
"""What has to follow the text, so that no word reaches beyond it."""

_FEED, _RETURN, _BLANK, _TAB, _QUOTE = (ord(mark) for mark in '\n\r \t"')
_POINT, _MINUS, _PLUS, _ZERO, _A, _E, _N = (ord(mark) for mark in ".-+0aen")
_LOWER = 32  # the bit in which a small letter differs from a large one

_MOST_DIGITS = 19  # that always fit into 64 bits
_EXACT_MANTISSA = 2**53
_LONGEST_EXPONENT = 9999
# With up to 19 digits before them, all such powers of ten give normal floats.
_LOWEST_POWER, _HIGHEST_POWER = -307, 288


def _leading_bits(exponent: int) -> tuple[int, int]:
    """Give the first 64 bits of 10^e, rounded down, and the exponent of two that they need."""
    if exponent >= 0:
        power = 10**exponent
        shift = power.bit_length() - 64
        return (power >> shift if shift > 0 else power << -shift), shift
    power = 10**-exponent
    shift = power.bit_length() + 63
    if (1 << shift) // power >= 2**64:
        shift -= 1
    return (1 << shift) // power, -shift


_POWERS = [_leading_bits(e) for e in range(_LOWEST_POWER, _HIGHEST_POWER + 1)]
_POWER_BITS = np.array([bits for bits, _ in _POWERS], np.uint64)
_POWER_SHIFTS = np.array([shift for _, shift in _POWERS], np.int64)
_LOWEST_OF_TWO = -1074
_POWERS_OF_TWO = 2.0 ** np.arange(_LOWEST_OF_TWO, 1024)

_U = np.uint64
_LOW_HALF = _U(2**32 - 1)
_TOP_BIT = _U(2**63)
# Eight characters in a word, the first of them in its lowest byte.
_EVERY_BYTE = _U(0x0101010101010101)
_EIGHT_ZEROS = _EVERY_BYTE * _U(_ZERO)
_TOP_BITS = _EVERY_BYTE * _U(0x80)
_TEN_TO_TOP_BIT = _EVERY_BYTE * _U(0x80 - 10)
_TENS = np.array([10**n for n in range(9)], np.uint64)


@numba.njit(nogil=True, cache=True, inline="always")
def _at(values: NDArray[Any], i: int) -> Any:
    """Give one of the values, without the usual question of whether i counts from the end."""
    return values[_U(i)]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def parse_rows(
    text: NDArray[np.uint8],
    words: NDArray[np.uint64],
    delimiter: int,
    places: NDArray[np.int64],
    numbers: NDArray[np.float64],
    left: NDArray[np.int64],
) -> tuple[int, int]:
    """Read the numbers in lines, blank ones left out.

    `text` ends with `LINE_FEEDS_AT_END`; ``words[i]`` are its eight bytes from byte i on. Column i
    goes to row ``places[i]`` of `numbers`. Each cell that is left to the caller, as all of
    a column of text are, is a row of `left`: column, row, and where it begins and ends. A blank as
    `delimiter` is any run of blanks and tabs.

    Returns how many rows there are and how many cells are left; -1 rows if a line has another
    number of cells, a quoted cell holds quotes or line ends, a carriage return stands alone, or
    there are more rows than `numbers` has room for (somebody writes to the file).
    """
    by_blanks = delimiter == _BLANK
    other_delimiter = _TAB if by_blanks else delimiter
    n_columns = len(places)
    row = n_left = i = 0
    while i < len(text):
        first = _skip_blanks(text, i, delimiter)
        if text[first] == _RETURN and text[first + 1] == _FEED:
            first += 1
        if text[first] == _FEED:
            i = first + 1
            continue
        if row == numbers.shape[1]:
            return -1, n_left
        if by_blanks:
            i = first
        for column in range(n_columns):
            if by_blanks and (_at(text, i) == _FEED or _at(text, i) == _RETURN):
                return -1, n_left
            is_quoted = _at(text, i) == _QUOTE
            i += is_quoted
            start, place = i, int(places[column])
            is_read = place == IS_SKIPPED
            if place >= 0:
                numbers[place, row], i, is_read = _parse_number(text, words, i)
            # Whether or not it was read, the cell has to end here.
            while (
                not (
                    _at(text, i) == _QUOTE
                    if is_quoted
                    else _at(text, i) == delimiter
                    or _at(text, i) == other_delimiter
                    or _at(text, i) == _RETURN
                )
                and _at(text, i) != _FEED
            ):
                is_read &= place < 0
                i += 1
            if not is_read and (i > start or place < 0):
                left[n_left, 0], left[n_left, 1] = column, row
                left[n_left, 2], left[n_left, 3] = start, i
                n_left += 1
            if is_quoted:
                if _at(text, i) != _QUOTE or by_blanks:
                    return -1, n_left
                i += 1
            if column == n_columns - 1:
                break
            if _at(text, i) != delimiter and _at(text, i) != other_delimiter:
                return -1, n_left
            i = _skip_blanks(text, i, 0) if by_blanks else i + 1
        if by_blanks:
            i = _skip_blanks(text, i, 0)
        i += _at(text, i) == _RETURN
        if _at(text, i) != _FEED:
            return -1, n_left
        i += 1
        row += 1
    return row, n_left


@numba.njit(nogil=True, cache=True, inline="always")
def _skip_blanks(text: NDArray[np.uint8], i: int, delimiter: int) -> int:
    """Go on to what is no blank; a tab is none if it is the delimiter."""
    while _at(text, i) == _BLANK or (_at(text, i) == _TAB and delimiter != _TAB):
        i += 1
    return i


@numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")
def _parse_number(
    text: NDArray[np.uint8], words: NDArray[np.uint64], i: int
) -> tuple[float, int, bool]:
    """Give the number that begins here, where it ends, and whether that is certain."""
    sign = 1.0
    if _at(text, i) == _MINUS or _at(text, i) == _PLUS:
        sign = -1.0 if _at(text, i) == _MINUS else 1.0
        i += 1
    start = i
    mantissa, i = _add_digits(_U(0), words, i)
    n_digits, exponent = i - start, 0
    if _at(text, i) == _POINT:
        point = i
        mantissa, i = _add_digits(mantissa, words, i + 1)
        exponent = point + 1 - i
        n_digits -= exponent
    if n_digits == 0:
        is_nan = i == start and (
            _at(text, i) | _LOWER == _N
            and text[i + 1] | _LOWER == _A
            and text[i + 2] | _LOWER == _N
        )
        return np.nan, i + 3 * is_nan, is_nan
    is_cut = n_digits > _MOST_DIGITS
    if is_cut:
        mantissa, exponent, is_cut = _first_digits(text, start)
    if _at(text, i) | _LOWER == _E:
        power, i = _parse_exponent(text, i + 1)
        exponent += power
    if exponent == 0 and mantissa <= _EXACT_MANTISSA and not is_cut:
        return sign * float(mantissa), i, True
    number = sign * _scaled(mantissa, exponent, is_cut)
    return number, i, number == number


@numba.njit(nogil=True, cache=True, inline="always")
def _add_digits(mantissa: np.uint64, words: NDArray[np.uint64], i: int) -> tuple[np.uint64, int]:
    """Read digits on to a whole number, eight at once; digits become bytes from 0 to 9."""
    while True:
        digits = _at(words, i) ^ _EIGHT_ZEROS
        others = (digits + _TEN_TO_TOP_BIT | digits) & _TOP_BITS
        if not others:
            mantissa = mantissa * _TENS[8] + _join_digits(digits)
            i += 8
            continue
        up_to_first_other = others ^ (others - _U(1))
        n_digits = ((up_to_first_other >> _U(8)) & _EVERY_BYTE) * _EVERY_BYTE >> _U(56)
        # Zeros in front of the digits take the place of what follows them.
        digits = digits << _U(8) << (_U(56) - _U(8) * n_digits)
        return mantissa * _TENS[n_digits] + _join_digits(digits), i + int(n_digits)


@numba.njit(nogil=True, cache=True, inline="always")
def _join_digits(digits: np.uint64) -> np.uint64:
    """Give the number that eight digits make: first pairs of them, then all pairs."""
    pairs = digits * _U(10) + (digits >> _U(8))
    two_pairs = _U(0xFF) | _U(0xFF) << _U(32)
    upper = (pairs & two_pairs) * (_U(10**6) << _U(32) | _U(100))
    lower = (pairs >> _U(16) & two_pairs) * (_U(10**4) << _U(32) | _U(1))
    return upper + lower >> _U(32)


@numba.njit(nogil=True, cache=True)
def _first_digits(text: NDArray[np.uint8], i: int) -> tuple[np.uint64, int, bool]:
    """Give as many digits as always fit, their exponent, and whether others follow."""
    mantissa, n_digits, exponent = _U(0), 0, 0
    is_fraction = is_cut = False
    while True:
        digit = _at(text, i) - _ZERO
        if digit == _POINT - _ZERO and not is_fraction:
            is_fraction = True
        elif not 0 <= digit <= 9:
            return mantissa, exponent, is_cut
        else:
            if n_digits < _MOST_DIGITS:
                mantissa = mantissa * _U(10) + _U(digit)
                n_digits += int(mantissa > _U(0))
                exponent -= is_fraction
            else:
                is_cut |= digit > 0
                exponent += not is_fraction
        i += 1


@numba.njit(nogil=True, cache=True)
def _parse_exponent(text: NDArray[np.uint8], i: int) -> tuple[int, int]:
    """Give the number after an E; without digits, the end is not that of a cell."""
    sign = 1
    if _at(text, i) == _MINUS or _at(text, i) == _PLUS:
        sign = -1 if _at(text, i) == _MINUS else 1
        i += 1
    if not 0 <= _at(text, i) - _ZERO <= 9:
        return 0, i - 1
    exponent = 0
    while 0 <= _at(text, i) - _ZERO <= 9:
        exponent = min(10 * exponent + _at(text, i) - _ZERO, _LONGEST_EXPONENT)
        i += 1
    return sign * exponent, i


@numba.njit(nogil=True, cache=True, inline="always")
def _high_product(a: np.uint64, b: np.uint64) -> np.uint64:
    """Give the upper 64 of the 128 bits of a product."""
    half = _U(32)
    a_high, a_low, b_high, b_low = a >> half, a & _LOW_HALF, b >> half, b & _LOW_HALF
    middle = a_high * b_low + (a_low * b_low >> half)
    other = a_low * b_high + (middle & _LOW_HALF)
    return a_high * b_high + (middle >> half) + (other >> half)


@numba.njit(nogil=True, cache=True, inline="always")
def _scaled(mantissa: np.uint64, exponent: int, is_cut: bool) -> float:
    """Give m * 10^e, or NaN where that is not certain; if it is cut, m may be up to 1 larger."""
    if exponent < _LOWEST_POWER or exponent > _HIGHEST_POWER:
        return np.nan
    if mantissa == _U(0):
        return np.nan if is_cut else 0.0
    # Shift the highest bit to its place.
    normal, n_shifts = mantissa, 0
    for step in (32, 16, 8, 4, 2, 1):
        if normal < _TOP_BIT >> _U(step - 1):
            normal <<= _U(step)
            n_shifts += step
    high = _high_product(normal, _POWER_BITS[exponent - _LOWEST_POWER])
    n_extra = 10 + int(high >> _U(63))  # bits beyond the 53 of a float
    kept, rest = high >> _U(n_extra), high & ((_U(1) << _U(n_extra)) - _U(1))
    half = _U(1) << _U(n_extra - 1)
    # The true product is more than `rest` by less than two units, or by what was cut off.
    slack = _U(2) + ((_U(1) << _U(n_shifts)) if is_cut else _U(0))
    if rest <= half and rest + slack > half:
        return np.nan
    if rest > half:
        kept += _U(1)
    shift = _POWER_SHIFTS[exponent - _LOWEST_POWER] + 64 - n_shifts + n_extra
    number: float = kept * _POWERS_OF_TWO[shift - _LOWEST_OF_TWO]
    return number
