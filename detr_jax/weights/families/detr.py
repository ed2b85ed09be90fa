"""Files of DETR: what they show of the model, and how they are read and written."""

import re
from collections.abc import Iterable
from typing import Any

from detr_jax.models import detr
from detr_jax.models.detr import DETR
from detr_jax.weights.families import detr_names as names
from detr_jax.weights.families.base import PublishedDetector
from vit_jax import models as backbones
from vit_jax import trees
from vit_jax.weights.families import Source
from vit_jax.weights.families.resnet import units
from vit_jax.weights.fit import Rules
from vit_jax.weights.table import Table

BACKBONE = 'backbone/'
CLASSES = ('class_embed/', 'denoising_embed')
# Of a detector, and of one with masks.
FORMATS = dict(detr=(names.AUTHORS, names.AUTHORS_MASKS),
               huggingface=(names.HUGGINGFACE, names.HUGGINGFACE_MASKS))


def shown(flat: trees.Flat) -> dict[str, Any] | None:
  """Returns what the parameters of a DETR show of its variant: of the backbone, but its dilation."""
  if 'query_embed' not in flat:
    return None
  return dict(depths=units(flat, BACKBONE), masks='mask_head/lay1/kernel' in flat,
              bottleneck=f'{BACKBONE}block1/unit1/conv3/kernel' in flat)


def told(model: DETR, wanted: Iterable[str]) -> dict[str, Any]:
  """Returns the fields that `shown` gives, of a model on a ResNet."""
  trunk = backbones.create_model(model.backbone)
  found = dict(depths=getattr(trunk, 'depths', None), bottleneck=getattr(trunk, 'bottleneck', None),
               masks=model.masks)
  return {name: found[name] for name in wanted}


def fields(model: DETR, source: Source) -> dict[str, Any]:
  """Returns the fields of a DETR that a file shows; not its heads, backbone and dilation."""
  flat = source.flat
  layers = lambda side: len({m[1] for path in flat if (m := re.match(rf'{side}/(layer_\d+)/', path))})
  out = dict(
      num_queries=flat['query_embed'].shape[0], width=flat['query_embed'].shape[1],
      encoder_layers=layers('encoder'), decoder_layers=layers('decoder'),
      pre_norm='encoder/norm/scale' in flat,
      # A mask head that the file has not starts anew where one is asked for.
      masks='mask_head/lay1/kernel' in flat or model.masks)
  if 'class_embed/bias' in flat:
    out['num_classes'] = num_classes(model, flat)
  if 'decoder/layer_0/linear1/kernel' in flat:
    out['mlp_dim'] = flat['decoder/layer_0/linear1/kernel'].shape[1]
  if 'row_embed' in flat:
    out |= dict(encoder_positions='learned_attn', decoder_positions='learned_attn',
                max_positions=flat['row_embed'].shape[0])
  return out


def num_classes(model: DETR, flat: trees.Flat) -> int | None:
  """Returns the number of classes of weights; None where they have none."""
  if 'class_embed/bias' not in flat:
    return None
  return flat['class_embed/bias'].size - (model.classifier == 'softmax')


def formats(model: DETR, to: str) -> Table | None:
  """Returns the table of a format."""
  return FORMATS[to][model.masks] if to in FORMATS else None


def notes(model: DETR, to: str) -> list[str]:
  """Returns what the other code base's model must be told."""
  said = []
  if model.mask_padding:
    said.append('theirs lets padding into the features: give it images without (batches of one)')
  if model.classifier == 'sigmoid':
    said.append('the classes have sigmoids and none stands for "no object": theirs reads a softmax')
  return said


PUBLISHED = PublishedDetector(
    detr.FAMILY, (names.AUTHORS, names.HUGGINGFACE), shown, formats, told, fields, notes=notes,
    num_classes=num_classes,
    # Section 4; the code's `--dilation` models too.
    canvases=((800, 1344), (1344, 800)), test_transforms=(dict(name='resize', size=800, max_size=1333),),
    rules=Rules(
        classes=CLASSES, heads=CLASSES, rows=('query_embed', 'anchors', 'row_embed', 'col_embed'),
        # Masks, learned positions and denoising queries are there or not by the fields of the model.
        optional=(*CLASSES, 'bbox_attention/', 'mask_head/', 'row_embed', 'col_embed',
                  'backbone/head/')))
