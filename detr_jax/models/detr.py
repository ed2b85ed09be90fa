"""DETR: a set of boxes from a transformer between an image and queries (arXiv:2005.12872).

Parameters: `backbone/...` (as the backbone has them), `input_proj`, `encoder/layer_0/{self_attn,
linear1, linear2, norm1, norm2}`, `decoder/layer_0/{self_attn, cross_attn, linear1, linear2, norm1,
norm2, norm3}`, `decoder/norm`, `query_embed` `[queries, width]`, `class_embed`,
`bbox_embed/layers_{0,1,2}`; `encoder/norm` with `pre_norm`; `row_embed`, `col_embed` with learned
positions; `anchors`, `decoder/{anchor_embed, query_scale}` with anchors; `denoising_embed` with
denoising queries; `bbox_attention`, `mask_head` with masks.

Intermediates, read with `mutable=['intermediates']`, all softmaxed weights:
`encoder/layer_0/self_attn/attention` `[batch, heads, h * w, h * w]`,
`decoder/layer_0/self_attn/attention` `[batch, heads, queries, queries]` and
`decoder/layer_0/cross_attn/attention` `[batch, heads, queries, h * w]`.
"""

import functools
import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict
from jax.sharding import PartitionSpec as P

from detr_jax.models import denoising, positions
from detr_jax.models.anchors import AnchorDecoder, initial_anchors
from detr_jax.models.family import Head
from detr_jax.models.panoptic import FPN_LEVELS, BoxAttention, MaskHead
from detr_jax.models.transformer import (TORCH, Decoder, Encoder, Mlp, Options, Pointwise, plus,
                                         torch_bias)
from detr_jax.ops import postprocess
from detr_jax.ops.losses import SetCriterion
from detr_jax.ops.outputs import Outputs
from vit_jax import models, sharding
from vit_jax.errors import UserError, unknown
from vit_jax.layers import padding
from vit_jax.models import vit
from vit_jax.models.features import Features
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD, Preprocessing, Variant

CLASSIFIERS = ('softmax', 'sigmoid')
LOSSES = dict(softmax='softmax', sigmoid='focal')  # of the classes
POSITIONS = ('sine_attn', 'learned_attn', 'sine_input', 'none')
QUERY_POSITIONS = ('attn', 'input')
QUERIES = ('learned', 'anchors')
REMAT = ('none', 'full')

# As a ViT's: heads and hidden layers over `model`, the other axis over `fsdp`.
RULES: sharding.Rules = (
    (r'.*/backbone/(.*/)?conv\w+/kernel', P(None, None, None, 'fsdp')),
    (r'.*/(query|key|value)(_position)?/kernel', P('fsdp', 'model', None)),
    (r'.*/(query|key|value)(_position)?/bias', P('model', None)),
    (r'.*_attn/out/kernel', P('model', None, 'fsdp')),
    (r'.*/linear1/kernel', P('fsdp', 'model')),
    (r'.*/linear1/bias', P('model')),
    (r'.*/linear2/kernel', P('model', 'fsdp')),
    (r'.*/(input_proj|mask_head/\w+)/kernel', P(None, None, None, 'fsdp')),
    *vit.RULES,
)


class DETR(nn.Module):
  """A detector, and with `masks` one of segments, on any backbone.

  Attributes:
    num_classes: of objects; "no object" is not counted.
    backbone: name of a `vit_jax` model; its last map is read.
    backbone_fields: of that model.
    encoder_layers, decoder_layers: 0 and 1 or more.
    width, num_heads, mlp_dim, dropout_rate: of the transformer.
    num_queries: the largest number of boxes per image.
    classifier: 'softmax' over the classes and "no object", or 'sigmoid', one answer per class.
    encoder_positions, decoder_positions: of the map's entries (table 3): 'sine_attn' or 'learned_attn',
      added at every attention (the decoder's: to the keys), 'sine_input', added once in front of the
      first layer (the decoder's: to its memory), or 'none'.
    query_positions: queries are added at every attention ('attn') or are the decoder's input ('input').
    max_positions: rows and columns of the learned positions; published: 50, too few for DC5.
    temperature, position_scale: of the sines, see `positions.sine`.
    ffn: whether layers have an MLP (section 4.2).
    pre_norm: normalise in front of each branch instead of behind it.
    queries: 'learned' vectors, or 'anchors', see `detr_jax.models.anchors`.
    denoising: groups of denoising queries in training, see `detr_jax.models.denoising`; needs anchors.
    box_noise, label_noise: of the denoising queries.
    masks: predict a mask per query (section 4.3); the backbone must give four maps.
    mask_padding: tell backbone and mask head which pixels are image, so that a padded image gives what
      it gives alone, whatever the norm and the canvas; a backbone that cannot do so is refused. The
      authors' code does not (False), and its features change with the padding.
    remat: 'full': the backward pass computes the transformer's layers again.
    dtype: of the computation; softmax, positions, heads and boxes are float32.
  """
  num_classes: int = 91
  backbone: str = 'resnet50'
  backbone_fields: Mapping[str, Any] = FrozenDict()
  encoder_layers: int = 6
  decoder_layers: int = 6
  width: int = 256
  num_heads: int = 8
  mlp_dim: int = 2048
  dropout_rate: float = .1
  num_queries: int = 100
  classifier: str = 'softmax'
  encoder_positions: str = 'sine_attn'
  decoder_positions: str = 'sine_attn'
  query_positions: str = 'attn'
  max_positions: int = 50
  temperature: float = 10_000.
  position_scale: float | None = positions.TURN
  ffn: bool = True
  pre_norm: bool = False
  queries: str = 'learned'
  denoising: int = 0
  box_noise: float = .4
  label_noise: float = .2
  masks: bool = False
  mask_padding: bool = True
  remat: str = 'none'
  dtype: jnp.dtype = jnp.float32

  @property
  def norm(self) -> str:
    """The backbone's kind of norm, where it has a choice; else ''."""
    return getattr(self._backbone(), 'norm', '')

  def check(self) -> None:
    """Raises UserError for fields that do not fit together."""
    for kind, value, options in (
        ('classifier', self.classifier, CLASSIFIERS), ('queries', self.queries, QUERIES),
        ('encoder_positions', self.encoder_positions, POSITIONS),
        ('decoder_positions', self.decoder_positions, POSITIONS),
        ('query_positions', self.query_positions, QUERY_POSITIONS), ('remat', self.remat, REMAT)):
      if value not in options:
        raise unknown(kind, value, options)
    if self.width % self.num_heads or self.width % 4:
      raise UserError(f'width {self.width} must be divisible by 4 and by num_heads {self.num_heads}')
    placed = self.decoder_positions, self.query_positions
    if self.queries == 'anchors' and placed != ('sine_attn', 'attn'):
      raise UserError("queries='anchors' needs decoder_positions='sine_attn' and "
                      "query_positions='attn', not {!r} and {!r}".format(*placed))
    if self.masks and (self.width % 128 or self.num_heads % 8):
      raise UserError(f'masks need a width that is a multiple of 128 and heads that are of 8, not '
                      f'{self.width} and {self.num_heads}: the norms of the mask head have 8 groups')
    if self.denoising and self.queries != 'anchors':
      raise UserError(f"denoising={self.denoising} needs queries='anchors', not {self.queries!r}")

  @nn.nowrap
  def check_canvases(self, canvases: Sequence[tuple[int, int]]) -> None:
    """Raises UserError for canvases (height, width) that the model does not take, or not all of them."""
    self.check()
    backbone, first = self._backbone(), None
    self._check_backbone(backbone)
    for canvas in canvases:
      try:
        features, shapes = _shapes(backbone, tuple(canvas), self.mask_padding)
      except UserError as error:  # the remedy is not that of a classifier's resolution
        raise UserError('the canvas {}x{} of data.canvases or data.test_canvases: {}'.format(
            *canvas, str(error).partition(' (set resolution=')[0])) from None
      grid = features.maps[-1].shape[1:3]
      if 'learned_attn' in (self.encoder_positions, self.decoder_positions):
        positions.check_grid(grid, self.max_positions)
      first = first or (canvas, shapes)
      if shapes != first[1]:
        raise UserError('the backbone {!r} has other parameters for a canvas of {}x{} than of {}x{}; '
                        'give data.canvases and data.test_canvases one size, or choose a backbone that '
                        "takes any (a ViT: model.backbone_fields.position='sincos')".format(
                            self.backbone, *canvas, *first[0]))

  @nn.nowrap
  def _check_backbone(self, backbone: nn.Module) -> None:
    if self.mask_padding and 'valid' not in inspect.signature(type(backbone).__call__).parameters:
      raise UserError(f'the backbone {self.backbone!r} does not read which pixels are image (its '
                      '__call__ has no argument `valid`), so its features change with the padding; '
                      'choose another one, or set model.mask_padding=false')

  def setup(self):
    self.check()
    options = Options(self.num_heads, self.mlp_dim, self.dropout_rate, self.ffn, self.pre_norm,
                      self.remat, self.dtype)
    anchors = self.queries == 'anchors'
    self.features = self._backbone().clone(parent=self, name='backbone')  # a field has the name
    self.input_proj = Pointwise(self.width, dtype=self.dtype)
    self.encoder = Encoder(options, self.encoder_layers)
    self.decoder = (AnchorDecoder(options, self.decoder_layers, self.temperature) if anchors
                    else Decoder(options, self.decoder_layers))
    normal = nn.initializers.normal(1.)
    self.query_embed = self.param('query_embed', normal, (self.num_queries, self.width))
    if anchors:
      self.anchors = self.param('anchors', initial_anchors, (self.num_queries, 4))
    if self.denoising:
      self.denoising_embed = self.param('denoising_embed', normal, (self.num_classes, self.width))
    if 'learned_attn' in (self.encoder_positions, self.decoder_positions):
      shape = (self.max_positions, self.width // 2)
      self.row_embed = self.param('row_embed', nn.initializers.uniform(1.), shape)
      self.col_embed = self.param('col_embed', nn.initializers.uniform(1.), shape)
    # A sigmoid starts at one percent (focal loss, arXiv:1708.02002, section 4.1).
    prior = nn.initializers.constant(-math.log(99.))
    self.class_embed = nn.Dense(
        self.num_classes + (self.classifier == 'softmax'), kernel_init=TORCH,
        bias_init=prior if self.classifier == 'sigmoid' else torch_bias(self.width))
    self.bbox_embed = Mlp((self.width, self.width, 4), zero=anchors)
    if self.masks:
      self.bbox_attention = BoxAttention(self.num_heads, self.dtype)
      self.mask_head = MaskHead(self.width, self.dtype)

  def __call__(self, image: jax.Array, size: jax.Array | None = None, train: bool = False,
               targets: Mapping[str, jax.Array] | None = None) -> Outputs:
    """Maps images to sets of boxes.

    Args:
      image: float `[batch, height, width, channels]`, normalised; zeros where it is padded.
      size: int `[batch, 2]`: (height, width) of the upper left part that is the image, at least 1; None:
        the whole.
      train: whether dropout applies, and denoising queries are made.
      targets: `labels` int `[batch, targets]` (-1: none) and `boxes` `[batch, targets, 4]`, cxcywh; read
        for denoising queries alone.

    Returns:
      `Outputs`.

    Raises:
      UserError: for fields that do not fit together, or a map larger than learned positions.
    """
    canvas = image.shape[1:3]
    pixels = None if size is None else positions.valid(size, canvas, canvas)
    features = self.encode(image, size, train)
    # Which entries of a map of some (height, width) belong to the image, and who needs to know.
    inside = None if size is None else functools.partial(positions.valid, size, canvas=canvas)
    if inside and self.mask_padding:
      inside = {x.shape[1:3]: padding.strided(pixels, stride)
                for x, stride in zip(features.maps, features.strides, strict=True)}.__getitem__
    kept, maps = inside if self.mask_padding else None, features.maps
    source = self.input_proj(maps[-1])
    batch, *grid, _ = source.shape
    valid = inside and inside(tuple(grid))
    mask = None if valid is None else valid.reshape(batch, 1, 1, -1)
    tokens = source.reshape(batch, -1, self.width)
    tokens, placed = self._place(tokens, self.encoder_positions, grid, valid)
    memory = self.encoder(tokens, placed, mask, train)
    keys, placed = self._place(memory, self.decoder_positions, grid, valid)
    decode = self._decode_anchors if self.queries == 'anchors' else self._decode
    states, boxes = decode(keys, placed, mask, train, targets)
    logits, own = self.class_embed(states.astype(jnp.float32)), self.num_queries
    extra = Outputs(logits[:, :, own:], boxes[:, :, own:]) if states.shape[2] > own else None
    masks = self._masks(states[-1, :, :own], memory, source, maps, mask, kept) if self.masks else None
    return Outputs(logits[:, :, :own], boxes[:, :, :own], masks, extra)

  @nn.nowrap  # so that it can be asked of a model without parameters
  def _backbone(self) -> nn.Module:
    fields = {'dtype': self.dtype, **self.backbone_fields}
    return models.create_model(self.backbone, **fields, num_classes=None)

  def encode(self, image: jax.Array, size: jax.Array | None = None, train: bool = False) -> Features:
    """Returns the backbone's features, arguments as of `__call__`; with `mask_padding`, nothing outside
    the images has changed them."""
    canvas = image.shape[1:3]
    valid = None if size is None or not self.mask_padding else positions.valid(size, canvas, canvas)
    if valid is None:
      return self.features(image, train)
    self._check_backbone(self.features)
    return self.features(image, train, valid)

  def _place(self, tokens, kind, grid, valid):
    """Returns tokens `[batch, h * w, width]` and the positions for every attention, or None."""
    if kind == 'none':
      return tokens, None
    if kind == 'learned_attn':
      table = positions.learned(self.row_embed, self.col_embed, grid)
    else:
      inside = np.ones((1, *grid), bool) if valid is None else valid
      table = positions.sine(inside, self.width, self.temperature, self.position_scale)
    table = table.reshape(table.shape[0], -1, self.width).astype(self.dtype)
    return (plus(tokens, table), None) if kind == 'sine_input' else (tokens, table)

  def _decode(self, memory, placed, mask, train, targets):
    """Returns the states and boxes of learned queries."""
    del targets
    queries = jnp.broadcast_to(self.query_embed.astype(self.dtype),
                               (memory.shape[0], *self.query_embed.shape))
    start = (jnp.zeros_like(queries), queries) if self.query_positions == 'attn' else (queries, None)
    states = self.decoder(*start, memory, placed, mask, train)
    return states, nn.sigmoid(self.bbox_embed(states.astype(jnp.float32)))

  def _decode_anchors(self, memory, placed, mask, train, targets):
    """Returns the states and boxes of anchors, followed by denoising queries if there are any."""
    batch = memory.shape[0]
    x, anchors = (jnp.broadcast_to(p, (batch, *p.shape)) for p in (self.query_embed, self.anchors))
    query_mask = None
    if self.denoising and train:
      if targets is None:
        raise UserError('denoising queries are made of targets; call the model with targets=')
      labels, boxes = denoising.noisy(self.make_rng('denoising'), targets, self.denoising,
                                      self.num_classes, self.box_noise, self.label_noise)
      x = jnp.concatenate([x, self.denoising_embed[labels]], 1)
      anchors = jnp.concatenate([anchors, boxes], 1)
      query_mask = denoising.visible(targets['labels'], self.denoising, self.num_queries)
    return self.decoder(x.astype(self.dtype), anchors, memory, placed, mask, query_mask, self.bbox_embed,
                        train)

  def _masks(self, states, memory, source, maps, mask, kept):
    """Returns a mask per query, `[batch, queries, h, w]`, of the resolution of the finest map."""
    if len(maps) < FPN_LEVELS + 1:
      raise UserError(f'masks need a backbone with {FPN_LEVELS + 1} maps or more; '
                      f'{self.backbone!r} gives {len(maps)}')
    attended = self.bbox_attention(states, memory, mask)
    attended = attended.reshape(*states.shape[:2], *source.shape[1:3], -1)
    return self.mask_head(source, attended, maps[-2:-2 - FPN_LEVELS:-1], kept)


@functools.lru_cache(32)
def _shapes(backbone: nn.Module, canvas: tuple[int, int], padded: bool) -> tuple[Features, str]:
  """Returns the shapes of a backbone's features on a canvas, and of its variables in words."""
  image = jax.ShapeDtypeStruct((1, *canvas, 3), jnp.float32)
  told = dict(valid=jax.ShapeDtypeStruct(image.shape[:3], bool)) if padded else {}
  features, variables = jax.eval_shape(backbone.init_with_output, jax.random.key(0), image, **told)
  return features, str(jax.tree.map(lambda x: x.shape, variables))


PAPER = 'End-to-end object detection with transformers, arXiv:2005.12872, '


def _variant(depth: int, parameters: int, dilation: bool = False, masks: bool = False) -> Variant:
  fields = dict(norm='frozen', output_stride=16) if dilation else dict(norm='frozen')
  arguments = dict(num_classes=250 if masks else 91, backbone=f'resnet{depth}',
                   backbone_fields=FrozenDict(fields), masks=masks)
  return Variant(DETR, arguments, parameters, PAPER + ('table 5' if masks else 'table 1'), (800, 1066),
                 Preprocessing(IMAGENET_MEAN, IMAGENET_STD))


# The scale and bias of frozen batch norm count as parameters here, 53,120 in a ResNet-50 and 105,344 in
# a ResNet-101; the authors' code keeps them with the statistics, as buffers.
VARIANTS: dict[str, Variant] = dict(
    detr_r50=_variant(50, 41_524_768 + 53_120),
    detr_r50_dc5=_variant(50, 41_524_768 + 53_120, dilation=True),
    detr_r101=_variant(101, 60_464_672 + 105_344),
    detr_r101_dc5=_variant(101, 60_464_672 + 105_344, dilation=True),
    detr_r50_panoptic=_variant(50, 42_899_288 + 53_120, masks=True),
    detr_r50_dc5_panoptic=_variant(50, 42_899_288 + 53_120, dilation=True, masks=True),
    detr_r101_panoptic=_variant(101, 61_839_192 + 105_344, masks=True),
)

PLACES = dict(none='none', sine_input='sine at input', sine_attn='sine at attn',
              learned_attn='learned at attn', attn='learned at attn', input='learned at input')


def facts(model: DETR) -> dict[str, str]:
  """Returns what the paper's tables 3 and 5 print of a model."""
  return {'backbone': model.backbone.replace('resnet', 'R'),
          'encoder spatial': PLACES[model.encoder_positions],
          'decoder spatial': PLACES[model.decoder_positions],
          'decoder output': PLACES[model.query_positions]}


def tiny(fields: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the fields of a small DETR. Without weights a frozen norm is of no use."""
  name, own = fields['backbone'], dict(fields['backbone_fields'])
  if 'norm' in own:  # a ResNet
    name, backbone = 'resnet18', {**own, 'norm': 'group', 'width': 32, 'depths': (1, 1, 1, 1)}
  else:
    small = models.family(name).tiny or (lambda fields: {})
    backbone = {**own, **small({**models.variant(name).arguments, **own})}
  return dict(width=32, num_heads=4, mlp_dim=64, backbone=name, num_queries=10,
              encoder_layers=min(fields.get('encoder_layers', 1), 1),
              decoder_layers=min(fields.get('decoder_layers', 2), 2), backbone_fields=backbone)


def decode(model: DETR, outputs: Outputs, original_size: jax.Array, count: int) -> dict[str, jax.Array]:
  """Returns the detections of the last layer, see `ops.postprocess.detections`."""
  return postprocess.detections(*outputs.last(), original_size, model.classifier, count)


def look(model: DETR, outputs: Outputs, seen: Mapping[str, jax.Array]) -> dict[str, Any]:
  """Returns the answers of the last layer and its attention; that of other layers is large, and is not
  kept."""
  last = lambda name, layers: seen[name.format(layers - 1)].mean(axis=1) if layers else None
  logits, boxes = outputs.last()
  labels, scores = postprocess.best_class(logits, model.classifier)
  return dict(logits=logits, labels=labels, scores=scores, boxes=boxes, masks=outputs.masks,
              tokens=seen['input_proj/__call__'],
              encoder=last('encoder/layer_{}/self_attn/attention', model.encoder_layers),
              decoder=last('decoder/layer_{}/cross_attn/attention', model.decoder_layers))


FAMILY = Head(
    DETR, VARIANTS, RULES, tiny=tiny, facts=facts, losses=SetCriterion,
    decided=lambda model: dict(classification=LOSSES[model.classifier]),
    slots=lambda model: model.num_queries, decode=decode,
    # The focal loss, which comes with sigmoids, holds scores back.
    threshold=lambda model: dict(softmax=.5, sigmoid=.3)[model.classifier],
    capture=lambda module, method: module.name == 'input_proj', look=look)
