"""The part of a page's data that says what the teacher gave and how the start points look."""

from dataclasses import dataclass

from paraknow_core.strict_model import Part


@dataclass(frozen=True, kw_only=True)
class Sensitivity(Part):
    """The teacher's sensitivity, summed (SeeKing, arXiv 2310.11451, §3).

    Attributes:
        roles: kinds of matrix, in the order of ``sums``.
        sums: of each role, one sum a layer.
        layers: sum of everything in each layer.
        outside: role → sum, of what lies outside the layers.
        chosen: teacher layers that the student takes from, in the student's order.
    """

    roles: tuple[str, ...]
    sums: tuple[tuple[float | None, ...], ...]
    layers: tuple[float | None, ...]
    outside: dict[str, float | None] | None = None
    chosen: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShownWindow(Part):
    """The part of a teacher matrix that a student module takes.

    Attributes:
        role: kind of matrix.
        student_layer: None outside the layers.
        teacher_layer: None outside the layers.
        module: the student's module.
        row: first row in the teacher's matrix.
        col: first column.
        rows: the student's rows.
        cols: its columns.
        teacher_rows: rows of the whole teacher matrix.
        teacher_cols: its columns.
        share: of the matrix's sensitivity inside the window, 0..1.
    """

    role: str
    module: str
    row: int
    col: int
    rows: int
    cols: int
    teacher_rows: int
    teacher_cols: int
    student_layer: int | None = None
    teacher_layer: int | None = None
    share: float | None = None


@dataclass(frozen=True, kw_only=True)
class Spectrum(Part):
    """Leading singular values of what one module takes.

    Attributes:
        module: the student's module.
        role: kind of matrix.
        layer: the student's layer; None outside the layers.
        values: descending.
        energy: share of the squared norm that they hold, 0..1.
    """

    module: str
    role: str
    values: tuple[float | None, ...]
    layer: int | None = None
    energy: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModuleFact(Part):
    """How one start point's product B₀A₀ (PEFT's scale included) compares with the weight W.

    Attributes:
        method: a method's name.
        module: the student's module.
        role: kind of matrix.
        layer: None outside the layers.
        norm_ratio: ‖B₀A₀‖ / ‖W‖ (Frobenius).
        cosine: of B₀A₀ and W as vectors, −1..1; None where B₀A₀ is zero.
    """

    method: str
    module: str
    role: str
    layer: int | None = None
    norm_ratio: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, kw_only=True)
class Cka(Part):
    """Linear CKA between the layers of two models (Kornblith et al., arXiv 1905.00414).

    Attributes:
        matrix: one row a student layer, one value a teacher layer.
        texts: how many texts it was estimated on.
        estimator: which estimator, in words.
    """

    matrix: tuple[tuple[float | None, ...], ...]
    texts: int
    estimator: str = "debiased"


@dataclass(frozen=True, kw_only=True)
class TokenShare(Part):
    """A token, and its share of the squared norm of the novel directions with their sizes.

    Attributes:
        token: as the student's tokenizer writes it.
        row: of the matrix.
        share: 0..1.
    """

    token: str
    row: int
    share: float | None


@dataclass(frozen=True, kw_only=True)
class NovelMatrix(Part):
    """What of a teacher's token space the untouched student cannot express, for one matrix.

    Attributes:
        module: the student's module.
        role: kind of matrix.
        share: of the teacher's centred rows' squared norm, 0..1.
        energy: of that, what the stored directions hold, 0..1.
        tokens: those that carry most of it, the first one most.
    """

    module: str
    role: str
    share: float | None
    energy: float | None = None
    tokens: tuple[TokenShare, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Arrived(Part):
    """What of the teacher's novel directions one method's trained matrix has.

    Attributes:
        method: a method's name.
        module: the student's module.
        role: kind of matrix.
        teacher_share: of the teacher's token space that these directions hold, 0..1.
        cosines: of the principal angles with the trained matrix's columns, the largest first.
        cosines_by_chance: root mean square for a matrix that was drawn.
        change_share: of the squared norm of what was learnt that lies in them, 0..1.
        share_by_chance: the same for a change that was drawn.
        weight_share: of the trained matrix's token space that lies in them, 0..1.
        change_ratio: ‖ΔW‖ / ‖W‖.
    """

    method: str
    module: str
    role: str
    teacher_share: float | None = None
    cosines: tuple[float | None, ...] = ()
    cosines_by_chance: float | None = None
    change_share: float | None = None
    share_by_chance: float | None = None
    weight_share: float | None = None
    change_ratio: float | None = None

    @property
    def cosine(self) -> float | None:
        """Root mean square of the cosines."""
        known = [value for value in self.cosines if value is not None]
        return (sum(v * v for v in known) / len(known)) ** 0.5 if known else None
