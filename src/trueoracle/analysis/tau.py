"""Kendall's tau-b: O(n log n) by a Fenwick tree of ranks. Plain Python, the slow twin of what `compiled` makes of it.

Letters: n points, B resamples or relabellings, U units. Points stand in order of x: `x_group` is the number of the point's
group of equal x (from 0), `y_rank` the dense rank of its y (from 1). With whole-number weights a point stands for so
many copies of itself; copies tie in both, and tau-b leaves such pairs out of its numerator and its denominators.
"""

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


def concordance(x_group: Ints, y_rank: Ints, weight: Ints, tree: Ints) -> int:
    """Concordant minus discordant pairs, weighted; `tree` is scratch of at least max(y_rank) + 1 entries."""
    size = len(tree) - 1
    tree[:] = 0
    n, seen, total, start = len(x_group), 0, 0, 0
    while start < n:
        stop = start
        while stop < n and x_group[stop] == x_group[start]:
            w = weight[stop]
            if w and seen:
                below, upto = 0, 0
                place = y_rank[stop] - 1
                while place > 0:
                    below += tree[place]
                    place &= place - 1
                place = y_rank[stop]
                while place > 0:
                    upto += tree[place]
                    place &= place - 1
                total += w * (below - (seen - upto))
            stop += 1
        for point in range(start, stop):
            w = weight[point]
            if w:
                seen += w
                place = y_rank[point]
                while place <= size:
                    tree[place] += w
                    place += place & -place
        start = stop
    return total


def resampled(x: Floats, y: Floats, x_group: Ints, y_rank: Ints, drawn_Bn: Ints) -> Floats:
    """Kendall's tau-b, Spearman's rho and Pearson's r, shape (B, 3), of the points that each row of `drawn_Bn` names.

    NaN where a resample's x or y is constant.
    """
    n, top = len(x), y_rank.max()
    tree = np.zeros(top + 1, np.int64)
    weight, y_count = np.zeros(n, np.int64), np.zeros(top + 1, np.int64)
    x_mid, y_mid, y_mid_of = np.zeros(n), np.zeros(n), np.zeros(top + 1)
    found = np.full((len(drawn_Bn), 3), np.nan)
    for b in range(len(drawn_Bn)):
        weight[:] = 0
        for point in drawn_Bn[b]:
            weight[point] += 1
        y_count[:] = 0
        differ_x, differ_y, start, before = n * n, n * n, 0, 0
        while start < n:
            stop, together = start, 0
            while stop < n and x_group[stop] == x_group[start]:
                together += weight[stop]
                y_count[y_rank[stop]] += weight[stop]
                stop += 1
            differ_x -= together * together
            for point in range(start, stop):
                x_mid[point] = before + 0.5 * (together + 1)
            before += together
            start = stop
        before = 0
        for rank in range(1, top + 1):
            differ_y -= y_count[rank] * y_count[rank]
            y_mid_of[rank] = before + 0.5 * (y_count[rank] + 1)
            before += y_count[rank]
        if differ_x == 0 or differ_y == 0:
            continue
        for point in range(n):
            y_mid[point] = y_mid_of[y_rank[point]]
        found[b, 0] = concordance(x_group, y_rank, weight, tree) / (0.5 * np.sqrt(differ_x) * np.sqrt(differ_y))
        found[b, 1] = correlation(x_mid, y_mid, weight)
        found[b, 2] = correlation(x, y, weight)
    return found


def correlation(x: Floats, y: Floats, weight: Ints) -> float:
    """Pearson's r of weighted points."""
    total, mean_x, mean_y = 0.0, 0.0, 0.0
    for point in range(len(x)):
        total += weight[point]
        mean_x += weight[point] * x[point]
        mean_y += weight[point] * y[point]
    mean_x /= total
    mean_y /= total
    xx, yy, xy = 0.0, 0.0, 0.0
    for point in range(len(x)):
        dx, dy = x[point] - mean_x, y[point] - mean_y
        xx += weight[point] * dx * dx
        yy += weight[point] * dy * dy
        xy += weight[point] * dx * dy
    return float(xy / (np.sqrt(xx) * np.sqrt(yy)))


def against(x_group: Ints, y_Bn: Floats) -> Floats:
    """Kendall's tau-b of x with each row of `y_Bn`; NaN where that row is constant."""
    n = len(x_group)
    ones, tree, rank = np.ones(n, np.int64), np.zeros(n + 1, np.int64), np.zeros(n, np.int64)
    differ_x, start = n * n, 0
    for point in range(1, n + 1):
        if point == n or x_group[point] != x_group[start]:
            differ_x -= (point - start) * (point - start)
            start = point
    found = np.full(len(y_Bn), np.nan)
    for b in range(len(y_Bn)):
        order = np.argsort(y_Bn[b])
        differ_y, start, top = n * n, 0, 1
        for place in range(n):
            if place and y_Bn[b, order[place]] != y_Bn[b, order[place - 1]]:
                differ_y -= (place - start) * (place - start)
                start = place
                top += 1
            rank[order[place]] = top
        differ_y -= (n - start) * (n - start)
        if differ_x and differ_y:
            found[b] = concordance(x_group, rank, ones, tree[: top + 1]) / (0.5 * np.sqrt(differ_x) * np.sqrt(differ_y))
    return found


def paired(a_Bn: Floats, b_Bn: Floats) -> Floats:
    """Kendall's tau-b of each row of `a_Bn` with the same row of `b_Bn`; NaN where either is constant."""
    found, x_group = np.zeros(len(a_Bn)), np.zeros(a_Bn.shape[1], np.int64)
    for b in range(len(a_Bn)):
        order = np.argsort(a_Bn[b])
        for place in range(1, len(order)):
            rises = a_Bn[b, order[place]] != a_Bn[b, order[place - 1]]
            x_group[place] = x_group[place - 1] + (1 if rises else 0)
        found[b] = against(x_group, b_Bn[b : b + 1, order])[0]
    return found


def relabelled(
    x_group: Ints, y_rank: Ints, kept_nU: NDArray[np.bool_], site_U: Ints, choose: Ints, row_of: Ints, label_BU: Ints
) -> Ints:
    """Concordant minus discordant pairs of x with the y of the relabelled mask, one a row of `label_BU`.

    The masks are all those of a space: `row_of` gives the row of the mask of each rank, a mixed-radix number of the
    sites' ranks in the combinatorial number system. `label_BU[b, u]` is unit u's new label, counted within its site;
    `site_U` the number of u's site; `choose[n, k]` the binomials.
    """
    n, units = kept_nU.shape
    sites = site_U[-1] + 1
    size, first, keeps = np.zeros(sites, np.int64), np.zeros(sites, np.int64), np.zeros(sites, np.int64)
    for unit in range(units - 1, -1, -1):
        size[site_U[unit]] += 1
        first[site_U[unit]] = unit
        keeps[site_U[unit]] += kept_nU[0, unit]
    ones, tree = np.ones(n, np.int64), np.zeros(y_rank.max() + 1, np.int64)
    other = np.zeros(n, np.int64)
    kept = np.zeros(units, np.bool_)
    found = np.zeros(len(label_BU), np.int64)
    for b in range(len(label_BU)):
        for row in range(n):
            for unit in range(units):
                kept[first[site_U[unit]] + label_BU[b, unit]] = kept_nU[row, unit]
            rank = 0
            for site in range(sites):
                digit, taken = 0, 0
                for unit in range(size[site]):
                    if kept[first[site] + unit]:
                        taken += 1
                        digit += choose[unit, taken]
                rank = rank * choose[size[site], keeps[site]] + digit
            other[row] = y_rank[row_of[rank]]
        found[b] = concordance(x_group, other, ones, tree)
    return found
