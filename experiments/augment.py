"""Augmentation of CIFAR's training images: a random crop of the padded image, and a flip half of the time."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

Images = Float[Array, "n height width channels"]


def crop_and_flip(key: Key[Array, ""], images: Images, margin: int = 4) -> Images:
    """A crop of each image's own size, at random, out of the image in a border of zeros; then a flip left to right.

    Each image has its own place and its own flip. Normalise first: the border is the mean then.

    Args:
        key: Decides places and flips.
        images: As they are.
        margin: Width of the border; 4 as in He et al., 2015.
    """
    n, height, width, channels = images.shape
    places, flips = jax.random.split(key)
    corner = jax.random.randint(places, (n, 2), 0, 2 * margin + 1)
    padded = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)))

    def crop(image: Float[Array, "padded_height padded_width channels"], corner: Array) -> Array:
        return jax.lax.dynamic_slice(image, (corner[0], corner[1], 0), (height, width, channels))

    crops = jax.vmap(crop)(padded, corner)
    return jnp.where(jax.random.bernoulli(flips, shape=(n, 1, 1, 1)), crops[:, :, ::-1], crops)


@dataclass(frozen=True)
class CropAndFlip:
    """`crop_and_flip` with a margin, as a value: two that are equal share compiled programs."""

    margin: int = 4

    def __call__(self, key: Key[Array, ""], images: Images) -> Images:
        """A batch, augmented."""
        return crop_and_flip(key, images, self.margin)
