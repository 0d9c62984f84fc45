"""YAML of unknown origin, read strictly; an error is one sentence with the number of the line.

Strict means the same as in ``strict_data``. Values have the types of JSON and no others, and the
number of values is limited after aliases are expanded: ten lines of them can mean 10^9 values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import yaml

from paraknow_core.errors import ParaknowError
from paraknow_core.strict_data import (
    MAX_DEPTH,
    NotStrictError,
    is_unicode,
    line_at,
    not_utf8,
    read_bytes,
)

MAX_YAML_BYTES = 256 * 1024
"""PyYAML needs 2 s for as much; the longest experiment of this project has 3 kB."""
MAX_VALUES = 100_000
"""Counted after every alias is written out."""
MAX_DIGITS = 100

_YAML = "tag:yaml.org,2002:"
_TYPES = ("null", "bool", "int", "float", "str", "seq", "map")


def read_yaml(path: Path, *, refuse: type[ParaknowError]) -> Any:
    """Read a YAML file, strictly.

    Raises:
        ParaknowError: of class ``refuse``; names the file, the line and the fault.
    """
    data = read_bytes(path, max_bytes=MAX_YAML_BYTES, refuse=refuse)
    try:
        return parse_yaml(data.decode())
    except UnicodeDecodeError as error:
        raise refuse(f"{path} is no valid YAML: {not_utf8(error)}") from None
    except NotStrictError as error:
        raise refuse(f"{path} is no valid YAML: {error}") from None


def parse_yaml(text: str) -> Any:
    """Parse one YAML document into None, bool, int, float, str, list and dict, strictly.

    Dates stay texts.

    Raises:
        NotStrictError: with line and fault.
    """
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        raise NotStrictError(
            f"{line_at(text, error.position)}: the character {chr(error.character)!a} is refused"
        ) from None
    try:
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        parts = " ".join(part for part in (error.context, error.problem) if part)
        raise NotStrictError(f"line {mark.line + 1 if mark else 1}: {parts}") from None
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", which chr() refuses
        line = loader.get_mark().line + 1
        raise NotStrictError(f"line {line}: an escape of no character ({error})") from None


def line_in_yaml(text: str, path: Sequence[str | int]) -> int:
    """Return the line in which a setting stands, or the nearest one around it that is there.

    Args:
        text: a document that `parse_yaml` takes.
        path: keys and places in lists, from the outside in.
    """
    node = _Loader(text).get_single_node()
    line = node.start_mark.line if node is not None else 0
    for part in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next((pair for pair in node.value if pair[0].value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            found = (node.value[part], node.value[part]) if part < len(node.value) else None
        if found is None:
            break
        line, node = found[0].start_mark.line, found[1]
    return int(line) + 1


def _fault(mark: yaml.Mark, what: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=what, problem_mark=mark)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with bounds, and without the types that JSON does not have."""

    yaml_constructors: ClassVar[dict[Any, Any]] = {
        _YAML + name: yaml.SafeLoader.yaml_constructors[_YAML + name] for name in _TYPES
    }
    yaml_implicit_resolvers: ClassVar[dict[Any, Any]] = {  # type: ignore[misc]
        first: [row for row in rows if row[0] not in (_YAML + "timestamp", _YAML + "value")]
        for first, rows in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values: dict[yaml.Node, int] = {}
        """Every complete node, and how many values it stands for."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node, or find the one that an alias means; bounded in depth and values."""
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._depth >= MAX_DEPTH:
            raise _fault(mark, f"nested deeper than {MAX_DEPTH} levels")
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        if node is not None and is_alias and node not in self._values:
            raise _fault(mark, "an alias inside of what it stands for")
        if node is not None and not is_alias:
            self._values[node] = self._count(node)
        return node

    def _count(self, node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            _check_scalar(node)
            return 1
        parts = node.value
        if isinstance(node, yaml.MappingNode):
            self._check_keys(node)
            parts = [part for pair in node.value for part in pair]
        count = 1 + sum(self._values[part] for part in parts)
        if count > MAX_VALUES:
            raise _fault(node.start_mark, f"more than {MAX_VALUES} values, each alias written out")
        return count

    def _check_keys(self, node: yaml.MappingNode) -> None:
        """No key twice; a merge (``<<``) may bring keys that the mapping itself replaces."""
        seen = set()
        for key, _value in node.value:
            if isinstance(key, yaml.ScalarNode):
                is_merge = key.tag == _YAML + "merge"
                name = key.value if is_merge else self.construct_object(key)
                if (is_merge, name) in seen:
                    raise _fault(key.start_mark, f"the key {key.value[:80]!r} appears twice")
                seen.add((is_merge, name))

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Construct a value; an error about a scalar of a wrong type names its line."""
        tag = node.tag.replace(_YAML, "!!", 1)
        if node.tag not in self.yaml_constructors:
            raise _fault(node.start_mark, f"the tag {tag[:80]!r} is not among {', '.join(_TYPES)}")
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, LookupError, ArithmeticError) as error:
            raise _fault(
                node.start_mark, f"{str(node.value)[:80]!r} is no value of the type {tag[2:]}"
            ) from error


def _check_scalar(node: yaml.ScalarNode) -> None:
    if node.tag in (_YAML + "int", _YAML + "float") and len(node.value) > MAX_DIGITS:
        raise _fault(node.start_mark, f"a number of {len(node.value)} digits")
    if "\0" in node.value or not is_unicode(node.value):
        raise _fault(node.start_mark, "a text with NUL, or that is not valid Unicode")
