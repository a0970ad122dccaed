"""The cheapest assignment of rows to columns, ties broken as SciPy does, for use in compiled loops."""
from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def assign(cost_RC: np.ndarray) -> np.ndarray:
    """Assign rows to columns at the smallest total cost, as many as there are of the fewer.

    Shortest augmenting paths: one row at a time is added to the assignment along the path that raises the
    total least, with dual prices that keep every reduced cost at zero or above. Where several assignments
    cost the same, the one that `scipy.optimize.linear_sum_assignment` gives is found: free columns are
    preferred, later ones are looked at first.

    Args:
        cost_RC: finite float64.

    Returns:
        int64 `(R,)`: the column of each row, -1 for rows that have none.

    Source: Crouse, On implementing 2D rectangular assignment algorithms, IEEE Transactions on Aerospace and
    Electronic Systems 52(4), 2016.
    """
    turned = cost_RC.shape[1] < cost_RC.shape[0]
    cost = cost_RC.T.copy() if turned else cost_RC
    rows, columns = cost.shape

    row_price = np.zeros(rows)
    column_price = np.zeros(columns)
    column_of = np.full(rows, -1, dtype=np.int64)
    row_of = np.full(columns, -1, dtype=np.int64)

    came_from = np.full(columns, -1, dtype=np.int64)
    length = np.empty(columns)
    open_columns = np.empty(columns, dtype=np.int64)
    row_seen = np.empty(rows, dtype=np.bool_)
    column_seen = np.empty(columns, dtype=np.bool_)

    for new_row in range(rows):
        # all columns are open, the last one first in line
        for k in range(columns):
            open_columns[k] = columns - k - 1
        length[:] = np.inf
        row_seen[:] = False
        column_seen[:] = False

        row = new_row
        shortest = 0.0
        end = -1
        still_open = columns
        while end == -1:
            row_seen[row] = True
            best = -1
            lowest = np.inf

            # lengthen the paths by this row; the nearest open column is next, a free one of equally near ones
            for k in range(still_open):
                column = open_columns[k]
                through_row = shortest + cost[row, column] - row_price[row] - column_price[column]
                if through_row < length[column]:
                    came_from[column] = row
                    length[column] = through_row
                if length[column] < lowest or (length[column] == lowest and row_of[column] == -1):
                    lowest = length[column]
                    best = k

            shortest = lowest
            column = open_columns[best]
            if row_of[column] == -1:
                end = column
            else:
                row = row_of[column]
            column_seen[column] = True
            still_open -= 1
            open_columns[best] = open_columns[still_open]

        # prices follow the paths
        row_price[new_row] += shortest
        for other in range(rows):
            if row_seen[other] and other != new_row:
                row_price[other] += shortest - length[column_of[other]]
        for column in range(columns):
            if column_seen[column]:
                column_price[column] -= shortest - length[column]

        # walk the path back and exchange partners along it
        column = end
        row = -1
        while row != new_row:
            row = came_from[column]
            row_of[column] = row
            previous = column_of[row]
            column_of[row] = column
            column = previous

    return row_of if turned else column_of


def assign_reference(cost_RC: np.ndarray) -> np.ndarray:
    """Reference implementation of `assign`: SciPy's."""
    from scipy.optimize import linear_sum_assignment

    columns = np.full(len(cost_RC), -1, dtype=np.int64)
    rows, chosen = linear_sum_assignment(cost_RC)
    columns[rows] = chosen
    return columns
