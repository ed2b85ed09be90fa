"""One mesh with axes data, fsdp and model; parameters are placed by rules that go by path.

A rule is (pattern, partition spec); the first pattern that matches the path counts, and each family
of models has its own (`vit_jax.models.family`). Optimizer
slots and averages carry their parameter's path, so they follow it. A scanned stack has one leading
axis more, which stays whole.
"""

import functools
import re

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

from vit_jax import trees
from vit_jax.errors import UserError

AXES = ('data', 'fsdp', 'model')
BATCH = P(('data', 'fsdp'))  # the leading axis of every batch and activation

Rules = tuple[tuple[str, P], ...]

# A stack of layers: the rule is the layer's, the leading axis stays whole.
STACKED = re.compile(r'.*/encoderblock/')


def make_mesh(data: int = -1, fsdp: int = 1, model: int = 1, devices=None) -> Mesh:
  """Returns the mesh of the run.

  Args:
    data: replicas that each see a part of the batch; -1 takes all devices that are left.
    fsdp: like data, but parameters and optimizer slots are split over it too.
    model: devices that share each matrix product.
    devices: defaults to all devices of all processes. A single process may use fewer of them than
      there are, by axes that multiply to less.

  Raises:
    UserError: when the axes ask for more devices than there are, or leave some process without.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [data, fsdp, model]
  if sizes.count(-1) > 1 or any(s < 1 and s != -1 for s in sizes):
    raise UserError(f'mesh sizes must be positive, and at most one may be -1; got data={data}, '
                    f'fsdp={fsdp}, model={model}')
  known = int(np.prod([s for s in sizes if s != -1]))
  if -1 in sizes and len(devices) % known == 0:
    sizes[sizes.index(-1)] = len(devices) // known
  elif -1 not in sizes and jax.process_count() == 1:
    devices = devices[:known]
  if -1 in sizes or int(np.prod(sizes)) != len(devices):
    wanted = ' x '.join(f'{n}={s}' for n, s in zip(AXES, (data, fsdp, model)))
    raise UserError(f'the mesh {wanted} does not fit the {len(devices)} devices there are '
                    f'({devices[0].platform}); set mesh.data=-1 to use what is left of them')
  return Mesh(np.asarray(devices).reshape(sizes), AXES, axis_types=(AxisType.Auto,) * 3)


def batch_shards(mesh: Mesh) -> int:
  """Returns into how many parts the mesh splits a batch."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def constrain(x: jax.Array) -> jax.Array:
  """Splits an activation `[batch, ...]` over the batch axes of the mesh in use, if there is one.

  Without it, sharded parameters pull their sharding into the activations and memory explodes.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or 'data' not in mesh.axis_names or x.shape[0] % batch_shards(mesh):
    return x
  return jax.lax.with_sharding_constraint(x, BATCH)


def gather(tree):
  """Lets every device, so every process, hold the arrays of a tree whole, on the mesh in use."""
  if jax.sharding.get_abstract_mesh().empty:
    return tree
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, P()), tree)


def spec(path: str, shape: tuple[int, ...], rules: Rules, mesh: Mesh) -> tuple[P, list[str]]:
  """Returns where a leaf lies, and the axes that its shape could not be divided by.

  Args:
    path: '/'-joined, such as 'params/Transformer/encoderblock_0/MlpBlock_0/Dense_0/kernel'.
    shape: of the leaf.
    rules: the first match counts.
    mesh: gives the sizes of the axes.
  """
  path = f'/{path}'  # patterns begin with '.*/': a parameter may also stand at the root
  rule = next(s for pattern, s in rules if re.fullmatch(pattern, path))
  axes = ((None,) if STACKED.match(path) and rule else ()) + tuple(rule)
  # Factored optimizer slots have fewer axes than their parameter, or one entry in place of it.
  if len(axes) > len(shape) or all(n == 1 for n in shape):
    return P(), []
  undivided = [f'{path[1:]} axis {i} of {n} by {a}={mesh.shape[a]}'
               for i, (n, a) in enumerate(zip(shape, axes)) if a and n % mesh.shape[a]]
  return P(*(a if a and n % mesh.shape[a] == 0 else None for n, a in zip(shape, axes))), undivided


def shardings(tree, rules: Rules, mesh: Mesh):
  """Returns the tree of NamedShardings for a tree of arrays or shapes, and what stayed whole.

  Returns:
    (tree of NamedSharding, list of sentences: dimensions that the axis does not divide)
  """
  undivided = []

  def place(path, leaf):
    where, left = spec(trees.path_name(path), leaf.shape, rules, mesh)
    undivided.extend(left)
    return NamedSharding(mesh, where)

  return jax.tree_util.tree_map_with_path(place, tree), undivided


def place(array: np.ndarray, where: NamedSharding) -> jax.Array:
  """Returns an array of the host as it is to lie, on any number of processes that all have it."""
  return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


@functools.cache
def check_batch(batch_size: int, mesh: Mesh, what: str = 'data.batch_size') -> None:
  """Raises UserError unless the mesh divides the batch."""
  shards = batch_shards(mesh)
  if batch_size % shards:
    raise UserError(f'{what} {batch_size} is not divisible by the {shards} shards of the mesh axes '
                    f'data and fsdp; the nearest sizes are {batch_size // shards * shards or shards} '
                    f'and {-(-batch_size // shards) * shards}')
