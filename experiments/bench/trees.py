"""The parameter trees a step is measured on: shapes only, so that describing one allocates nothing."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

# GPT-2 small (Radford et al., 2019; the released 124M model): 12 blocks of width 768, tied output layer.
GPT2_BLOCK: Shapes = {
    "ln_1.scale": (768,),
    "ln_1.bias": (768,),
    "attention.w": (768, 2304),
    "attention.b": (2304,),
    "projection.w": (768, 768),
    "projection.b": (768,),
    "ln_2.scale": (768,),
    "ln_2.bias": (768,),
    "mlp_in.w": (768, 3072),
    "mlp_in.b": (3072,),
    "mlp_out.w": (3072, 768),
    "mlp_out.b": (768,),
}


def _gpt2_small() -> dict[str, Shape]:
    blocks = {f"h{i}.{name}": shape for i in range(12) for name, shape in GPT2_BLOCK.items()}
    return {"wte": (50257, 768), "wpe": (1024, 768), **blocks, "ln_f.scale": (768,), "ln_f.bias": (768,)}


def _squares(count: int, side: int = 32) -> dict[str, Shape]:
    return {f"w{i}": (side, side) for i in range(count)}


TREES: Mapping[str, Shapes] = {
    "leaf": {"w": (8_000_000,)},
    "gpt2": _gpt2_small(),
    "leaves": _squares(300),
}
SMOKE_TREES: Mapping[str, Shapes] = {
    "leaf": {"w": (1000,)},
    "gpt2": dict(GPT2_BLOCK) | {"attention.w": (8, 24), "mlp_in.w": (8, 32), "mlp_out.w": (32, 8)},
    "leaves": _squares(5, side=4),
}
EAGER_TREE, SMOKE_EAGER_TREE = _squares(62), _squares(3)


def count(shapes: Shapes) -> int:
    """Parameters of a tree."""
    return sum(int(np.prod(shape)) for shape in shapes.values())


def structs(shapes: Shapes) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in shapes.items()}


def arrays(shapes: Shapes, seed: int) -> dict[str, jax.Array]:
    """Normal values of scale 0.02: none is so small that arithmetic on it is slow."""
    rng = np.random.default_rng(seed)
    return {name: jnp.asarray(0.02 * rng.standard_normal(shape, np.float32)) for name, shape in shapes.items()}


def nbytes(tree: Any) -> int:
    """Bytes of a tree of arrays or of their `ShapeDtypeStruct`s."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
