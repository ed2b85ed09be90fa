"""Parameter trees as flat dicts of '/'-joined paths, and layers as a stack or one by one."""

import hashlib
import re
from collections.abc import Iterable, Mapping

import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np

Flat = dict[str, jax.Array | np.ndarray | jax.ShapeDtypeStruct]

LAYER = re.compile(r'^(.*\bencoderblock)_(\d+)(/.*)$')
STACK = re.compile(r'^(.*\bencoderblock)(/.*)$')


def flatten(tree: Mapping) -> Flat:
  """Returns {'a/b/kernel': leaf} of a nested dict."""
  return flax.traverse_util.flatten_dict(dict(tree), sep='/')


def unflatten(flat: Mapping) -> dict:
  """Returns the nested dict of a flat one."""
  return flax.traverse_util.unflatten_dict(dict(flat), sep='/')


def path_name(path) -> str:
  """Returns the '/'-joined name of a path from `jax.tree_util`."""
  return '/'.join(str(getattr(k, 'key', getattr(k, 'name', getattr(k, 'idx', k)))) for k in path)


def is_stacked(flat: Mapping) -> bool:
  """Tells whether the layers lie in one stack (`encoderblock/...`, leading axis: the layer)."""
  return any(STACK.match(path) for path in flat)


def unstack(flat: Mapping) -> Flat:
  """Turns a stack of layers into `encoderblock_0/...`, `encoderblock_1/...` and so on.

  Works on arrays and on `jax.ShapeDtypeStruct`; leaves outside the stack pass through.
  """
  out = {}
  for path, leaf in flat.items():
    match = STACK.match(path)
    if not match:
      out[path] = leaf
      continue
    for i in range(leaf.shape[0]):
      layer = (jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
               if isinstance(leaf, jax.ShapeDtypeStruct) else leaf[i])
      out[f'{match[1]}_{i}{match[2]}'] = layer
  return out


def stack(flat: Mapping) -> Flat:
  """The inverse of `unstack`: layers of one path become one leaf with a leading axis."""
  out, layers = {}, {}
  for path, leaf in flat.items():
    match = LAYER.match(path)
    if match:
      layers.setdefault(match[1] + match[3], {})[int(match[2])] = leaf
    else:
      out[path] = leaf
  for path, parts in layers.items():
    parts = [parts[i] for i in range(len(parts))]
    if isinstance(parts[0], jax.ShapeDtypeStruct):
      out[path] = jax.ShapeDtypeStruct((len(parts), *parts[0].shape), parts[0].dtype)
    else:
      out[path] = np.stack([np.asarray(p) for p in parts])
  return out


def fingerprint(tree) -> str:
  """Returns eight hexadecimal digits that any change of a float32 array in a tree changes.

  Computed where the arrays lie, in whole numbers: the same on any number of devices.
  """
  def of(array):
    bits = jax.lax.bitcast_convert_type(array, jnp.uint32).ravel()
    return jnp.sum(bits * (2 * jnp.arange(bits.size, dtype=jnp.uint32) + 1), dtype=jnp.uint32)

  sums = jax.device_get(jax.jit(lambda tree: jax.tree.map(of, tree))(tree))
  named = [f'{path_name(path)} {value}' for path, value in jax.tree.leaves_with_path(sums)]
  return hashlib.sha256('\n'.join(sorted(named)).encode()).hexdigest()[:8]


def count(tree) -> int:
  """Returns the number of parameters in a tree of arrays or shapes."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def numbers(paths: Iterable[str], pattern: str) -> int:
  """Returns how many different numbers stand for the group of a pattern at the beginning of paths."""
  return len({found[1] for found in (re.match(pattern, path) for path in paths) if found})
