"""What a forward pass costs: multiply-adds, counted in the program that JAX would compile."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax.compilation import COUNTED


def multiply_adds(model: nn.Module, image_size: tuple[int, int], channels: int = 3) -> int:
  """Returns the multiply-adds of matrix products and convolutions for one image, without any array.

  Papers call this number FLOPs; a multiply-add is two operations. Norms, activations, softmax and
  resizing are not counted, as in the papers.

  Args:
    model: takes `[batch, height, width, channels]`.
    image_size: (height, width).
    channels: of the image.
  """
  image = jax.ShapeDtypeStruct((1, *image_size, channels), jnp.float32)
  # The first call makes the parameters, which takes no product, and applies them.
  return _count(jax.make_jaxpr(model.init_with_output)(jax.random.key(0), image).jaxpr)


def _count(jaxpr) -> int:
  """Returns the multiply-adds of a program and of those within it.

  A loop's count once per turn, and of programs to choose from, the dearest: a convolution's definition.
  A function that says what it costs, see `vit_jax.compilation.counted`, counts as much.
  """
  total = 0
  for equation in jaxpr.eqns:
    stated = str(equation.params.get('name', ''))
    if stated.startswith(COUNTED):
      total += int(stated.removeprefix(COUNTED))
      continue
    inputs, output = [v.aval for v in equation.invars], equation.outvars[0].aval
    if equation.primitive.name == 'dot_general':
      (contracted, _), _ = equation.params['dimension_numbers']
      total += output.size * int(np.prod([inputs[0].shape[axis] for axis in contracted]))
    elif equation.primitive.name == 'conv_general_dilated':
      features = inputs[1].shape[equation.params['dimension_numbers'].rhs_spec[0]]
      total += output.size * inputs[1].size // features
    within = [_count(getattr(inner, 'jaxpr', inner)) for inner in jax.tree.leaves(
        list(equation.params.values()), is_leaf=_is_program) if _is_program(inner)]
    together = max if equation.primitive.name == 'cond' else sum
    total += together(within or [0]) * equation.params.get('length', 1)
  return total


def _is_program(value) -> bool:
  return hasattr(value, 'eqns') or hasattr(value, 'jaxpr')
