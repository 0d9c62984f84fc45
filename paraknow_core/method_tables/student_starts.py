"""Plain LoRA, and start points that are made of the student alone."""

from paraknow_core.method import Method


def student_start(
    label: str,
    start: str,
    source: str,
    *,
    draws: bool = False,
    uses_samples: bool = False,
    directions: int = 1,
) -> Method:
    """Make the start point of the student alone."""
    return Method(
        kind="student-start",
        label=label,
        start=start,
        tells="If the transfer does not beat it, the student needs no teacher for the same gain.",
        source=source,
        builder="student-start",
        draws=draws,
        uses_samples=uses_samples,
        directions=directions,
    )


PLAIN_LORA = Method(
    kind="plain",
    label="tuned plain LoRA",
    title="plain LoRA",
    start="A drawn by Kaiming's rule, B = 0",
    tells="If the transfer does not beat it, the start point gains nothing.",
    source="LoRA (arXiv 2106.09685, §4.1)",
    builder="plain",
    draws=True,
)

PISSA = student_start("PiSSA", "the student's principal components", "PiSSA (arXiv 2404.02948)")

MILORA = student_start("MiLoRA", "the student's minor components", "MiLoRA (arXiv 2406.09044)")

OLORA = student_start(
    "OLoRA", "an orthogonal basis of the student's weights", "OLoRA (arXiv 2406.01775)"
)

EVA = student_start(
    "EVA",
    "directions in which the student's inputs vary most",
    "EVA (arXiv 2410.07170)",
    draws=True,
    uses_samples=True,
)

CORDA = student_start(
    "CorDA",
    "the student's components as seen by the covariance of its inputs",
    "CorDA (arXiv 2406.05223)",
    uses_samples=True,
)

LORA_GA = student_start(
    "LoRA-GA",
    "directions of the student's first gradient",
    "LoRA-GA (arXiv 2407.05000)",
    draws=True,
    uses_samples=True,
    directions=2,
)
