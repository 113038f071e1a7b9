"""Converts float16 to float32, several times faster than NumPy does.

The bits of each number are moved to where a float32 has them. The result is then exact but for the exponent's bias: it is 2**112 times too
small. Finite numbers only.
"""

from __future__ import annotations

import numpy as np

from models.arrays import Codes, Float16s, Floats

SCALE = np.float32(2.0**112)  # between the exponents' biases of the two types
_SIGN_AND_NUMBER = np.int32(0x0FFFE000 - 0x80000000)  # bits 31 and 27 to 13


def to_float32(numbers: Float16s) -> Floats:
    """Returns the same numbers in new memory, exactly: 260 x 272 take 15 us, `astype` 125."""
    floats = to_scaled_float32(numbers, np.empty(numbers.shape, np.int32))
    floats *= SCALE
    return floats


def to_scaled_float32(numbers: Float16s, out: Codes) -> Floats:
    """Returns the numbers divided by `SCALE`, in the memory of `out`, which has the same shape: 200 x 272 take 9 us, `astype` 89.

    The caller multiplies by `SCALE` where it costs less, as in the other factor of a matrix product.
    """
    np.copyto(out, numbers.view(np.int16))
    np.left_shift(out, 13, out=out)
    np.bitwise_and(out, _SIGN_AND_NUMBER, out=out)
    return out.view(np.float32)
