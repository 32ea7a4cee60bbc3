"""Vectors in a NumPy file, read a few at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from rag_app.index.cache import EmbeddingCache
from rag_app.index.embed import name_text
from rag_app.index.portable import reading, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from numpy.typing import NDArray

    Vector = NDArray[np.float32]

_AT_ONCE: Final = 4096
_UNIT: Final = 1e-3
"""How far a norm may be from 1."""

_ALIKE: Final = 0.999
"""The least cosine between two vectors of one text; services round."""

_FLOAT: Final = np.dtype("<f4")


class Array:
    """A float32 array of a known shape in a `.npy` file. Nothing in it is unpickled.

    Raises:
        IndexStateError: the file is of another shape, type or order, or of another length.
    """

    def __init__(self, path: Path, shape: tuple[int, int], place: str) -> None:
        self._path, self._shape, self._place = path, shape, place
        self._name = path.name
        with reading(place), path.open("rb") as file:
            self._begin = self._read_header(file)

    def check_units(self) -> None:
        """See that every row is a direction: finite numbers, of norm 1.

        Raises:
            IndexStateError: naming the first that is not.
        """
        rows, dimension = self._shape
        for first in range(0, rows, _AT_ONCE):
            block = self.read(first, min(_AT_ONCE, rows - first))
            norms = np.linalg.norm(block.astype(np.float64), axis=1)
            good = np.abs(norms - 1) < _UNIT
            if not good.all():  # the norm of what holds NaN is NaN, which is not good either
                row = int(np.argmin(good))
                wrong = f"row {first + row} of {self._name} has the norm {norms[row]:.3g}, not 1"
                refuse(self._place, wrong)

    def read(self, first: int, count: int) -> Vector:
        """`count` rows from the row `first` on, of shape (count, d)."""
        dimension = self._shape[1]
        with reading(self._place), self._path.open("rb") as file:
            file.seek(self._begin + 4 * first * dimension)
            found = np.fromfile(file, _FLOAT, count * dimension)
        return found.reshape(count, dimension).astype(np.float32)

    def are_alike(self, one: int, other: int) -> bool:
        """Whether two rows point the same way."""
        return float((self.read(one, 1) * self.read(other, 1)).sum()) >= _ALIKE

    def _read_header(self, file: BinaryIO) -> int:
        """Where the numbers begin."""
        try:
            version = np.lib.format.read_magic(file)
            if version != (1, 0):
                raise ValueError(f"its version is {version}, not (1, 0)")
            shape, by_column, dtype = np.lib.format.read_array_header_1_0(file)
        except ValueError as error:
            refuse(self._place, f"{self._name} is no NumPy file: {error}", error)
        given = f"{shape}, {dtype}, {'Fortran' if by_column else 'C'} order"
        wanted = f"{self._shape}, {np.dtype(np.float32)}, C order"
        if given != wanted or dtype != _FLOAT:
            refuse(self._place, f"{self._name} is of shape {given}; {wanted} was to be")
        begin, size = file.tell(), self._path.stat().st_size
        if size != begin + 4 * shape[0] * shape[1]:
            refuse(self._place, f"{self._name} has {size:,} bytes, other than its shape takes")
        return begin


class FileVectors(EmbeddingCache):
    """The vectors of an export in the place of an embedding cache, which finds them by text.

    Args:
        rows: the row of each text, by the text's SHA-256.
    """

    def __init__(self, vectors: Array, rows: Mapping[bytes, int]) -> None:
        self._vectors, self._rows = vectors, rows

    def find(self, texts: Sequence[str]) -> dict[str, Vector]:
        """The vectors of those of `texts` that are in the file, float32 of shape (d,)."""
        rows = {text: self._rows.get(name_text(text)) for text in texts}
        return {t: self._vectors.read(row, 1)[0] for t, row in rows.items() if row is not None}

    def keep(self, vectors: Mapping[str, Any]) -> None:
        """Nothing is added to an export."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open between two questions."""
