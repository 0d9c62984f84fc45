"""Everything about data in one place: read, split, check, keep, tokenise.

Importing this module imports neither torch nor transformers nor datasets, so that a run can be
planned without them.
"""

from paraknow_core.data.examples import NO_LOSS, Columns, Example, TokenisedExample, normalise
from paraknow_core.data.files import read_examples, read_split, write_examples
from paraknow_core.data.hub import read_hub
from paraknow_core.data.splits import (
    SPLITS,
    DealtSizes,
    Overlap,
    SplitSizes,
    check_overlap,
    find_overlaps,
    split_examples,
)
from paraknow_core.data.templates import TEMPLATES, get_template
from paraknow_core.data.tokenisation import TokenisedSplit, tokenise, tokenise_all

__all__ = [
    "Columns",
    "DealtSizes",
    "Example",
    "NO_LOSS",
    "Overlap",
    "SPLITS",
    "SplitSizes",
    "TEMPLATES",
    "TokenisedExample",
    "TokenisedSplit",
    "check_overlap",
    "find_overlaps",
    "get_template",
    "normalise",
    "read_examples",
    "read_hub",
    "read_split",
    "split_examples",
    "tokenise",
    "tokenise_all",
    "write_examples",
]
