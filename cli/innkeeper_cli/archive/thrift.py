"""Thrift's compact protocol, as much of it as the metadata of Parquet takes.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias, Union

Field: TypeAlias = Union[bool, "I32", "I64", bytes, str, "Struct", "ListOf"]

_TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 1, 2, 5, 6, 8, 9, 12


class I32(NamedTuple):
    """A number of 32 bits."""

    value: int


class I64(NamedTuple):
    """A number of 64 bits."""

    value: int


class ListOf(NamedTuple):
    """A list whose items are all of one kind; not of truth values."""

    items: Sequence["Field"]


class Struct(NamedTuple):
    """Fields by their ids, in ascending order; None: not there."""

    fields: dict[int, "Field | None"]


def encode(struct: Struct) -> bytes:
    """A struct as bytes."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def varint(value: int) -> bytes:
    """An unsigned number, seven bits a byte, the lowest first (ULEB128)."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _zigzag(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for number, field in struct.fields.items():
        if field is None:
            continue
        step, kind = number - last, _kind(field)
        assert step > 0, "fields ascend"
        if step <= 15:
            out.append(step << 4 | kind)
        else:
            out.append(kind)
            out += _zigzag(number)
        _write_value(out, field)
        last = number
    out.append(0)


def _kind(field: Field) -> int:
    if isinstance(field, bool):
        return _TRUE if field else _FALSE
    if isinstance(field, I32):
        return _I32
    if isinstance(field, I64):
        return _I64
    if isinstance(field, bytes | str):
        return _BINARY
    return _LIST if isinstance(field, ListOf) else _STRUCT


def _write_value(out: bytearray, field: Field) -> None:
    if isinstance(field, bool):
        return  # the kind says it
    if isinstance(field, I32 | I64):
        out += _zigzag(field.value)
    elif isinstance(field, bytes | str):
        raw = field.encode() if isinstance(field, str) else field
        out += varint(len(raw)) + raw
    elif isinstance(field, ListOf):
        kind, count = _kind(field.items[0]) if field.items else _STRUCT, len(field.items)
        out += bytes((count << 4 | kind,)) if count < 15 else bytes((0xF0 | kind,)) + varint(count)
        for item in field.items:
            _write_value(out, item)
    else:
        _write_struct(out, field)
