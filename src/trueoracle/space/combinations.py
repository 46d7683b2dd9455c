"""The combinatorial number system: subsets of k units out of n as integers 0 ... C(n, k) - 1, and back.

The subset c_1 < c_2 < ... < c_k has rank C(c_1, 1) + C(c_2, 2) + ... + C(c_k, k) (Knuth, The Art of Computer
Programming 4A, 7.2.1.3, eq. 20): colexicographic order, in which the rank does not depend on n.
"""

from collections.abc import Iterator, Sequence
from math import comb


def rank(subset: Sequence[int]) -> int:
    """The rank of a rising sequence of units among all subsets of its size."""
    return sum(comb(unit, place) for place, unit in enumerate(subset, start=1))


def unrank(index: int, n: int, k: int) -> tuple[int, ...]:
    """The subset of `k` of `n` units with this rank, rising; the inverse of `rank`, in O(n) big-integer steps."""
    if not 0 <= index < comb(n, k):
        raise ValueError(f"`index` must lie in [0, C({n}, {k})), but got {index}")
    subset: list[int] = []
    unit, binomial = n - 1, comb(n - 1, k) if n else 0
    while k:
        # binomial is C(unit, k): the number of subsets whose largest unit lies below `unit`.
        if index >= binomial:
            index -= binomial
            subset.append(unit)
            binomial = binomial * k // (unit - k + 1) if unit >= k else 1
            k -= 1
        if unit:
            binomial = binomial * (unit - k) // unit
        unit -= 1
    return tuple(reversed(subset))


def subsets(n: int, k: int) -> Iterator[tuple[int, ...]]:
    """All subsets of `k` of `n` units in order of rank, each from the one before in O(k) at worst."""
    current = list(range(k))
    while True:
        yield tuple(current)
        for place in range(k):
            bound = current[place + 1] if place + 1 < k else n
            if current[place] + 1 < bound:
                current[place] += 1
                current[:place] = range(place)
                break
        else:
            return
