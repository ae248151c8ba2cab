"""Groups of rows that pairs link: the connected components of a graph, each named by its smallest row."""

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def join_groups(first: Indices, left: Indices, right: Indices) -> Indices:
    """Join the groups of the rows `left` and `right` of each pair, shape `(p,)`.

    `first` is the smallest row of each row's group so far, `np.arange(n)` where each is alone, and what is returned the
    smallest row afterwards, shape `(n,)`.
    """
    if not len(left):
        return first
    # Imported here: it takes a tenth of a second, and most of what imports this module has no pairs.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    roots, ends = np.unique(np.stack([first[left], first[right]]), return_inverse=True)
    one, other = ends.reshape(2, -1)
    graph = coo_array((np.ones(len(one), dtype=np.bool_), (one, other)), shape=(len(roots), len(roots)))
    _, component = connected_components(graph, directed=False)
    # The roots are sorted, so the first one of a component is its smallest.
    _, smallest = np.unique(component, return_index=True)
    joined = np.arange(len(first))
    joined[roots] = roots[smallest[component]]
    return joined[first]
