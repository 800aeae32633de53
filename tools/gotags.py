"""Read the struct tags of Go types out of a Go executable (ELF, 64 bit, little endian).

Go keeps every type it can reflect on in the read-only data of the program: for a struct its name,
package and fields with their tags. Kubernetes' types carry their protobuf field numbers there
(`json:"ip" protobuf:"bytes,1,opt,name=ip"`), and no package of the registries has them otherwise.
Layout: internal/abi (Type, StructType, Name, UncommonType), the same since Go 1.17.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

KIND_STRUCT, KIND_INTERFACE = 25, 20
KIND_POINTER, KIND_SLICE, KIND_MAP = 22, 23, 21
FLAG_UNCOMMON, FLAG_EXTRA_STAR = 1, 2
STRUCT_SIZE, FIELD_SIZE, TYPE_SIZE = 80, 24, 48
MOST_FIELDS = 200
# A struct that is found by its fields alone: from it follows where names are counted from.
LANDMARK = (b"PodSpec", {"containers", "nodeSelector", "serviceAccountName", "hostPID"})
TAG = re.compile(r'(\w+):"([^"]*)"')


class Field(NamedTuple):
    name: str
    tags: dict[str, str]
    type_address: int
    plain: bool = True
    """No pointer, slice or map: its zero value is no nil."""
    may_be_empty: bool = False
    """Of a kind whose zero or empty value `omitempty` leaves out (no struct, no pointer)."""
    struct: bool = False
    """A struct, not a pointer to one: JSON always has it."""
    nil: bool = False
    """A slice or map."""


class Struct(NamedTuple):
    package: str
    """Import path, e.g. "k8s.io/api/core/v1"."""
    name: str
    fields: list[Field]


class Image:
    """The read-only data of one executable."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        self.start, self.data = _section(data, b".rodata")
        self.end = self.start + len(self.data)
        self.base = 0

    def word(self, address: int) -> int:
        return int(struct.unpack_from("<Q", self.data, address - self.start)[0])

    def offset(self, address: int) -> int:
        return int(struct.unpack_from("<i", self.data, address - self.start)[0])

    def has(self, address: int, size: int = 1) -> bool:
        return self.start <= address and address + size <= self.end

    def name(self, address: int) -> tuple[str, str]:
        """A name and its tag; ("", "") where there is none."""
        if not self.has(address, 2):
            return "", ""
        flags = self.data[address - self.start]
        if flags > 15:
            return "", ""
        text, after = self._text(address + 1)
        tag = self._text(after)[0] if flags & 2 else b""
        try:
            return text.decode(), tag.decode()
        except UnicodeDecodeError:
            return "", ""

    def _text(self, address: int) -> tuple[bytes, int]:
        length = shift = 0
        at = address - self.start
        while at < len(self.data):
            byte = self.data[at]
            at += 1
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80 or shift > 21:
                break
        return self.data[at : at + length], at + length + self.start

    def structs(self) -> Iterator[tuple[int, list[Field]]]:
        """Every struct type some field of which has a protobuf tag: (address, fields)."""
        kinds = self.data[23::8]
        for index in range(len(kinds) - STRUCT_SIZE // 8):
            if kinds[index] & 31 == KIND_STRUCT:
                fields = self._fields(self.start + index * 8)
                if any("protobuf" in field.tags for field in fields):
                    yield self.start + index * 8, fields

    def _fields(self, address: int) -> list[Field]:
        first, count, capacity = (self.word(address + at) for at in (56, 64, 72))
        if count != capacity or not 0 < count < MOST_FIELDS:
            return []
        if not self.has(first, count * FIELD_SIZE):
            return []
        fields = []
        for at in range(first, first + count * FIELD_SIZE, FIELD_SIZE):
            name, tag = self.name(self.word(at))
            if not name:
                return []
            fields.append(Field(name, dict(TAG.findall(tag)), self.word(at + 8)))
        return fields

    def type_name(self, address: int) -> str:
        """As Go prints it: "v1.PodSpec"."""
        name, _ = self.name(self.base + self.offset(address + 40))
        extra = self.data[address + 20 - self.start] & FLAG_EXTRA_STAR
        return name[1:] if extra else name

    def package(self, address: int) -> str:
        """Import path of a named struct; "" for one without a name."""
        if not self.data[address + 20 - self.start] & FLAG_UNCOMMON:
            return ""
        return self.name(self.base + self.offset(address + STRUCT_SIZE))[0]

    def resolved(self, field: Field) -> Field:
        """The field with what its type says: whether it is plain, and the struct it points to."""
        address = field.type_address
        kind = self.data[address + 23 - self.start] & 31
        target = self.word(address + TYPE_SIZE) if kind == KIND_POINTER else address
        plain = kind not in (KIND_POINTER, KIND_SLICE, KIND_MAP)
        may_be_empty = kind not in (KIND_POINTER, KIND_STRUCT, KIND_INTERFACE)
        return field._replace(
            type_address=target,
            plain=plain,
            may_be_empty=may_be_empty,
            struct=kind == KIND_STRUCT,
            nil=kind in (KIND_SLICE, KIND_MAP),
        )


def _section(data: bytes, wanted: bytes) -> tuple[int, bytes]:
    table, size, count, names = (
        struct.unpack_from("<Q", data, 40)[0],
        *struct.unpack_from("<HHH", data, 58),
    )
    headers = [struct.unpack_from("<IIQQQQ", data, table + size * i) for i in range(count)]
    name_table = headers[names][4]
    for name, _, _, address, offset, length in headers:
        start = name_table + name
        if data[start : data.index(b"\0", start)] == wanted:
            return address, data[offset : offset + length]
    raise ValueError(f"no section {wanted.decode()}")


def read_structs(path: Path) -> tuple[list[Struct], dict[int, str]]:
    """The structs with protobuf tags, and "package.Name" of every such struct by address."""
    image = Image(path)
    found = list(image.structs())
    image.base = _base(image, found)
    structs, names = [], {}
    for address, fields in found:
        package, name = image.package(address), image.type_name(address).rpartition(".")[2]
        if package:
            names[address] = f"{package}.{name}"
            structs.append(Struct(package, name, [image.resolved(field) for field in fields]))
    return structs, names


def _base(image: Image, found: list[tuple[int, list[Field]]]) -> int:
    """Where name offsets count from, by the landmark whose name is searched in the data."""
    text, keys = LANDMARK
    for address, fields in found:
        have = {field.tags.get("json", "").partition(",")[0] for field in fields}
        if keys <= have:
            offset = image.offset(address + 40)
            for prefix in (b"*v1.", b"v1."):
                encoded = bytes([len(prefix + text)]) + prefix + text
                at = image.data.find(encoded)
                while at >= 0:
                    base = image.start + at - 1 - offset
                    if _is_base(image, base, found):
                        return base
                    at = image.data.find(encoded, at + 1)
    raise ValueError("the executable has no Kubernetes types")


def _is_base(image: Image, base: int, found: list[tuple[int, list[Field]]]) -> bool:
    image.base = base
    sample = found[:: max(1, len(found) // 50)]
    return all("." in image.type_name(address) for address, _ in sample)
