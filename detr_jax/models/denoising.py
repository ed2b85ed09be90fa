"""Denoising queries: noisy targets that the decoder learns to mend, without any matching.

DN-DETR (arXiv:2203.01305, section 4): groups of queries, each with every target once, its box shifted
and scaled and its label sometimes another. Shapes are static: a group has room for all targets of the
batch, and queries of targets that do not exist are seen by no other.
"""

import jax
import jax.numpy as jnp

from detr_jax.models.anchors import logit


def noisy(key: jax.Array, targets, groups: int, num_classes: int, box_noise: float, label_noise: float
          ) -> tuple[jax.Array, jax.Array]:
  """Returns labels and anchors of the queries.

  Args:
    key: of the noise.
    targets: `labels` int `[batch, targets]` (-1: none) and `boxes` `[batch, targets, 4]`, cxcywh.
    groups: copies of each target.
    num_classes: of which another label is drawn.
    box_noise: the largest shift of the centre, as a share of half the size, and the largest change of
      the size, as a share of it (section 4.2).
    label_noise: share of the labels that are drawn anew.

  Returns:
    (int `[batch, groups * targets]` labels, float32 `[batch, groups * targets, 4]` boxes before the
    sigmoid); target t of group g is g * targets + t.
  """
  boxes = jnp.tile(targets['boxes'].astype(jnp.float32), (1, groups, 1))
  labels = jnp.tile(jnp.maximum(targets['labels'], 0), (1, groups))
  by_box, by_label, choose = jax.random.split(key, 3)
  reach = box_noise * jnp.concatenate([boxes[..., 2:] / 2., boxes[..., 2:]], -1)
  boxes = boxes + reach * jax.random.uniform(by_box, boxes.shape, minval=-1., maxval=1.)
  other = jax.random.randint(by_label, labels.shape, 0, num_classes)
  changed = jax.random.bernoulli(choose, label_noise, labels.shape)
  return jnp.where(changed, other, labels), logit(boxes)


def visible(labels: jax.Array, groups: int, num_queries: int) -> jax.Array:
  """Returns which queries see each other: first the `num_queries` to be matched, then the groups.

  Those to be matched see each other alone, or they would read the answer; a group sees them and its
  own existing targets.

  Args:
    labels: int `[batch, targets]`, -1 where there is none.
    groups: copies of each target.
    num_queries: queries to be matched.

  Returns:
    bool `[batch, 1, all, all]` with all = num_queries + groups * targets; each sees itself.
  """
  targets = labels.shape[1]
  group = jnp.concatenate([jnp.full(num_queries, -1), jnp.repeat(jnp.arange(groups), targets)])
  exists = jnp.concatenate([jnp.ones((labels.shape[0], num_queries), bool),
                            jnp.tile(labels >= 0, (1, groups))], 1)
  allowed = (group[:, None] == group) | (group == -1)
  seen = (allowed & exists[:, None, :]) | jnp.eye(len(group), dtype=bool)
  return seen[:, None]
