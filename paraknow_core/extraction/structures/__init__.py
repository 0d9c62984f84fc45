"""Structures: what shape of the teacher's matrices goes to the student, by name.

A new one is a function in a file of its own and a line here; docs/strategies.md shows one.
"""

from paraknow_core.extraction.structures import consistent
from paraknow_core.extraction.structures.base import Structure, each_matrix
from paraknow_core.extraction.structures.neuron import neuron
from paraknow_core.extraction.structures.random_elements import random_elements
from paraknow_core.extraction.structures.random_window import random_window
from paraknow_core.extraction.structures.row_column import row_column
from paraknow_core.extraction.structures.submatrix import submatrix
from paraknow_core.registry import Registry

STRUCTURES: Registry[Structure] = Registry(
    "structure",
    {
        "submatrix": each_matrix(submatrix, element_bytes=16, is_contiguous=True),
        "row-column": each_matrix(row_column),
        "neuron": each_matrix(neuron),
        "random-elements": each_matrix(random_elements, element_bytes=4, is_contiguous=True),
        "random-window": each_matrix(random_window, is_contiguous=True),
        "consistent": Structure(consistent.find, consistent.check),
    },
)
"""SeeKing's own structure first, then those it is compared with."""
