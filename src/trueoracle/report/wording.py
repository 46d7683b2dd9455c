"""Numbers and names as a reader sees them, the same in the page, its pictures and the figures."""

import math

from trueoracle.analysis import Absent, Metric
from trueoracle.analysis.result import Interval
from trueoracle.words.trial import FinalProtocol

_MANY = 30  # images, of which a difference needs no telling
MINUS = "−"  # noqa: RUF001 - a true minus


def signed(value: float, digits: int = 2) -> str:
    """A correlation or a difference: fixed digits and a true minus; no minus before zero."""
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", MINUS)


def interval(found: Interval | Absent, digits: int = 2) -> str:
    """`[low, high]`, or a dash where there is none."""
    if isinstance(found, Absent):
        return "–"  # noqa: RUF001 - a dash
    return f"[{signed(found.low, digits)}, {signed(found.high, digits)}]"


def probability(p: float | Absent) -> str:
    """A p-value to two significant digits, small ones as a power of ten, tiny ones as below 1e-15."""
    if isinstance(p, Absent):
        return "–"  # noqa: RUF001 - a dash
    if p >= 0.0001:
        return f"{p:.2g}"
    if p < 1e-15:
        return f"<1e{MINUS}15"
    exponent = math.floor(math.log10(p))
    return f"{p / 10**exponent:.1f}e{MINUS}{-exponent}"


def number(count: int) -> str:
    """A count in full, or of 10^15 and more by its size: it may be too large for a float."""
    if count < 10**15:
        return f"{count:,}"
    digits = str(count)
    return f"{digits[0]}.{digits[1]}e{len(digits) - 1}"


def share(value: float | Absent, digits: int = 1) -> str:
    """A share as per cent."""
    return "–" if isinstance(value, Absent) else f"{100 * value:.{digits}f} %"  # noqa: RUF001 - a dash


def difference(value: float, y: Metric) -> str:
    """A difference of results: shares in points of a per cent, anything else in its own unit."""
    return f"{signed(100 * value)} points" if y.unit == "share" else f"{signed(value, 4)}{_unit(y)}"


def differences(found: Interval | Absent, y: Metric) -> str:
    """An interval of differences, in the unit of `difference`."""
    if isinstance(found, Absent) or y.unit != "share":
        return interval(found, 4)
    return interval(Interval(low=100 * found.low, high=100 * found.high))


def result(value: float, y: Metric) -> str:
    """A result: a share as per cent, anything else in its own unit."""
    return f"{100 * value:.2f} %" if y.unit == "share" else f"{value:.4g}{_unit(y)}"


def images(value: float, of: int | Absent) -> str:
    """A difference of accuracies in test images, where those are known and the difference is of few: `2.0 of 360 images`."""
    if isinstance(of, Absent) or abs(value * of) >= _MANY:
        return ""
    return f"{signed(value * of, 1).removesuffix('.0')} of {of:,} images"


def _unit(y: Metric) -> str:
    return f" {y.unit}" if y.unit else ""


def column(name: str) -> str:
    """A column's name in words."""
    return name.replace("_", " ")


def y_title(name: str, protocol: FinalProtocol, repeats: int) -> str:
    """What stands at the axis of results: with how many repeats, and whether it peeks."""
    mean = f", mean of {repeats} repeats" if repeats > 1 else ""
    peeks = "; peeks at test" if protocol is FinalProtocol.BEST_ON_TEST else ""
    return f"{column(name)}{mean}{peeks}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, whichever suits."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
