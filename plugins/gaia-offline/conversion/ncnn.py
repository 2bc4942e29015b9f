"""
Read a network in ncnn's two-file format.

The ``.param`` file is text: a magic number, the counts, then one layer a line
(``type name inputs outputs input-names… output-names… key=value…``). The ``.bin`` file
is the layers' weights in the same order, without names or shapes. Source: the ncnn
project's page "param and model file structure".
"""

import struct
from collections.abc import Iterator, Mapping

import attrs
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_MAGIC = "7767517"
_HALF_FLOATS = 0x01306B47
_PLAIN_FLOATS = 0


@attrs.frozen(kw_only=True)
class Layer:
    """
    One line of a ``.param`` file.

    Attributes:
        kind: ncnn's name of the operation, such as ``Convolution``.
        name: Unique name of the layer.
        inputs: Names of the tensors it reads.
        outputs: Names of the tensors it writes.
        options: Its numbered settings, still as text.
    """

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[str, str]

    def integer(self, key: str, default: int = 0) -> int:
        """Return a whole-number option."""
        return int(self.options.get(key, default))

    def number(self, key: str, default: float = 0.0) -> float:
        """Return a fractional option."""
        return float(self.options.get(key, default))

    def numbers(self, key: str) -> tuple[float, ...]:
        """Return an array option, written as its length followed by its items."""
        _, *items = self.options.get(key, "0").split(",")
        return tuple(float(item) for item in items)


def parse(text: str) -> Iterator[Layer]:
    """
    Yield the layers of a ``.param`` file in order.

    Raises:
        ValueError: The text is not in this format.
    """
    magic, _counts, *lines = text.splitlines()
    if magic.strip() != _MAGIC:
        message = f"Not an ncnn parameter file: it starts with {magic[:20]!r}."
        raise ValueError(message)
    return (_layer(line.split()) for line in lines if line.strip())


def _layer(words: list[str]) -> Layer:
    kind, name, inputs, outputs = words[0], words[1], int(words[2]), int(words[3])
    middle, end = 4 + inputs, 4 + inputs + outputs
    return Layer(
        kind=kind,
        name=name,
        inputs=tuple(words[4:middle]),
        outputs=tuple(words[middle:end]),
        options=dict(word.split("=", 1) for word in words[end:]),
    )


@attrs.define(eq=False)
class Weights:
    """
    A cursor over a ``.bin`` file.

    Attributes:
        data: The whole file.
        offset: Bytes read so far.
    """

    data: bytes = attrs.field(repr=False)
    offset: int = 0

    def plain(self, count: int) -> Floats:
        """Read `count` 32-bit floats without a tag, as biases and slopes are stored."""
        values = np.frombuffer(self.data, np.dtype("<f4"), count, self.offset)
        self.offset += 4 * count
        return values.astype(np.float32)

    def tagged(self, count: int) -> Floats:
        """
        Read `count` floats behind a tag that says how they are stored.

        Raises:
            ValueError: The tag means a storage this reader does not know.
        """
        (tag,) = struct.unpack_from("<I", self.data, self.offset)
        self.offset += 4
        if tag == _HALF_FLOATS:
            return self._halves(count)
        if tag == _PLAIN_FLOATS:
            return self.plain(count)
        message = f"Unknown weight storage {tag:#010x} at byte {self.offset - 4}."
        raise ValueError(message)

    def finish(self) -> None:
        """
        Check that every byte was read.

        Raises:
            ValueError: Bytes are left, so some layer was misunderstood.
        """
        if self.offset != len(self.data):
            message = f"Read {self.offset} of {len(self.data)} bytes of weights."
            raise ValueError(message)

    def _halves(self, count: int) -> Floats:
        values = np.frombuffer(self.data, np.dtype("<f2"), count, self.offset)
        self.offset += (2 * count + 3) // 4 * 4  # ncnn pads to four bytes
        return values.astype(np.float32)
