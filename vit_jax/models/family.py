"""What a family of models is: all that the rest of the house asks about an architecture."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn

from vit_jax.errors import UserError
from vit_jax.models.variant import Variant, find
from vit_jax.sharding import Rules

Size = tuple[int, int]  # (height, width) in pixels

# (pattern of a parameter's path, depth group); the first match counts. A negative group counts from the
# end; a function gives the group of the numbers in the path. None: the family's layers, a group each,
# from 1 on, in the order of the numbers in the path, or along the leading axis of a stack.
Depths = tuple[tuple[str, int | Callable[..., int] | None], ...]


@dataclasses.dataclass(frozen=True)
class Grid:
  """How a model cuts an image.

  Attributes:
    size: patches (height, width).
    tokens: extra tokens in front of the patches, such as the class token.
    positions: how many of the extra tokens have an entry in the table of positions.
  """
  size: Size
  tokens: int = 1
  positions: int = 1


@dataclasses.dataclass(frozen=True)
class Family:
  """An architecture.

  Attributes:
    module: the linen module.
    variants: {name: published model}.
    rules: where its parameters lie on the mesh.
    depth: depth groups for layer-wise decay, see `vit_jax.optim.layer_decay`; None: it has none.
    tiny: (fields of a model) -> the fields that make it small, for images of 16x16; None: it has no
      smoke form.
    grid: (module, image size) -> `Grid`; gives None for networks without patches.
    attention: {what users call it: path of the attention weights `[batch, heads, tokens, tokens]` in
      the intermediates, `{i}` standing for the layer}.
    blocks: pattern of the paths of what its blocks give, maps `[batch, h, w, c]`, in the intermediates,
      for networks whose blocks see a part of the image; '' for none.
    positions: path of the table of learned positions; '' for none.
    kernels: paths of the kernel that reads the image; the first that there is counts.
    facts: module -> what a paper's table of models prints of it, by the words of the table.
  """
  module: type[nn.Module]
  variants: Mapping[str, Variant]
  rules: Rules
  depth: Depths | None = None
  tiny: Callable[[Mapping[str, Any]], dict[str, Any]] | None = None
  grid: Callable[[nn.Module, Size], Grid | None] = lambda model, image_size: None
  attention: Mapping[str, str] = dataclasses.field(default_factory=dict)
  blocks: str = ''
  positions: str = ''
  kernels: tuple[str, ...] = ()
  facts: Callable[[nn.Module], dict[str, Any]] = lambda model: {}

  def image_kernel(self, paths) -> str | None:
    """Returns the one of `kernels` that is among the paths of some parameters."""
    return next((path for path in self.kernels if path in paths), None)


def over(head: Family, backbone: Family) -> Family:
  """Returns a head's family with what its backbone's says of the parameters below `backbone/`.

  The layers of the backbone are its depth groups; the head learns with the last.
  """
  rules = tuple((rf'(?=.*/backbone/){pattern}', where) for pattern, where in backbone.rules)
  depth = backbone.depth and (
      *((rf'backbone/(?:{pattern})', group) for pattern, group in backbone.depth), (r'.*', -1))
  return dataclasses.replace(head, rules=(*rules, *head.rules), depth=depth)


def variants_of(families: Iterable[Family]) -> dict[str, Variant]:
  """Returns {name: variant} of some families."""
  return {name: variant for family in families for name, variant in family.variants.items()}


def family_of(families: Iterable[Family], of: str | nn.Module) -> Family:
  """Returns the one of the families that a model, or a model's name, belongs to.

  Raises:
    UserError: for an unknown name, or a module of no family.
  """
  if isinstance(of, str):
    find(variants_of(families), of)  # complains
    return next(family for family in families if of in family.variants)
  for family in families:
    if family.module is type(of):
      return family
  raise UserError(f'{type(of).__name__} belongs to no family of models; list its FAMILY in '
                  'vit_jax/models/__init__.py, or detr_jax/models/__init__.py')
