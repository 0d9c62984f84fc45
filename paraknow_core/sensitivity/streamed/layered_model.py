"""A Transformers model whose layers are in memory one at a time, and run one at a time.

The layers are Transformers' own, and each is called with exactly the arguments that the model's own
forward pass gives it (masks, rotary embeddings, positions): the forward pass runs with its layers
replaced, and is left at the layer that is asked for. So there is no second implementation of any
family here.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.describe import Architecture, Role, TensorFacts, describe
from paraknow_core.models.modules import decoder_layers, is_embedding
from paraknow_core.models.unloaded import unloaded_model
from paraknow_core.sensitivity.gradient_sums import GradientSums
from paraknow_core.sensitivity.losses import answer_loss
from paraknow_core.sensitivity.streamed.prefetch import Prefetch

LayerCall = Callable[[Tensor], Tensor]
"""Runs a layer on a 1 × T × H input with the arguments that one sample gives it."""


class _ReachedError(Exception):
    """The forward pass has come to the layer that was asked for, with these arguments."""

    def __init__(self, hidden: Tensor, rest: tuple[Any, ...], named: dict[str, Any]) -> None:
        self.hidden, self.rest, self.named = hidden, rest, named


class LayeredModel:
    """A model of which only those parts are in memory that are asked for.

    A context manager, which ends the thread that reads ahead.

    Attributes:
        model: the causal language model of Transformers; parameters that are not in memory are on
            the meta device.
        architecture: of the model.
        entry: parameters of the embeddings, which run before the first layer.
        device, dtype: that it is computed on and in.
        end: parameters of the final norm and of the head; a tied head's is the embedding's.
    """

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: str) -> None:
        """Check the model and build it without weights.

        Args:
            folder: a model folder, as ``load_model`` takes it.
            dtype: of the weights in memory, whatever they are on disk.
            device: that it is computed on.

        Raises:
            ModelFolderError, ArchitectureError, CheckpointError: as ``describe``.
        """
        self.architecture: Architecture = describe(folder)
        self.model: Any = unloaded_model(folder, dtype=dtype)
        for name, buffer in list(self.model.named_buffers()):
            owner = self.model.get_submodule(name.rpartition(".")[0])
            owner._buffers[name.rpartition(".")[2]] = buffer.to(device)
        self.device, self.dtype = device, dtype
        self._tensors = {facts.parameter: facts for facts in self.architecture.tensors}
        names = {parameter: facts.name for parameter, facts in self._tensors.items()}
        self._weights = Prefetch(Checkpoint(folder), names, dtype=dtype, device=device)
        self._places = _places(self.model)
        outside = [t for t in self.architecture.tensors if t.layer is None]
        first = [t for t in outside if t.role in (Role.EMBED, Role.POSITION)]
        self.entry = tuple(t.parameter for t in first)
        tied = [t for t in first if t.role is Role.EMBED and self.architecture.tied]
        self.end = tuple(t.parameter for t in [*tied, *(t for t in outside if t not in first)])
        self._layers = decoder_layers(self.model)
        self._embeddings: list[Any] = [m for m in self.model.modules() if is_embedding(m)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._weights.__exit__(*error)

    def layer(self, number: int) -> tuple[str, ...]:
        """The parameters of a layer; none of a number that no layer has."""
        return tuple(t.parameter for t in self.architecture.tensors if t.layer == number)

    def facts(self, names: Collection[str]) -> list[TensorFacts]:
        """What is known of parameters, in the architecture's order."""
        return [facts for name, facts in self._tensors.items() if name in names]

    @contextmanager
    def loaded(
        self, names: Sequence[str], *, then: Sequence[str] = ()
    ) -> Iterator[dict[str, nn.Parameter]]:
        """Have parameters in memory; yields them by name, and lets go of them at the end.

        Args:
            names: of the parameters.
            then: those of the next call, which are read meanwhile; none: it reads them itself.
        """
        found = {}
        try:
            values = self._weights.take(names)
            found = {name: self._put(name, values.pop(name)) for name in names}
            if then:
                self._weights.ask(then)
            yield found
        finally:
            for name in names:
                shape = self._tensors[name].shape
                self._put(name, torch.empty(shape, dtype=self.dtype, device="meta"))
            found.clear()

    def entered(self, sample: TokenisedExample) -> Tensor:
        """What goes into the first layer, 1 × T × H; the entry has to be loaded."""
        return self._at(0, sample).hidden

    def call(self, number: int, sample: TokenisedExample) -> LayerCall:
        """A layer as the model calls it for this sample; the layer has to be loaded to be run."""
        reached = self._at(number, sample)
        layer, rest, named = self._layers[number], reached.rest, reached.named

        def run(hidden: Tensor) -> Tensor:
            output = layer(hidden, *rest, **named)
            return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]

        return run

    def loss(self, sample: TokenisedExample, hidden: Tensor, sums: GradientSums) -> Tensor:
        """The loss of a sample whose last layer gives ``hidden``; the end has to be loaded.

        Its backward pass adds to ``sums``.

        The embedding of a tied head runs too, though its output is not used: so the hooks of
        ``GradientSums`` know the rows in use.
        """
        with self._stubs(len(self._layers) - 1, lambda *_: hidden):
            return answer_loss(self.model, sample, device=self.device, sums=sums)

    def _at(self, number: int, sample: TokenisedExample) -> _ReachedError:
        def leave(hidden: Tensor, rest: tuple[Any, ...], named: dict[str, Any]) -> NoReturn:
            raise _ReachedError(hidden, rest, named)

        try:
            with self._stubs(number, leave):
                answer_loss(self.model, sample, device=self.device)
        except _ReachedError as reached:
            return reached.with_traceback(None)  # whose frames would keep their tensors alive
        raise AssertionError("the forward pass of a model goes through all of its layers")

    @contextmanager
    def _stubs(
        self, number: int, at: Callable[[Tensor, tuple[Any, ...], dict[str, Any]], Tensor]
    ) -> Iterator[None]:
        """Replace one layer; the others hand on their input, and blank embeddings give zeros."""
        stubbed = []

        def stub(module: nn.Module, forward: Callable[..., Tensor]) -> None:
            stubbed.append(module)
            module.forward = forward

        def hand_on(hidden_states: Tensor, *_rest: Any, **_named: Any) -> Tensor:
            return hidden_states

        def stop(hidden_states: Tensor, *rest: Any, **named: Any) -> Tensor:
            return at(hidden_states, rest, named)

        try:
            for place, layer in enumerate(self._layers):
                stub(layer, stop if place == number else hand_on)
            for module in self._embeddings:
                if module.weight.is_meta:
                    stub(module, _zeros(module, self.device))
            yield
        finally:
            for module in stubbed:
                del module.forward  # the class's own is there again

    def _put(self, name: str, values: Tensor) -> nn.Parameter:
        parameter = nn.Parameter(values, requires_grad=False)
        for module, attribute in self._places[name]:
            module._parameters[attribute] = parameter
        return parameter


def _zeros(module: Any, device: str) -> Callable[[Tensor], Tensor]:
    def forward(ids: Tensor) -> Tensor:
        shape = (*ids.shape, module.embedding_dim)
        return torch.zeros(shape, dtype=module.weight.dtype, device=device)

    return forward


def _places(model: nn.Module) -> dict[str, list[tuple[nn.Module, str]]]:
    """Parameter name → the modules that hold it, each with the name it has there."""
    held = defaultdict(list)
    for module in model.modules():
        for attribute, parameter in module._parameters.items():
            held[parameter].append((module, attribute))
    return {name: held[parameter] for name, parameter in model.named_parameters()}
