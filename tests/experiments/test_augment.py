"""Each augmented image is a crop of its padded self, or the mirror image of one."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.augment import crop_and_flip

IMAGES = jnp.asarray(np.random.RandomState(0).normal(size=(400, 6, 5, 3)), jnp.float32)
MARGIN = 2


def found(image, output):
    """Where in the padded image the output is, and whether flipped."""
    padded = np.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
    height, width, _ = image.shape
    return [
        (i, j, flipped)
        for i in range(2 * MARGIN + 1)
        for j in range(2 * MARGIN + 1)
        for flipped, crop in enumerate((output, output[:, ::-1]))
        if np.array_equal(padded[i : i + height, j : j + width], crop)
    ]


def test_each_output_is_one_crop_of_its_own_image_and_all_occur():
    outputs = np.asarray(jax.jit(crop_and_flip, static_argnums=2)(jax.random.key(0), IMAGES, MARGIN))
    assert outputs.dtype == np.float32
    ways = [found(image, output) for image, output in zip(np.asarray(IMAGES), outputs, strict=True)]
    assert {len(way) for way in ways} == {1}
    rows, columns, flips = np.array([way[0] for way in ways]).T
    assert set(rows) == set(columns) == set(range(2 * MARGIN + 1))
    # 400 tosses of a coin: four standard deviations are 40.
    assert 160 < flips.sum() < 240


def test_the_key_decides():
    first, again, other = (crop_and_flip(jax.random.key(i), IMAGES) for i in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_without_a_margin_it_flips_only():
    outputs = np.asarray(crop_and_flip(jax.random.key(0), IMAGES, 0))
    same = (outputs == np.asarray(IMAGES)).all((1, 2, 3))
    mirrored = (outputs == np.asarray(IMAGES)[:, :, ::-1]).all((1, 2, 3))
    assert (same ^ mirrored).all()
