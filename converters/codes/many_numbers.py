"""Long texts of numbers, many at once: eight digits lie in one word of 64 bits, and come to a number by three products.

What is written in another way than most (more digits, no exponent, an exponent of three digits) is left to numpy or to Python, so that each number is the
nearest one to its text.
"""

import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from basis import Array

# Parts of a text that stay in the caches with all that is made of them.
PART = 1 << 19
# Spaces before a part, so that words of eight characters can be taken before its first number.
MARGIN = b" " * 16
SPACE, POINT, MINUS, PLUS, ZERO, LOWER_CASE = b" .-+0 "
E = ord("e")
ZEROS, LOWER, UPPER, SIXES = (np.uint64(0x0101010101010101 * byte) for byte in (0x30, 0x0F, 0xF0, 0x06))
ALL_DIGITS = np.uint64(0x3333333333333333)
# The last n of eight characters; the first one is the lowest byte.
LAST = np.array([(0xFFFFFFFFFFFFFFFF << 8 * (8 - n)) & 0xFFFFFFFFFFFFFFFF for n in range(9)], dtype=np.uint64)
# Digits after the point that a double holds with the one before; powers of ten that are whole doubles: one rounding alone, that of their quotient.
MOST_DIGITS, LARGEST_POWER = 14, 22
POWERS = 10.0 ** np.arange(LARGEST_POWER + 1)
# A part in which more than this share of numbers is written otherwise goes to numpy.
OTHERWISE = 0.05


def read_numbers(texts: Iterable[str]) -> Array:
    """All numbers of some texts one after the other, each text with whole numbers alone; ValueError where there is something else."""
    return np.concatenate([np.empty(0), *map(numbers_of_part, parts_of(texts))])


def parts_of(texts: Iterable[str]) -> Iterator[bytes]:
    """The same texts in parts of about the same size, cut between numbers."""
    held: list[str] = []
    size = 0
    for text in texts:
        held.append(text)
        size += len(text)
        if size >= PART:
            yield from cut(" ".join(held))
            held, size = [], 0
    yield from cut(" ".join(held))


def cut(text: str) -> Iterator[bytes]:
    start = 0
    while len(text) - start > 2 * PART:
        stop = text.find(" ", start + PART)
        if stop < 0:
            break
        yield text[start:stop].encode(errors="replace")
        start = stop
    yield text[start:].encode(errors="replace")


def numbers_of_part(text: bytes) -> Array:
    """The numbers of a part."""
    padded = MARGIN + text + b" "
    characters = np.frombuffer(padded, dtype=np.uint8)
    inside = characters > SPACE
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    first_n, end_n = edges[::2], edges[1::2]
    if not len(first_n):
        return np.empty(0)
    eights = np.ndarray(len(padded) - 7, dtype="<u8", buffer=padded, strides=(1,))
    sign_n = characters[first_n]
    signed_n = (sign_n == MINUS) | (sign_n == PLUS)
    length_n = end_n - first_n - signed_n
    found_n = np.empty(len(first_n))
    has_power_n = (characters[end_n - 4] | LOWER_CASE) == E
    has_power_n &= length_n > 6
    whole = np.flatnonzero(~has_power_n)
    scientific = np.flatnonzero(has_power_n)
    known_n = np.zeros(len(first_n), dtype=bool)
    found_n[whole], known_n[whole] = whole_numbers(eights, end_n[whole], length_n[whole])
    if len(scientific):
        digits = int(length_n[scientific[0]]) - 6
        found_n[scientific], known_n[scientific] = scientific_numbers(
            characters, eights, end_n[scientific], length_n[scientific], digits
        )
    unknown = np.flatnonzero(~known_n)
    if len(unknown) > OTHERWISE * len(known_n):
        return numbers_of_numpy(text)
    np.negative(found_n, out=found_n, where=sign_n == MINUS)
    for n in unknown.tolist():
        found_n[n] = float(padded[first_n[n] : end_n[n]])
    return found_n


def whole_numbers(eights: Array, end_n: Array, length_n: Array) -> tuple[Array, Array]:
    """Whole numbers of up to eight digits, and which of them are such."""
    word_n = last_characters(eights[end_n - 8], LAST[np.clip(length_n, 0, 8)])
    return from_digits(word_n).astype(float), are_digits(word_n) & (length_n > 0) & (length_n <= 8)


def scientific_numbers(
    characters: Array, eights: Array, end_n: Array, length_n: Array, digits: int
) -> tuple[Array, Array]:
    """Numbers with one digit before the point and so many after it, and an exponent of two digits; and which of them are such."""
    if not 0 < digits <= MOST_DIGITS:
        return np.zeros(len(end_n)), np.zeros(len(end_n), dtype=bool)
    mark_n = end_n - 4
    word_n = last_characters(eights[mark_n - 8], LAST[min(digits, 8)])
    known_n, mantissa_n = are_digits(word_n), from_digits(word_n)
    if digits > 8:
        word_n = last_characters(eights[mark_n - 16], LAST[digits - 8])
        known_n &= are_digits(word_n)
        mantissa_n += from_digits(word_n) * np.uint64(10**8)
    before_n = characters[mark_n - digits - 2] - ZERO
    # NumPy 1 would multiply in as few bits as the power needs.
    mantissa_n += before_n.astype(np.uint64) * np.uint64(10**digits)
    tens_n, ones_n, sign_n = characters[end_n - 2] - ZERO, characters[end_n - 1] - ZERO, characters[end_n - 3]
    power_n = 10 * tens_n.astype(np.int64) + ones_n
    np.negative(power_n, out=power_n, where=sign_n == MINUS)
    power_n -= digits
    known_n &= (length_n == digits + 6) & (characters[mark_n - digits - 1] == POINT)
    known_n &= (before_n <= 9) & (tens_n <= 9) & (ones_n <= 9) & ((sign_n == MINUS) | (sign_n == PLUS))
    known_n &= np.abs(power_n) <= LARGEST_POWER
    scale_n = POWERS[np.minimum(np.abs(power_n), LARGEST_POWER)]
    found_n = mantissa_n.astype(float)
    return np.where(power_n < 0, found_n / scale_n, found_n * scale_n), known_n


def last_characters(word_n: Array, mask_n: Array) -> Array:
    """Words whose first characters, which are not of the number, are zeros."""
    return np.asarray((word_n & mask_n) | (ZEROS & ~mask_n))


def are_digits(word_n: Array) -> Array:
    return np.asarray(((word_n & UPPER) | (((word_n + SIXES) & UPPER) >> np.uint64(4))) == ALL_DIGITS)


def from_digits(word_n: Array) -> Array:
    """The numbers that eight digits each are: two, then four, then eight of them are put together."""
    word_n = ((word_n & LOWER) * np.uint64(10 * 2**8 + 1)) >> np.uint64(8)
    word_n = ((word_n & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1)) >> np.uint64(16)
    return ((word_n & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10_000 * 2**32 + 1)) >> np.uint64(32)


def numbers_of_numpy(text: bytes) -> Array:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            return np.fromstring(text.decode(), sep=" ")
        except DeprecationWarning as error:
            raise ValueError(str(error)) from error
