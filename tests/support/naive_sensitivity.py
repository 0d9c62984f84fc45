"""The sensitivity as it is written down, slow and in float64, and how near a map is to it."""

import torch


def naive(model, examples):
    """The method as written: full logits, one whole gradient per sample, everything in float64."""
    model = model.double()
    total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for example in examples:
        model.zero_grad()
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        model(input_ids=ids, labels=labels).loss.double().backward()
        for name, parameter in model.named_parameters():
            total[name] += (parameter.detach() * parameter.grad).abs()
    return total


def assert_close(maps, reference, tolerance):
    assert maps.keys() == reference.keys()
    for name, expected in reference.items():
        error = (maps[name].double() - expected.double()).norm() / expected.norm().clamp_min(1e-30)
        assert error < tolerance, (name, float(error))
