"""Controls: start points that keep everything of a transfer except the one thing under test.

A transfer may beat plain LoRA only because of the size of its start point, which changes the
effective learning rate. Each control here takes the factors ``U Σ Vᵀ`` of the teacher's cuts and
destroys one thing in them, by seed; what the transfer gains over the control is due to that thing.

Shapes: M = out_features, N = in_features (of an embedding: vocabulary, hidden), R = rank.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError
from paraknow_core.registry import Registry
from paraknow_core.seeding import derived_seed


@dataclass(frozen=True)
class SvdFactors:
    """The decomposition of one cut: ``u_MR · diag(s_R) · vh_RN``."""

    u_MR: Tensor  # noqa: N815 - shape suffixes
    s_R: Tensor  # noqa: N815
    vh_RN: Tensor  # noqa: N815


Control = Callable[[Mapping[str, SvdFactors], tuple[str, ...], int], dict[str, SvdFactors]]
"""Takes the factors by module, the modules whose rows are tokens, and the seed."""


def same_spectrum(
    factors: Mapping[str, SvdFactors],
    vocabulary: tuple[str, ...],  # noqa: ARG001
    seed: int,
) -> dict[str, SvdFactors]:
    """Replace the singular vectors of each matrix by random orthonormal ones, uniform over all.

    The singular values stay as they are, bit for bit, so the start product has the same norm and
    the same effective rank. These R numbers are all that is left of the teacher.
    """
    found = {}
    for module, given in factors.items():
        source = _generator(seed, module)
        u_MR = random_orthonormal(given.u_MR, source)
        v_NR = random_orthonormal(given.vh_RN.T, source)
        found[module] = SvdFactors(u_MR, given.s_R, v_NR.T.contiguous())
    return found


def shuffled_teacher(
    factors: Mapping[str, SvdFactors],
    vocabulary: tuple[str, ...],  # noqa: ARG001
    seed: int,
) -> dict[str, SvdFactors]:
    """Permute the rows and the columns of every cut, each matrix by permutations of its own.

    Every value of the teacher stays, in another place (a fused projection counts as one matrix, as
    it does in the factors). Permuting the factors is permuting the cut:
    for permutation matrices P and Q, ``P W Q = (P U) Σ (Qᵀ V)ᵀ``, and ``P U`` and ``Qᵀ V`` are
    orthonormal as U and V are; so this is the singular value decomposition of the permuted cut, and
    its best approximation of rank R is the permuted one. Nothing has to be decomposed again.
    """
    found = {}
    for module, given in factors.items():
        source = _generator(seed, module)
        rows = torch.randperm(given.u_MR.shape[0], generator=source)
        cols = torch.randperm(given.vh_RN.shape[1], generator=source)
        found[module] = SvdFactors(
            given.u_MR[rows].contiguous(), given.s_R, given.vh_RN[:, cols].contiguous()
        )
    return found


def shuffled_vocabulary(
    factors: Mapping[str, SvdFactors], vocabulary: tuple[str, ...], seed: int
) -> dict[str, SvdFactors]:
    """Permute the tokens' rows in embedding and head, by the same permutation in both.

    All other matrices stay the teacher's. Rows that are zero in every factor (tokens to which the
    teacher gave nothing) stay where they are.

    Raises:
        ConfigError: if neither embedding nor head is transferred: nothing would be shuffled.
    """
    tables = [module for module in vocabulary if module in factors]
    if not tables:
        raise ConfigError(
            "The control 'shuffled-vocabulary' permutes rows of embedding and head, but neither is "
            "transferred (extract.roles); it would be the transfer itself. Leave the control out."
        )
    given = torch.stack([(factors[module].u_MR != 0).any(1) for module in tables]).any(0)
    order_V = torch.arange(given.shape[0])
    places = given.nonzero().flatten()
    order_V[places] = places[torch.randperm(len(places), generator=_generator(seed, "vocabulary"))]
    shuffled = {
        module: SvdFactors(
            factors[module].u_MR[order_V].contiguous(), factors[module].s_R, factors[module].vh_RN
        )
        for module in tables
    }
    return {**factors, **shuffled}


FACTOR_CONTROLS: Registry[Control] = Registry(
    "control",
    {
        "same-spectrum": same_spectrum,
        "shuffled-teacher": shuffled_teacher,
        "shuffled-vocabulary": shuffled_vocabulary,
    },
)
"""The controls that act on factors, by the name that they have in ``methods.METHODS``."""


def apply_control(
    name: str, factors: Mapping[str, SvdFactors], *, vocabulary: tuple[str, ...], seed: int
) -> dict[str, SvdFactors]:
    """Turn a transfer's factors into those of a control.

    Args:
        name: a key of ``FACTOR_CONTROLS``.
        factors: module → factors of its cut, float32 on the CPU; stay as they are.
        vocabulary: the modules whose rows are tokens.
        seed: of the random draw; a module's draw does not depend on the other modules.

    Returns:
        The control's factors, for the same modules in the same shapes.

    Raises:
        ConfigError: for an unknown control, or one that would change nothing.
    """
    return FACTOR_CONTROLS.choose(name)(factors, vocabulary, seed)


def _generator(seed: int, purpose: str) -> torch.Generator:
    return torch.Generator().manual_seed(derived_seed(seed, purpose))


def random_orthonormal(like: Tensor, source: torch.Generator) -> Tensor:
    """Random orthonormal columns: the Q of a Gaussian matrix.

    They are uniformly distributed only if the diagonal of R is positive, so the signs are fixed.
    """
    normal = torch.randn(like.shape, generator=source, dtype=torch.float64)
    basis, triangle = torch.linalg.qr(normal)
    signs = torch.where(triangle.diagonal() < 0, -1.0, 1.0).double()
    found: Tensor = (basis * signs).to(like.dtype).contiguous()
    return found
