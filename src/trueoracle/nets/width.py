"""Narrower networks: how many units a layer keeps under a width factor."""


def scaled(units: int, factor: float) -> int:
    """`units` times `factor`, rounded, at least 2, so that a unit can be pruned and one is left."""
    return max(2, round(units * factor))
