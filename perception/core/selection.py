"""Which samples of many are looked at, where all would take too long."""
from __future__ import annotations


def spread(total: int, count: int | None) -> list[int]:
    """Indices of `count` samples spread evenly over `total` (the middles of equal parts), in order.

    All of them for None or more than there are.

    >>> spread(10, 2), spread(3, 9), spread(4, 0)
    ([2, 7], [0, 1, 2], [])
    """
    if count is None or count >= total:
        return list(range(total))
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]
