"""Random draws derived from one seed, independent of row order, worker count and `PYTHONHASHSEED`."""

import hashlib

import numpy as np
import polars as pl

SeedKey = tuple[int, *tuple[str, ...]]
"""The project seed and the name of a purpose, such as `(seed, "augment")`: a stage passes it to the library, which
appends names of its own before it draws: `derived_seed(*key, row_id)`."""


def seed_32(seed: int) -> int:
    """A seed of 64 bits cut to the 32 that scikit-learn and NumPy's legacy generator take."""
    return seed % 2**32


def derived_seed(seed: int, *names: str) -> int:
    """A 64-bit seed for one purpose: BLAKE2b of the project seed and the names of the purpose."""
    digest = hashlib.blake2b("\x1f".join([str(seed), *names]).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def generator(seed: int, *names: str) -> np.random.Generator:
    """A generator for one purpose (a stage, a row), such as `generator(seed, "augment", row_id)`."""
    return np.random.default_rng(derived_seed(seed, *names))


def keyed_uniform(keys: pl.Series, seed: int, *names: str) -> pl.Series:
    """One draw from [0, 1) per key, a function of the key, the seed and the names alone.

    A row keeps its draw when others are added, removed or reordered.
    """
    salt = hashlib.blake2b("\x1f".join([str(seed), *names]).encode()).digest()
    digests = b"".join(hashlib.blake2b(key.encode(), key=salt, digest_size=8).digest() for key in keys)
    # 53 bits fill the mantissa of a float64 exactly.
    draws = (np.frombuffer(digests, dtype="<u8") >> np.uint64(11)).astype(np.float64) / 2.0**53
    return pl.Series(keys.name, draws, dtype=pl.Float64)
