"""SETR, DeepLabv3+ and OCRNet, of mmsegmentation."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.core import FrozenDict

from detr_jax.data.info import SegmentationInfo
from detr_jax.models.pixels.base import Classify, Pixels
from detr_jax.models.pixels.deeplab import DeepLabV3Plus
from detr_jax.models.pixels.ocrnet import OCRNet
from detr_jax.models.pixels.setr import SETR, MultiLevelHead, UpHead
from detr_jax.tasks.segmentation import Segmentation
from detr_jax.weights.families import pixel_names
from tests.goldens.base import Golden, Unknown, exactly, run
from tests.goldens.pixels import first, resampled
from vit_jax import weights
from vit_jax.weights.table import to_ours

NORM = {'type': 'BN', 'requires_grad': True}


def checked(part, **own):
  """Marks what all of mmsegmentation's parts say alike."""
  part.skip('dropout_ratio')  # of training
  part.check('align_corners', False)
  if 'norm_cfg' in part:
    part['norm_cfg'].check('type', 'BN')
    part['norm_cfg'].skip('requires_grad')
  part['loss_decode'].check('type', 'CrossEntropyLoss')
  part['loss_decode'].check('use_sigmoid', False)
  part['loss_decode'].skip('loss_weight')  # where there is a loss, it is read
  for key, value in own.items():
    part.check(key, value)
  return part


def of_stages(depth: int, golden: Golden) -> tuple[int, ...]:
  """Returns the units of each stage of a ResNet, which the generator has cut down."""
  names = golden.weights
  count = lambda s: len({n.split('.')[2] for n in names if n.startswith(f'backbone.layer{s}.')})
  return tuple(count(s) for s in range(1, 5))


def resnet(part, golden: Golden) -> dict:
  """Returns the fields of a ResNetV1c."""
  part.check('type', 'ResNetV1c')
  part.check('num_stages', 4)
  part.check('out_indices', [0, 1, 2, 3])
  part.check('style', 'pytorch')
  part.check('contract_dilation', True)
  part.skip('norm_eval')
  part['norm_cfg'].check('type', 'BN')
  part['norm_cfg'].skip('requires_grad')
  stride = {((1, 2, 1, 1), (1, 1, 2, 4)): 8, ((1, 2, 2, 1), (1, 1, 1, 2)): 16,
            ((1, 2, 2, 2), (1, 1, 1, 1)): 32}[tuple(part['strides']), tuple(part['dilations'])]
  return dict(width=part['base_channels'], root_width=part['stem_channels'], deep_root=True,
              output_stride=stride, depths=of_stages(part['depth'], golden))


def hrnet(part) -> dict:
  """Returns the fields of an HRNet."""
  part.check('type', 'HRNet')
  part.skip('norm_eval')
  part['norm_cfg'].check('type', 'BN')
  part['norm_cfg'].skip('requires_grad')
  stages = [part['extra'][f'stage{s}'] for s in range(1, 5)]
  for s, stage in enumerate(stages):
    stage.check('block', 'BASIC' if s else 'BOTTLENECK')
    stage.check('num_branches', s + 1)
    width, units = stages[1]['num_channels'][0], stage['num_blocks']
    if s and (stage['num_channels'] != [width * 2 ** b for b in range(s + 1)]
              or set(units) != {stages[1]['num_blocks'][0]}):
      raise Unknown(f'branches of other widths or depths: {stage["num_channels"]}, {units}')
  stages[0].check('num_modules', 1)
  return dict(width=stages[1]['num_channels'][0], depth=stages[1]['num_blocks'][0],
              root_width=stages[0]['num_channels'][0], root_depth=stages[0]['num_blocks'][0],
              modules=tuple(stage['num_modules'] for stage in stages[1:]), resizing='bilinear')


def whole(kwargs):
  """Marks what describes how whole images are tested."""
  kwargs.skip('pretrained', 'train_cfg')
  kwargs['test_cfg'].check('mode', 'whole')


def deeplab(golden: Golden) -> dict[str, np.ndarray]:
  """DeepLabv3+ on a ResNet."""
  kwargs = golden.meta['kwargs']
  whole(kwargs)
  kwargs.check('type', 'EncoderDecoder')
  head, aux = checked(kwargs['decode_head']), checked(kwargs['auxiliary_head'])
  head.check('type', 'DepthwiseSeparableASPPHead')
  for name, value in dict(type='FCNHead', in_index=2, num_convs=1, concat_input=False).items():
    aux.check(name, value)
  fields = resnet(kwargs['backbone'], golden)
  head.check('in_index', 3)
  head.check('in_channels', fields['width'] * 32)
  head.check('c1_in_channels', fields['width'] * 4)
  aux.check('in_channels', fields['width'] * 16)
  one, *dilations = head['dilations']
  if one != 1:
    raise Unknown(f'the first dilation is {one}')
  aux.check('num_classes', head['num_classes'])
  model = DeepLabV3Plus(
      head['num_classes'], 'resnet50', FrozenDict(fields), width=head['channels'],
      dilations=tuple(dilations), fine_width=head['c1_channels'], auxiliary_width=aux['channels'])
  variables, outputs, found, out = judged(golden, model, aux['loss_decode']['loss_weight'], 'aux')
  head['loss_decode'].check('loss_weight', 1.)
  return {**out, 'head_0': first(found['conv_seg']), 'aux': first(found['auxiliary_seg']),
          'logits': first(outputs.logits)}


def ocrnet(golden: Golden) -> dict[str, np.ndarray]:
  """OCRNet on an HRNet or a ResNet."""
  kwargs = golden.meta['kwargs']
  whole(kwargs)
  kwargs.check('type', 'CascadeEncoderDecoder')
  kwargs.check('num_stages', 2)
  coarse, head = map(checked, kwargs['decode_head'])
  for name, value in dict(type='FCNHead', num_convs=1, concat_input=False).items():
    coarse.check(name, value)
  head.check('type', 'OCRHead')
  joined = head.get('input_transform') == 'resize_concat'
  fields = hrnet(kwargs['backbone']) if joined else resnet(kwargs['backbone'], golden)
  coarse.check('input_transform', 'resize_concat' if joined else None)
  coarse.check('kernel_size', 1 if joined else 3)
  coarse.skip('in_channels', 'in_index')  # follow from the backbone: the weights have their shapes
  head.skip('in_channels', 'in_index')
  coarse.check('num_classes', head['num_classes'])
  model = OCRNet(head['num_classes'], 'hrnet_w18' if joined else 'resnet50', FrozenDict(fields),
                 inputs='joined' if joined else 'last', width=head['channels'],
                 context_width=head['ocr_channels'], coarse_width=coarse['channels'])
  _, _, found, out = judged(golden, model, coarse['loss_decode']['loss_weight'], '0', '1')
  head['loss_decode'].check('loss_weight', 1.)
  return {**out, 'head_0': first(found['coarse_seg']), 'head_1': first(found['context_seg'])}


def judged(golden: Golden, model, auxiliary: float, aux: str, own: str = '0'):
  """Returns variables, outputs, intermediates, and what both networks' files hold: losses, gradients."""
  image, labels = golden.inputs['image'].transpose(0, 2, 3, 1), golden.inputs['labels']
  table = (pixel_names.MMSEG_HRNET if 'backbone.transition1.0.0.weight' in golden.weights else
           pixel_names.MMSEG)
  variables = exactly(to_ours(table, golden.weights), model, image)
  outputs, found = run(model, variables, image)
  info = SegmentationInfo('', tuple(map(str, range(model.num_classes))), 3, image.shape[1:3])
  task = Segmentation(model, info, auxiliary, count_ignored=True)
  batch = task.augment(dict(labels=jnp.asarray(labels)), None)

  def loss(params):
    got, _ = model.apply({**variables, 'params': params}, image, mutable=['intermediates'])
    return task.criterion(got, batch)

  alone = lambda logits, weight: weight * task.criterion(Pixels(logits), batch)
  known = labels != 255
  right = lambda logits: np.asarray([100. * ((logits.argmax(-1) == labels) & known).sum() / known.sum()])
  total, gradients = jax.value_and_grad(loss)(variables['params'])
  out = {f'backbone_{i}': first(x) for i, x in enumerate(found['backbone'].maps)}
  for name, logits, weight in ((own, outputs.logits, 1.), (aux, outputs.auxiliary[0], auxiliary)):
    out |= {f'loss_{name}': alone(logits, weight), f'acc_{name}': right(logits)}
  out |= {'loss_total': total, 'prediction': outputs.logits.argmax(-1)}
  flat = weights.flatten({'params': gradients})
  for name in golden.outputs:
    if name.startswith('grad/'):
      key = name.removeprefix('grad/')
      path, = to_ours(table, {key: golden.weights[key]})
      out[name] = flat[path]
  return variables, outputs, found, out


def up_head(part) -> UpHead:
  """Returns the head of 'naive' and 'pup'."""
  checked(part, type='SETRUPHead')
  part.skip('in_channels', 'in_index')
  return UpHead(part['num_classes'], part['num_convs'], part['up_scale'], part['kernel_size'],
                part['channels'], 0., jnp.float32)


def setr_heads(golden: Golden) -> dict[str, np.ndarray]:
  """The three decoders on given maps, as parts of one model each."""
  kwargs, out = golden.meta['kwargs'], {}
  maps = [golden.inputs[f'feat_{i}'].transpose(0, 2, 3, 1) for i in range(golden.number_of('feat_{}'))]
  for name in ('naive', 'pup'):
    head = up_head(kwargs[name])
    theirs = {key.replace(name, 'decode_head', 1): value for key, value in golden.weights.items()
              if key.startswith(f'{name}.')}
    ours = {path.replace('decode/', ''): value for path, value in
            to_ours(pixel_names.MMSEG_SETR, theirs).items()}
    out[name] = first(head.apply(exactly(ours, head, maps[-1]), maps[-1]))
  return {**out, **mla(golden, kwargs, maps)}


def mla(golden: Golden, kwargs, maps) -> dict[str, np.ndarray]:
  """Returns what 'mla' makes of given maps."""
  neck, head, aux = kwargs['mla_neck'], checked(kwargs['mla']), checked(kwargs['mla_aux'])
  neck.check('type', 'MLANeck')
  neck['norm_cfg'].check('type', 'BN')
  neck['norm_cfg'].skip('requires_grad')
  neck['act_cfg'].check('type', 'ReLU')
  neck.skip('in_channels')
  head.check('type', 'SETRMLAHead')
  head.check('up_scale', 4)
  head.skip('in_channels', 'in_index', 'channels')
  for name, value in dict(type='FCNHead', num_convs=0, concat_input=False, kernel_size=1).items():
    aux.check(name, value)
  aux.skip('in_channels', 'channels')
  aux.check('num_classes', head['num_classes'])
  head = MultiLevelHead(head['num_classes'], neck['out_channels'], head['mla_channels'], 0., jnp.float32)
  names = dict(neck='neck', mla='decode_head', mla_aux=f'auxiliary_head.{aux["in_index"]}')
  theirs = {names[key.partition('.')[0]] + '.' + key.partition('.')[2]: value
            for key, value in golden.weights.items() if key.partition('.')[0] in names}
  ours = to_ours(pixel_names.MMSEG_SETR_MLA, theirs)
  own = {path.replace('decode/', ''): x for path, x in ours.items() if not path.startswith('auxiliary')}
  logits, levels = head.apply(exactly(own, head, maps), maps)
  kernel = {path.rpartition('/')[2]: x for path, x in ours.items() if path.startswith('auxiliary')}
  helping = Classify(head.num_classes).apply({'params': kernel}, levels[aux['in_index']])
  return {**{f'neck_{i}': first(x) for i, x in enumerate(levels)}, 'mla': first(logits),
          'mla_aux': first(helping)}


def setr(golden: Golden) -> dict[str, np.ndarray]:
  """SETR from images on."""
  kwargs, image = golden.meta['kwargs'], golden.inputs['image'].transpose(0, 2, 3, 1)
  own, head = kwargs['backbone'], kwargs['decode_head']
  for name, value in dict(type='VisionTransformer', in_channels=3, interpolate_mode='bilinear').items():
    own.check(name, value)
  own.skip('drop_rate', 'img_size')
  own['norm_cfg'].check('type', 'LN')
  own['norm_cfg'].check('eps', 1e-6)
  own['norm_cfg'].skip('requires_grad')
  class_token = own['with_cls_token']
  fields = dict(patch_size=own['patch_size'], width=own['embed_dims'], depth=own['num_layers'],
                num_heads=own['num_heads'], mlp_dim=own['embed_dims'] * own['mlp_ratio'], gelu='erf',
                map_layers=tuple(own['out_indices']), pool='token' if class_token else 'none')
  part = up_head(head)
  model = SETR(part.num_classes, 'vit_s16', FrozenDict(fields), auxiliary=False,
               decoder='naive' if part.kernel_size == 1 else 'pup', width=part.width, depth=part.depth)
  if part.factor != (4 if part.kernel_size == 1 else 2):
    raise Unknown(f'a head that enlarges by {part.factor}')
  flat = to_ours(pixel_names.MMSEG_SETR, golden.weights, fields['num_heads'])
  variables = exactly(resampled(flat, image.shape[1:3], fields['patch_size']), model, image)
  _, found = run(model, variables, image)
  return {**{f'layer_{i}': first(x) for i, x in enumerate(found['backbone'].maps)},
          'decode_head': first(found['decode'])}


def baseline(golden: Golden) -> dict[str, np.ndarray]:
  """Any of the files: all have the name of one system."""
  kwargs = golden.meta['kwargs']
  if 'mla_neck' in kwargs:
    return setr_heads(golden)
  if kwargs.get('type') == 'CascadeEncoderDecoder':
    return ocrnet(golden)
  return deeplab(golden) if kwargs.get('type') == 'EncoderDecoder' else setr(golden)


SYSTEMS = dict(segmentation_baseline=baseline)
