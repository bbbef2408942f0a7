"""Numbers as text, many at a time: files of matrices are mostly these."""

from collections.abc import Iterator, Sequence

import numpy as np

from basis import Array

# Numbers are put together from words of four characters: the digits of each number below 10,000, a sign with the first digit, an exponent.
FOUR = (np.arange(10_000)[:, None] // [1000, 100, 10, 1] % 10 + ord("0")).astype(np.uint8).view(np.uint32)[:, 0]
FIRST = np.array([f" {sign}{digit}." for sign in " -" for digit in range(10)], dtype="S4").view(np.uint32)
EXPONENT = np.array([f"e{power:+03d}" for power in range(-99, 100)], dtype="S4").view(np.uint32)
LARGEST_POWER = 120
# So many numbers stay in the caches, with all that is computed of them.
AT_ONCE = 16_384
POWERS = 10.0 ** np.arange(-LARGEST_POWER, LARGEST_POWER + 1)


def format_values(value_e: Array, digits: int) -> list[str]:
    if np.iscomplexobj(value_e):
        return [f"({x.real:.{digits}e},{x.imag:.{digits}e})" for x in value_e.tolist()]
    return list(map(f"%.{digits}e".__mod__, value_e.tolist()))


def words_of(value_e: Array, digits: int) -> Array | list[str]:
    """Numbers in scientific notation, as `lines_of` takes them."""
    if np.iscomplexobj(value_e) or digits % 4 or not is_plain(value_e):
        return format_values(value_e, digits)
    starts = range(0, max(len(value_e), 1), AT_ONCE)
    return np.concatenate([scientific(value_e[at : at + AT_ONCE], digits) for at in starts])


def lines_of(words_e: Array | Sequence[str], most: int) -> Iterator[str]:
    """Lines of so many words; those of an array have as many characters each, spaces in front."""
    if not isinstance(words_e, np.ndarray):
        for at in range(0, len(words_e), most):
            yield " " + " ".join(words_e[at : at + most])
        return
    whole = len(words_e) // most * most
    if whole:
        characters_lw = words_e[:whole].view(np.uint8).reshape(whole // most, -1)
        lines_lw = np.full((len(characters_lw), characters_lw.shape[1] + 1), ord("\n"), dtype=np.uint8)
        lines_lw[:, :-1] = characters_lw
        yield lines_lw.tobytes()[:-1].decode("ascii")
    if whole < len(words_e):
        yield words_e[whole:].tobytes().decode("ascii")


def is_plain(value_e: Array) -> bool:
    """Whether all numbers have exponents of two digits in scientific notation."""
    size_e = np.abs(value_e)
    return bool(((size_e < 1e90) & (size_e > 1e-90)).all())


def scientific(value_e: Array, digits: int) -> Array:
    """Numbers in scientific notation as words: a space, the sign, and a mantissa with so many digits after its point, a multiple of four."""
    size_e = np.abs(value_e)
    power_e = np.floor(np.log10(size_e)).astype(np.int64)
    # The logarithm may be off by one next to a power of ten, and rounding may lead to the next one.
    power_e += (size_e * power_of_ten(digits - power_e) >= 10.0 ** (digits + 1) - 0.5).astype(np.int64)
    power_e -= (size_e * power_of_ten(digits - power_e) < 10.0**digits - 0.5).astype(np.int64)
    mantissa_e = np.rint(size_e * power_of_ten(digits - power_e)).astype(np.int64)
    words = np.empty((len(value_e), digits // 4 + 2), dtype=np.uint32)
    for column in range(digits // 4, 0, -1):
        mantissa_e, group_e = np.divmod(mantissa_e, 10_000)
        words[:, column] = FOUR[group_e]
    words[:, 0] = FIRST[mantissa_e + 10 * (value_e < 0)]
    words[:, -1] = EXPONENT[power_e + 99]
    return words.view(f"S{digits + 8}")[:, 0]


def power_of_ten(exponent_e: Array) -> Array:
    return np.asarray(POWERS[exponent_e + LARGEST_POWER])


def numbers_below(count: int) -> Array:
    """The whole numbers below some number as words, with a space or more in front."""
    width = len(str(count)) + 1
    return np.array([f"{number:{width}d}" for number in range(count)], dtype=f"S{width}")
