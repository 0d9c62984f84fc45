"""How alike the layers of the student and the teacher are, by linear CKA."""

from functools import partial

from paraknow_core.report.page import heatmap
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.heatmap import Grid
from paraknow_core.report.page.text import number

TITLE = "Likeness of layers (linear CKA)"


def draw(pair: Pair) -> Figure:
    """Draw a heat map, student layers × teacher layers, 0 to 1; chosen pairs are outlined."""
    found = pair.cka
    if found is None or not found.matrix or not found.matrix[0]:
        return Figure(
            "cka", TITLE, missing="Layers were not compared: no diagnosis was handed over."
        )
    students, teachers = range(len(found.matrix)), range(len(found.matrix[0]))
    chosen = pair.sensitivity.chosen if pair.sensitivity else ()
    grid = Grid(
        rows=[str(layer) for layer in students],
        columns=[str(layer) for layer in teachers],
        strength=[
            [None if v is None else min(1.0, max(0.0, v)) for v in row] for row in found.matrix
        ],
        texts=[[number(value, 2) for value in row] for row in found.matrix],
        x_label="teacher layer",
        y_label="student layer",
        ringed=[(s, t) for s, t in enumerate(chosen) if s in students and t in teachers],
    )
    return Figure(
        "cka",
        TITLE,
        f"Of mean-pooled sentence vectors on {found.texts} texts, {found.estimator} estimate: "
        "1 is the same up to rotation and scale, 0 is unrelated. Outlined: the pairs of layers "
        "that parameters are moved between.",
        partial(heatmap.plot, grid),
        f"{TITLE} of {pair.name}",
        Table(
            ("student layer", *(f"teacher {layer}" for layer in teachers)),
            tuple(
                (str(layer), *(number(value) for value in row))
                for layer, row in enumerate(found.matrix)
            ),
        ),
    )
