"""Read YAML files strictly: plain text, numbers, lists and mappings, each key once.

PyYAML takes the last of two equal keys without a word, builds dates and sets, and expands aliases
without a limit. Here such files are refused with one sentence that gives the line.
"""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from ..utils.errors import UsageError

# The C loader, which needs libyaml, is ten times faster.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 4 * 2**20  # of a file; the largest one of this project has 40 kB
MAX_DEPTH = 50  # of nested lists and mappings
MAX_VALUES = 100_000  # of a file, after every alias is replaced by what it names
PREFIX = "tag:yaml.org,2002:"
PLAIN = {PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file: None, numbers, text, lists and mappings with text keys.

    Merge keys (<<) and aliases work.

    Raises:
        UsageError: the content is not YAML, or not as strict as described above.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise UsageError(
            f"{str(path)!r} has more than the {MAX_BYTES:,} bytes of a YAML file here: is it the "
            "right file?"
        )
    try:
        return copy.deepcopy(parse(content.decode("utf-8")))
    except UnicodeDecodeError as error:
        raise UsageError(f"{str(path)!r} is not a YAML file: it is not UTF-8 text") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # ValueError: a number that Python cannot read, such as one of 5,000 digits, or `parse`
        reason = " ".join(str(error).split())
        raise UsageError(f"{str(path)!r} is not valid YAML: {reason:.400}") from error


@cache  # planning reads the same few files for every job; an edited file is another text
def parse(text: str) -> Any:
    """Return the content of a YAML text; raise YAMLError or ValueError if it is not valid."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        opens = isinstance(event, yaml.CollectionStartEvent)
        depth += opens - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            line = event.start_mark.line + 1  # type: ignore[union-attr]
            raise ValueError(f"line {line}: nested more than {MAX_DEPTH} times")
    loader = LOADER(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node, {}, set())
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _check(node: Node, sizes: dict[int, int], parents: set[int]) -> int:
    """Raise ValueError if a node is not plain, or too large; return its number of values.

    Args:
        sizes: the numbers of the nodes that were checked before.
        parents: the nodes that contain this one.
    """
    line = node.start_mark.line + 1
    if id(node) in sizes:
        return sizes[id(node)]
    if id(node) in parents:
        raise ValueError(f"line {line}: a value contains itself")
    if isinstance(node, ScalarNode) and node.tag == f"{PREFIX}timestamp":
        node.tag = f"{PREFIX}str"  # a name such as 2024-12-31
    if node.tag not in PLAIN:
        raise ValueError(
            f"line {line}: could not determine a constructor for the tag "
            f"{node.tag.replace(PREFIX, '!!')!r}, remove it"
        )
    if isinstance(node, ScalarNode) and "\0" in node.value:
        raise ValueError(f"line {line}: text with a NUL character")
    parents.add(id(node))
    children = []
    if isinstance(node, SequenceNode):
        children = list(node.value)
    elif isinstance(node, MappingNode):
        _check_keys(node)
        children = [child for pair in node.value for child in pair]
    size = 1 + sum(_check(child, sizes, parents) for child in children)
    if size > MAX_VALUES:
        raise ValueError(f"line {line}: aliases expand it to more than {MAX_VALUES:,} values")
    parents.remove(id(node))
    sizes[id(node)] = size
    return size


def _check_keys(node: MappingNode) -> None:
    """Raise ValueError unless the keys of a mapping are different texts."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if key.tag not in (f"{PREFIX}str", f"{PREFIX}merge", f"{PREFIX}timestamp"):
            name = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
            raise ValueError(f"line {line}: the key {name} is not text, put it in quotes")
        if key.value in seen:
            raise ValueError(
                f"line {line}: the key {key.value!r} is given twice, first in line "
                f"{seen[key.value]}: remove one"
            )
        seen[key.value] = line
