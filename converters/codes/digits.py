"""How far printed numbers may be off for they have no more digits; what that does to levels: `converters/physics/kpoint_digits.py`."""


def rounding_of(word: str) -> float:
    """Half a unit of the last digit of a number: 5e-7 of 0.204108 and of 0.204108E+00."""
    digits, _, exponent = word.lower().replace("d", "e").partition("e")
    return 0.5 * 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))
