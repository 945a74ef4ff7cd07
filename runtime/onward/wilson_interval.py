"""Wilson's interval: where the share lies that some of a number were drawn from."""

from __future__ import annotations

import math

__all__ = ["wilson_interval"]

#: Standard deviations that 95 % of a normal distribution lie within.
Z_95 = 1.959964


def wilson_interval(num_correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0 to 1.

    Args:
        num_correct: Of the number, those that count.
        count: The number, above 0.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = num_correct / count
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    spread = math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) * Z_95 / (1 + Z_95**2 / count)
    return centre - spread, centre + spread
