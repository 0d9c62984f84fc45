"""One start point out of several: each part of a model starts as another method says."""

from collections.abc import Mapping

from paraknow_core.errors import ConfigError
from paraknow_core.lora.adapter import Adapter


def compose(parts: Mapping[str, Adapter], modules: Mapping[str, str]) -> Adapter:
    """Take each module's start from the part that is named for it.

    A tied head shares the embedding's start, unless ``modules`` names it: then it has its own, and
    the embedding's counts for the embedding alone.

    Args:
        parts: name → a start point of the same student, all of one rank and alpha.
        modules: module → the name of its part.

    Returns:
        The start point, whose modules are the keys of ``modules``.

    Raises:
        ConfigError: if parts differ in rank or alpha, or a part has no start for a module.
    """
    sizes = {name: (part.rank, part.alpha) for name, part in parts.items()}
    if len(set(sizes.values())) != 1:
        told = ", ".join(f"{name}: rank {r}, alpha {a:g}" for name, (r, a) in sizes.items())
        raise ConfigError(f"Start points of one rank and alpha can be put together; given: {told}.")
    missing = sorted(m for m, name in modules.items() if m not in parts[name].factors)
    if missing:
        raise ConfigError(
            f"The start point {modules[missing[0]]!r} has none for {', '.join(missing[:3])}: name "
            "another method for that role, or leave the role out."
        )
    used = {name: parts[name] for name in dict.fromkeys(modules.values())}
    rank, alpha = next(iter(sizes.values()))
    shared = (part.tied_head for part in used.values() if part.tied_head not in modules)
    return Adapter(
        factors={module: parts[name].factors[module] for module, name in modules.items()},
        embeddings=frozenset(m for m, name in modules.items() if m in parts[name].embeddings),
        rank=rank,
        alpha=alpha,
        tied_head=next((head for head in shared if head is not None), None),
        base_model=next((p.base_model for p in used.values() if p.base_model is not None), None),
        fan_in_fan_out=any(part.fan_in_fan_out for part in used.values()),
        added=frozenset(m for m, name in modules.items() if m in parts[name].added),
    )
