"""Bound the memory that a pickle can take before it is loaded.

A pickle of a few bytes can name a size or a memo index of billions, which the unpickler allocates
at once, or nest tuples until hashing them overflows the stack. Nothing is loaded here: opcodes and
the sizes of their arguments are read.
"""

import pickletools
import struct

# Opcodes that no list of images needs often: nested or counted by thousands they are an attack.
_RARE = {"TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "FROZENSET", "EMPTY_SET"}
_MOST_RARE = 1000

_LINE_FEEDS = {"GLOBAL": 2, "INST": 2}  # that end the argument, where it is not one
_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: struct.Struct("<B"),
    pickletools.TAKEN_FROM_ARGUMENT4: struct.Struct("<i"),
    pickletools.TAKEN_FROM_ARGUMENT4U: struct.Struct("<I"),
    pickletools.TAKEN_FROM_ARGUMENT8U: struct.Struct("<Q"),
}
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
_CHECKED = {*_RARE, "STOP", "FRAME", "PUT", "LONG_BINPUT"}
# By opcode: the bytes to the next one where nothing needs a check, else 0.
_STEPS = [0] * 256
for _code, _opcode in _OPCODES.items():
    _size = 0 if _opcode.arg is None else _opcode.arg.n
    if _size >= 0 and _opcode.name not in _CHECKED:
        _STEPS[_code] = 1 + _size


def check_sizes(data: bytes) -> None:
    """Check that loading a pickle takes memory in proportion to its own size.

    Raises:
        ValueError: a size, a memo index or a nesting is larger, or the pickle is incomplete.
    """
    position, end, rare = 0, len(data), 0
    steps = _STEPS
    while position < end:
        # Most of millions of operations end here.
        if step := steps[data[position]]:
            position += step
            continue
        opcode = _OPCODES.get(data[position])
        if opcode is None:
            raise ValueError(f"byte {position:,} is not a pickle's")
        if opcode.name == "STOP":
            return
        if opcode.name in _RARE:
            rare += 1
            if rare > _MOST_RARE:
                raise ValueError("it contains thousands of tuples or sets")
        argument, position = position + 1, _end_of(opcode, data, position + 1)
        if position > end:
            break
        if opcode.name == "LONG_BINPUT":
            _check_index(int.from_bytes(data[argument:position], "little"), end)
        elif opcode.name == "PUT":
            _check_index(_decimal(data[argument:position]), end)
        elif opcode.name == "FRAME":
            frame = int.from_bytes(data[argument:position], "little")
            if frame > end - position:
                break
    raise ValueError("its end is missing")


def _end_of(opcode: pickletools.OpcodeInfo, data: bytes, start: int) -> int:
    """Return the position behind an argument; beyond the data if it is incomplete."""
    size = 0 if opcode.arg is None else opcode.arg.n
    if size >= 0:
        return start + size
    if size == pickletools.UP_TO_NEWLINE:
        for _ in range(_LINE_FEEDS.get(opcode.name, 1)):
            start = data.find(b"\n", start) + 1 or len(data) + 1
        return start
    count = _COUNTS[size]
    if start + count.size > len(data):
        return len(data) + 1
    length = count.unpack_from(data, start)[0]
    if length < 0:
        raise ValueError(f"byte {start:,} is a negative size")
    return start + count.size + length


def _check_index(index: int, size: int) -> None:
    if index > size:
        raise ValueError(f"its memo index {index:,} is larger than the file")


def _decimal(text: bytes) -> int:
    """Return the number of a line; of one too long for an index, a number larger than any file."""
    return int(text) if len(text) < 20 else 10**20
