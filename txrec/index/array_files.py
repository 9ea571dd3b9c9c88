"""Sparse matrices on disk: safetensors, because a bundle holds no pickles."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Writes named arrays into one safetensors file, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Reads the file of `save_arrays`."""
    arrays: dict[str, NDArray[Any]] = load_file(path)
    return arrays


def pack(name: str, matrix: sp.csr_array) -> dict[str, NDArray[Any]]:
    """A CSR matrix as named arrays."""
    return {
        f"{name}.data": matrix.data,
        f"{name}.indices": matrix.indices.astype(np.int32),
        f"{name}.indptr": matrix.indptr.astype(np.int64),
        f"{name}.shape": np.array(matrix.shape, dtype=np.int64),
    }


def unpack(name: str, arrays: dict[str, NDArray[Any]]) -> sp.csr_array:
    """The inverse of `pack`."""
    parts = (arrays[f"{name}.data"], arrays[f"{name}.indices"], arrays[f"{name}.indptr"])
    return sp.csr_array(parts, shape=tuple(int(n) for n in arrays[f"{name}.shape"]))
