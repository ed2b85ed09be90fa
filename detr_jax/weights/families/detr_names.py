"""Names of DETR's parameters in the authors' files and in Hugging Face's transformers."""

import dataclasses
from collections.abc import Iterable

from vit_jax.weights.families.resnet import TORCHVISION
from vit_jax.weights.families.rows import CONV, batch_norm, dense, norm
from vit_jax.weights.shapes import STATE
from vit_jax.weights.table import Row, Table


def below(rows: Iterable[Row], theirs: str, ours: str = '') -> tuple[Row, ...]:
  """Returns rows whose names have a prefix; running statistics stay in their own tree."""
  def own(path):
    return f'{STATE}{ours}{path.removeprefix(STATE)}' if path.startswith(STATE) else ours + path
  return tuple(dataclasses.replace(row, theirs=theirs + row.theirs, ours=own(row.ours)) for row in rows)


def _conv(theirs: str, ours: str) -> tuple[Row, ...]:
  return Row(f'{theirs}.weight', f'{ours}/kernel', CONV), Row(f'{theirs}.bias', f'{ours}/bias')


def packed(theirs: str, ours: str) -> tuple[Row, ...]:
  """Returns the rows of an attention layer that keeps query, key and value in one matrix."""
  parts = ours + '/{query|key|value}/'
  return (
      Row(f'{theirs}.in_proj_weight', parts + 'kernel', '(n heads d) c -> n c heads d'),
      Row(f'{theirs}.in_proj_bias', parts + 'bias', '(n heads d) -> n heads d'),
      *_out(f'{theirs}.out_proj', ours))


def _out(theirs: str, ours: str) -> tuple[Row, ...]:
  return (Row(f'{theirs}.weight', f'{ours}/out/kernel', 'c (heads d) -> heads d c'),
          Row(f'{theirs}.bias', f'{ours}/out/bias'))


def _apart(theirs: str, ours: str, out: str) -> tuple[Row, ...]:
  """Returns the rows of an attention layer with three matrices."""
  return (
      *(row for part in ('query', 'key', 'value') for name in [f'{theirs}.{part[0]}_proj'] for row in (
          Row(f'{name}.weight', f'{ours}/{part}/kernel', '(heads d) c -> c heads d'),
          Row(f'{name}.bias', f'{ours}/{part}/bias', '(heads d) -> heads d'))),
      *_out(f'{theirs}.{out}', ours))


_ENCODER, _DECODER = 'encoder/layer_{i}/', 'decoder/layer_{i}/'

_BACKBONE = tuple(row for row in TORCHVISION.rows if not row.ours.startswith('head/'))

_MASKS = (
    *(row for theirs, ours in (('q', 'query'), ('k', 'key')) for row in dense(
        f'bbox_attention.{theirs}_linear', f'bbox_attention/{ours}')),
    *(row for layer in ('lay{n}', 'out_lay', 'adapter{n}') for row in _conv(
        f'mask_head.{layer}', f'mask_head/{layer}')),
    *norm('mask_head.gn{n}', 'mask_head/gn{n}'))


def _authors() -> tuple[Row, ...]:
  encoder, decoder = 'transformer.encoder.layers.{i}.', 'transformer.decoder.layers.{i}.'
  return (
      *packed(encoder + 'self_attn', _ENCODER + 'self_attn'),
      *packed(decoder + 'self_attn', _DECODER + 'self_attn'),
      *packed(decoder + 'multihead_attn', _DECODER + 'cross_attn'),
      *(row for theirs, ours in ((encoder, _ENCODER), (decoder, _DECODER)) for row in (
          *dense(theirs + 'linear{n}', ours + 'linear{n}'),
          *norm(theirs + 'norm{n}', ours + 'norm{n}'))),
      *(row for side in ('encoder', 'decoder') for row in norm(
          f'transformer.{side}.norm', f'{side}/norm')),
      *dense('class_embed', 'class_embed'), *dense('bbox_embed.layers.{n}', 'bbox_embed/layers_{n}'),
      Row('query_embed.weight', 'query_embed'), *_conv('input_proj', 'input_proj'),
      Row('backbone.1.row_embed.weight', 'row_embed'), Row('backbone.1.col_embed.weight', 'col_embed'),
      *below(_BACKBONE, 'backbone.0.body.', 'backbone/'))


def _table(name: str, rows: tuple[Row, ...], shown_by: str, masks: tuple[Row, ...] = ()) -> Table:
  return Table(name, (*rows, *below(rows, 'detr.'), *_MASKS, *masks), rf'(detr\.)?{shown_by}',
               ignored=r'(.*\.)?num_batches_tracked')


def _with_masks(table: Table) -> Table:
  """Returns the table to write a model with masks: the detector in it has a prefix."""
  rows = tuple(row for row in table.rows if row.theirs.startswith('detr.'))
  return dataclasses.replace(table, rows=(*rows, *_MASKS))


# Read with and without the prefix that a detector has inside a model with masks.
AUTHORS = _table('detr', _authors(),
                 r'transformer\.decoder\.layers\.0\.multihead_attn\.in_proj_weight')
AUTHORS_MASKS = _with_masks(AUTHORS)


def _layers(ours: str, side: str, out: str, mlp: str) -> tuple[Row, ...]:
  """Returns the rows of the encoder's or decoder's layers in one of transformers' spellings."""
  theirs, decoder = f'model.{side}.layers.{{i}}.', side == 'decoder'
  cross = (*_apart(theirs + 'encoder_attn', ours + 'cross_attn', out),
           *norm(theirs + 'encoder_attn_layer_norm', ours + 'norm2')) if decoder else ()
  return (
      *_apart(theirs + 'self_attn', ours + 'self_attn', out),
      *norm(theirs + 'self_attn_layer_norm', ours + 'norm1'), *cross,
      *norm(theirs + 'final_layer_norm', ours + ('norm3' if decoder else 'norm2')),
      *(row for n in (1, 2) for row in dense(f'{theirs}{mlp}fc{n}', f'{ours}linear{n}')))


def _huggingface_resnet() -> tuple[Row, ...]:
  """Returns the rows of transformers' own ResNet; the published detectors have timm's."""
  unit, ours = 'encoder.stages.{s}.layers.{u}.', 'block{s+1}/unit{u+1}/'
  out = []
  for theirs, conv, bn in (('embedder.embedder', 'conv_root', 'bn_root'),
                           (unit + 'shortcut', ours + 'conv_proj', ours + 'bn_proj'),
                           (unit + 'layer.{n}', ours + 'conv{n+1}', ours + 'bn{n+1}')):
    out += [Row(f'{theirs}.convolution.weight', f'{conv}/kernel', CONV),
            *batch_norm(f'{theirs}.normalization', bn)]
  return tuple(out)


def _huggingface() -> tuple[Row, ...]:
  return (
      # Written as the first, read as either: what `save_pretrained` writes and all published files have,
      # and since version 5 what `state_dict` gives.
      *(row for out, mlp in (('out_proj', ''), ('o_proj', 'mlp.'))
        for side, ours in (('encoder', _ENCODER), ('decoder', _DECODER))
        for row in _layers(ours, side, out, mlp)),
      *(row for rows in (_BACKBONE, _huggingface_resnet()) for where in ('conv_encoder.model.', 'model.')
        for row in below(rows, f'model.backbone.{where}', 'backbone/')),
      *norm('model.decoder.layernorm', 'decoder/norm'),
      *dense('class_labels_classifier', 'class_embed'),
      *dense('bbox_predictor.layers.{n}', 'bbox_embed/layers_{n}'),
      Row('model.query_position_embeddings.weight', 'query_embed'),
      *_conv('model.input_projection', 'input_proj'),
      Row('model.position_embedding.row_embeddings.weight', 'row_embed'),
      Row('model.position_embedding.column_embeddings.weight', 'col_embed'))


def _huggingface_masks() -> tuple[Row, ...]:
  """Returns the rows of the mask head as `state_dict` spells it; files have the authors' names."""
  head, ours = 'mask_head.', 'mask_head/'
  return (
      *(row for letter, part in (('q', 'query'), ('k', 'key')) for row in dense(
          f'bbox_attention.{letter}_proj', f'bbox_attention/{part}')),
      *_conv(head + 'conv{n}.conv', ours + 'lay{n}'), *norm(head + 'conv{n}.norm', ours + 'gn{n}'),
      *_conv(head + 'fpn_stages.{n}.fpn_adapter', ours + 'adapter{n+1}'),
      *_conv(head + 'fpn_stages.{n}.refine.conv', ours + 'lay{n+3}'),
      *norm(head + 'fpn_stages.{n}.refine.norm', ours + 'gn{n+3}'),
      *_conv(head + 'output_conv', ours + 'out_lay'))


HUGGINGFACE = _table('huggingface_detr', _huggingface(),
                     r'model\.decoder\.layers\.0\.encoder_attn\.q_proj\.weight', _huggingface_masks())
HUGGINGFACE_MASKS = _with_masks(HUGGINGFACE)
