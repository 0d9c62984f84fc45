"""The whitened distillation gradient: what each layer's output should change for the teacher's KL.

E = −∂ KL(p_T ‖ p_S) / ∂(output of the layer), by one backward pass for all matrices, and the
shared solver turns E into a change of each weight. EᵀX is the weight's negative gradient; C^(−½)
takes out how often and how strongly a direction of the inputs occurs, as in a Gauss-Newton step
whose output metric is the identity (K-FAC, arXiv 1503.05671, §2, with that metric).
"""

from contextlib import ExitStack
from typing import Any

from torch import Tensor

from paraknow_core.errors import NumericsError
from paraknow_core.models.modules import is_embedding
from paraknow_core.signals.activations import kept_inputs
from paraknow_core.signals.parts import TeacherSays, divergence
from paraknow_core.signals.reduced_rank import CrossProducts, reduced_rank
from paraknow_core.signals.request import SignalRequest, Signals

# Nats a position; less is the rounding of float32.
_LEAST_DIVERGENCE = 1e-6


def whitened_distillation(request: SignalRequest) -> Signals:
    """Find the change of every linear layer along the whitened gradient of the KL.

    An embedding has no inputs that vary, and is left out; so is a head that is tied to it.

    Raises:
        NumericsError: if teacher and student say the same, or as ``reduced_rank``.
    """
    sums = distillation_sums(request)
    ridge = request.options.ridge
    return {n: reduced_rank(s, rank=request.rank, ridge=ridge, what=n) for n, s in sums.items()}


def distillation_sums(request: SignalRequest) -> dict[str, CrossProducts]:
    """Sum EᵀX and XᵀX of every linear layer over the texts.

    The KL of a text is summed over the positions that count. X is every position of the text, since
    the gradient reaches earlier positions by attention.
    """
    student = request.model(request.student_folder)
    linear = [n for n in request.modules if not is_embedding(student.get_submodule(n))]
    sums: dict[str, CrossProducts] = {}
    with ExitStack() as stack:
        inputs = kept_inputs(student, linear, stack)

        def adder(name: str) -> Any:
            def add(gradient: Tensor) -> None:
                e_TO = -gradient.flatten(0, -2)
                x_TN = inputs[name]
                sums.setdefault(name, CrossProducts.zeros(e_TO.shape[1], x_TN.shape[1]))
                sums[name].add(e_TO, x_TN)

            def hook(_module: Any, _args: Any, output: Tensor) -> None:
                if output.requires_grad:  # not while it stands in the teacher's place
                    output.register_hook(add)  # type: ignore[no-untyped-call]

            return hook

        for name in linear:
            stack.callback(student.get_submodule(name).register_forward_hook(adder(name)).remove)
        # With frozen weights a gradient flows only from what is told to need one.
        stack.callback(
            student.get_input_embeddings()
            .register_forward_hook(lambda _m, _a, output: output.requires_grad_(True))
            .remove
        )
        whole, positions = 0.0, 0
        for text, read, order_T in request.each():
            lost = divergence(request, text, TeacherSays(request, read, order_T))
            lost.backward()  # type: ignore[no-untyped-call]
            whole += float(lost.detach())
            positions += int(text.counts_T.sum())
    if not whole > _LEAST_DIVERGENCE * positions:
        raise NumericsError(
            f"Teacher and student differ by {whole / max(1, positions):.1e} nats a position: there "
            "is nothing to write. A student in its own teacher's place gives this."
        )
    return sums
