"""Which pixels an entry of a feature map draws from: windows, neighbourhoods and kernels made
visible."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vit_jax import trees
from vit_jax.visual import galleries, style

if TYPE_CHECKING:
  from matplotlib.figure import Figure

SHOWN = 8  # blocks at most
FAINT = 1e-6  # of the largest gradient: rounding, where nothing is seen


def fields_of_view(model: nn.Module, variables: Mapping, normalize: Callable, image: np.ndarray,
                   blocks: str) -> dict[str, np.ndarray]:
  """Returns how much the entry in the middle of each block's output draws from each pixel.

  That is the absolute gradient by the pixels, over all channels, of a random combination of the entry's
  channels, whatever the block is made of.

  Args:
    model: a network of stages.
    variables: of it.
    normalize: makes floats of images.
    image: uint8 `[height, width, channels]`.
    blocks: pattern of the paths of outputs `[1, h, w, c]` in the intermediates.

  Returns:
    {path: float32 `[height, width]`}, of at most `SHOWN` blocks, the first ones among them.
  """
  pattern = re.compile(rf'({blocks})/__call__')

  def outputs(pixels):
    _, state = model.apply(variables, pixels, capture_intermediates=lambda module, method: bool(
        pattern.fullmatch('/'.join((*module.path, method)))), mutable=['intermediates'])
    found = trees.flatten(state['intermediates'])
    return {path.removesuffix('/__call__'): value[0] for path, value in found.items()
            if pattern.fullmatch(path)}

  pixels = normalize(jnp.asarray(image)[None])
  found, pull = jax.vjp(outputs, pixels)
  paths = sorted(found, key=lambda path: [int(n) for n in re.findall(r'\d+', path)])
  rng, out = np.random.default_rng(0), {}
  for path in paths[:SHOWN]:
    _, height, width, channels = found[path].shape
    wanted = jax.tree.map(jnp.zeros_like, found)
    wanted[path] = wanted[path].at[0, height // 2, width // 2].set(rng.normal(size=channels))
    out[path] = np.asarray(jnp.abs(pull(wanted)[0][0]).sum(-1))
  return out


def draw(image: np.ndarray, views: Mapping[str, np.ndarray], columns: int = 4) -> Figure:
  """Returns the image once for each block, lit where the middle of its output draws from.

  Args:
    image: uint8 `[height, width, channels]`.
    views: as `fields_of_view` gives them; the share of the pixels that are seen stands above each.
    columns: of pictures.
  """
  rows = -(-len(views) // columns)
  figure = style.new_figure(2. * columns, 2.2 * rows)
  cells: Sequence = figure.subplots(rows, columns, squeeze=False).ravel()
  for axes in cells[len(views):]:
    axes.set_axis_off()
  for axes, (path, view) in zip(cells, views.items()):
    view = view / max(view.max(), 1e-30)
    seen = view > FAINT
    style.picture(axes, galleries.overlay_rollout(image, np.where(seen, .35 + .65 * np.sqrt(view), 0.)))
    axes.set_title(f'{path}: {seen.mean():.1%}', fontsize=style.SMALL)
  return figure
