"""Long texts of numbers are read as Python reads each of their numbers alone."""

import numpy as np
import pytest

from converters.codes.many_numbers import PART, read_numbers

RNG = np.random.default_rng(3)
VALUES = RNG.normal(size=3000) * 10.0 ** RNG.integers(-16, 12, size=3000)
FORMS = [
    "%.8e",
    "% .8e",
    "%+.3E",
    "%.4e",
    "%.9e",
    "%.12e",
    "%.14e",
    "%.16e",
    "%.1e",
    "%.10f",
    "%.17g",
    "%d",
    "%+d",
    "%9d",
]


@pytest.mark.parametrize("form", FORMS)
def test_each_number_is_the_one_that_python_reads(form):
    words = [form % value for value in VALUES]
    text = "".join(f" {word}{end}" for word, end in zip(words, "\n \t" * 1000, strict=True))
    assert read_numbers([text]).tolist() == list(map(float, words))


def test_numbers_of_all_forms_may_stand_together():
    words = [FORMS[n % len(FORMS)] % value for n, value in enumerate(VALUES)]
    words[::500] = ["1e-100", "-2.5e+100", "0", "-0.00000000e+00", "123456789012", "7."]
    assert read_numbers([" ".join(words)]).tolist() == list(map(float, words))


def test_rare_forms_among_many_common_ones():
    words = [f"{value:.8e}" for value in VALUES]
    words[::100] = ["1.00000000e-300", "-9.87654321e-99", "nan"] * 10
    found = read_numbers([" ".join(words)])
    np.testing.assert_array_equal(found, list(map(float, words)))


def test_texts_are_read_one_after_the_other_and_cut_between_numbers():
    words = [f"{value:.8e}" for value in RNG.normal(size=4 * PART // 15)]
    texts = [" ".join(words), "", " \n ", "7", "-1.50000000e-03"]
    assert read_numbers(texts).tolist() == [*map(float, words), 7.0, -0.0015]
    assert read_numbers(["\n".join(words)]).tolist() == list(map(float, words))
    assert len(read_numbers([])) == len(read_numbers([" "])) == 0


@pytest.mark.parametrize("wrong", ["1.0000000e-0x", "1.0000000:e-03", "1.00000000d-03", "12a", "#", "--5", "1-5", "é"])
@pytest.mark.parametrize("among", [0, 200])
def test_what_is_no_number_is_refused(wrong, among):
    with pytest.raises(ValueError, match=r"could not|string or file"):
        read_numbers([" ".join([*["1.00000000e-03"] * among, wrong, *["12"] * among])])
