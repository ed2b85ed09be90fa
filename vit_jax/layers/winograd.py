"""3x3 convolutions by fewer products: Winograd's minimal filtering (arXiv:1509.09308).

Four outputs in a row take six products per pair of channels, where their definition takes twelve, and a
tile of 4 x 4 outputs a quarter of what it would. Matrix products at the rate of the machine are what
bounds a residual network on a CPU, so there this is the way to be faster.
"""

import jax
import jax.numpy as jnp
import numpy as np

TILE = 4  # outputs per side
PATCH = TILE + 2  # inputs per side
LARGE = 2 ** 20  # numbers: more than the cache of a core holds

# Rounding errors depend on the points at which polynomials are evaluated (arXiv:1803.10986): with these
# they are a third of those with the usual 0, +-1, +-2, and floats hold B^T and A^T exactly.
POINTS = np.array([0., .75, -.75, 1.5, -1.5])


def transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns the matrices of the paper's equation 6: B^T `[6, 6]`, G `[6, 3]` and A^T `[4, 6]`.

  Cook's and Toom's algorithm transposed: rows are values at each of `POINTS`, and the last at infinity.
  """
  others = [np.delete(POINTS, i) for i in range(len(POINTS))]
  inputs = [[*np.poly(other)[::-1], 0.] for other in others] + [np.poly(POINTS)[::-1]]
  powers = POINTS[:, None] ** np.arange(TILE)
  divisors = [np.prod(point - other) for point, other in zip(POINTS, others)]
  kernel = np.vstack([powers[:, :3] / np.reshape(divisors, (-1, 1)), [0., 0., 1.]])
  outputs = np.hstack([powers.T, np.eye(TILE)[:, -1:]])
  return np.array(inputs), kernel, outputs


INPUTS, KERNEL, OUTPUTS = transforms()


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the 3x3 convolution with a border of zeros, on CPUs by tiles where that is likely faster.

  Args:
    x: `[batch, height, width, in]`.
    kernel: `[3, 3, in, out]`.

  Returns:
    `[batch, height, width, out]`.
  """
  if not pays(x, kernel):
    return direct(x, kernel)
  return jax.lax.platform_dependent(x, kernel, cpu=by_tiles, default=direct)


def pays(x: jax.Array, kernel: jax.Array) -> bool:
  """Returns whether a CPU is likely to be faster by tiles: 1.1 to 3.3 times where it was measured.

  Fewer tiles do not pay for the transform of the kernel, fewer channels not for those of the map.
  """
  tiles = x.shape[0] * -(-x.shape[1] // TILE) * -(-x.shape[2] // TILE)
  return x.dtype == kernel.dtype == jnp.float32 and tiles >= 32 and min(kernel.shape[2:]) >= 32


@jax.custom_jvp
def by_tiles(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns what `direct` does up to rounding errors; its derivatives are those of `direct`."""
  _, height, width, _ = x.shape
  rows, columns = -(-height // TILE), -(-width // TILE)
  x = jnp.pad(x, ((0, 0), (1, rows * TILE + 1 - height), (1, columns * TILE + 1 - width), (0, 0)))
  kernel = _mix(KERNEL, list(_mix(KERNEL, list(kernel), 1)), 1)  # [6, 6, in, out]
  if x.size <= LARGE or kernel.size > LARGE:
    y = _tiles(x, kernel, rows, columns)
  else:  # a row of tiles at a time, which the core's own cache can hold
    row = lambda i: _tiles(jax.lax.dynamic_slice_in_dim(x, i * TILE, PATCH, 1), kernel, 1, columns)
    y = jnp.moveaxis(jax.lax.map(row, jnp.arange(rows)), 0, 1)
  return y.reshape(x.shape[0], rows * TILE, columns * TILE, -1)[:, :height, :width]


def _tiles(x, kernel, rows, columns):
  """Returns tiles `[batch, rows, 4, columns, 4, out]` from a padded map and a transformed kernel."""
  *_, channels, features = kernel.shape
  x = _mix(INPUTS, _every(x, rows, 1), 0)  # [6, batch, rows, padded width, in]
  x = _mix(INPUTS, _every(x, columns, 3), 1)  # [6, 6, batch, rows, columns, in]
  # Barriers keep the transforms out of the products, and the products out of the last transform.
  x, kernel = jax.lax.optimization_barrier((x.reshape(PATCH ** 2, -1, channels),
                                            kernel.reshape(PATCH ** 2, channels, features)))
  y = jax.lax.optimization_barrier(x @ kernel)
  y = y.reshape(PATCH, PATCH, -1, rows, columns, features)
  y = _mix(OUTPUTS, list(y.swapaxes(0, 1)), 4)  # [6, batch, rows, columns, 4, out]
  return _mix(OUTPUTS, list(y), 2)


def direct(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """Returns the 3x3 convolution with a border of zeros, by its definition."""
  return jax.lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)),
                                      dimension_numbers=('NHWC', 'HWIO', 'NHWC'))


def _every(x, count, axis):
  """Returns the first, second, ... and sixth entry of each of `count` overlapping patches."""
  last = TILE * (count - 1) + 1
  return [jax.lax.slice_in_dim(x, i, i + last, TILE, axis) for i in range(PATCH)]


def _mix(matrix, parts, axis):
  """Returns the weighted sums of the parts that each row of the matrix asks for, along a new axis."""
  return jnp.stack([sum(weight * part for weight, part in zip(row, parts) if weight)
                    for row in matrix.tolist()], axis)


@by_tiles.defjvp
def _derivative(primals, tangents):
  (x, kernel), (dx, dkernel) = primals, tangents
  return by_tiles(x, kernel), direct(dx, kernel) + direct(x, dkernel)
