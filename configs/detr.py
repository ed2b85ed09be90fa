"""DETR as published (End-to-End Object Detection with Transformers, arXiv:2005.12872).

    python -m vit_jax.main --workdir=runs/detr_r50 \\
        --config=configs/detr.py:model=detr_r50,dataset=PATH_OF_COCO,init_from=resnet50.pth

A folder with COCO's layout: annotations/instances_train2017.json, train2017/, and the same of val2017;
`init_from` is an ImageNet ResNet with torchvision's names, whose batch norm stays frozen.
`epochs=500,drop=400` is table 1, the default the schedule of tables 3 and 4.

The tables' other rows, each by one argument: `encoder_layers=0|3|6|12` (table 2), `decoder_layers`
(figure 4), `positions=none|sine_input|learned_attn|decoder_only|sine_attn` (table 3), `l1=false` or
`giou=false` (table 4), `ffn=false` (section 4.2). `model=detr_r50_panoptic` (section 4.4) first learns
the boxes of things and stuff; then `frozen=RUN_OF_BOXES,epochs=25,drop=15` trains the mask head alone.
`joint` trains all at once.

`resolution=400` (the short side of test images, 800 in the paper) scales all sizes of the recipe, for a
smaller accelerator.

Sooner than the paper, each by one argument: `focal`, `queries=anchors` (DAB-DETR, arXiv:2201.12329), and
`denoising=5` (DN-DETR, arXiv:2203.01305); docs/detection.md has what they brought on small data.

Hardware and time: not measured. Paper: AP 42.0 (table 1, R50, 500 epochs).
Measured: not measured.
"""

from detr_jax import recipes
from detr_jax.data.config import detection_data
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

# Positions of the encoder, of the decoder's keys, and of the queries (table 3).
POSITIONS = dict(
    none=('none', 'none', 'input'), sine_input=('sine_input', 'sine_input', 'input'),
    learned_attn=('learned_attn', 'learned_attn', 'attn'), decoder_only=('none', 'sine_attn', 'attn'),
    sine_attn=('sine_attn', 'sine_attn', 'attn'))


LONGEST = 1333 / 800  # of the longer side to the shorter one, of the largest images


def sized(short: int) -> dict:
  """Returns canvases and transforms for test images with this short side, the paper's 800 or another.

  All sizes of the recipe are scaled alike.
  """
  share = lambda sizes: tuple(max(round(size * short / 800), 1) for size in sizes)
  up = lambda side: -(-side // 32) * 32
  long = round(short * LONGEST)
  detr = dict(name='detr')
  if short != 800:
    detr |= dict(scales=share(range(480, 801, 32)), max_size=long, crop_scales=share((400, 500, 600)),
                 crop_min=share((384,))[0], crop_max=share((600,))[0])
  return dict(canvases=[(up(short), up(long)), (up(long), up(short))], transforms=[detr],
              test_transforms=[dict(name='resize', size=short, max_size=long)])


def get_config(arg=None):
  a = config.arguments(
      arg, model='detr_r50', dataset='', train='train2017', validation='', test='val2017', epochs=300.,
      drop=200., batch_size=64, init_from='', frozen='', joint=False, encoder_layers=6, decoder_layers=6,
      positions='sine_attn', l1=True, giou=True, ffn=True, focal=False, queries='learned', denoising=0,
      id_slots=0, resolution=800, smoke=False)
  encoder, decoder, queries = one_of('positions', a.positions, POSITIONS)
  panoptic = a.model.endswith('_panoptic')
  masks = panoptic and (a.joint or bool(a.frozen))
  sizes = sized(a.resolution)
  c = config.base()
  c.total_epochs, c.init_from = a.epochs, a.frozen or a.init_from
  c.task = dict(
      name='detr_jax.tasks.' + ('panoptic.Panoptic' if masks else 'detection.Detection'),
      bbox_coef=5. * a.l1, cost_bbox=5. * a.l1, giou_coef=2. * a.giou, cost_giou=2. * a.giou,
      cost_class=2. if a.focal else 1.)
  c.model = dict(
      name=a.model, dtype='float32', encoder_layers=a.encoder_layers, decoder_layers=a.decoder_layers,
      encoder_positions=encoder, decoder_positions=decoder, query_positions=queries, ffn=a.ffn,
      # Maps of the longest images have 42 entries a side, those of DC5 84.
      max_positions=max(50, sizes['canvases'][0][1] // 32) * (2 if '_dc5' in a.model else 1),
      classifier='sigmoid' if a.focal else 'softmax', queries=a.queries, denoising=a.denoising,
      masks=masks, backbone_fields=recipes.backbone_fields(a.model))
  c.data = detection_data(
      a.dataset or 'digit_scenes', a.batch_size, panoptic=panoptic, masks=masks, id_slots=a.id_slots,
      segments='published' if panoptic else 'annotated', **sizes)
  if a.dataset:
    c.data.update(train=a.train, validation=a.validation, test=a.test)
  c.optimizer = dict(name='adamw', weight_decay=1e-4, decay='all', clip_norm=.1)
  if a.frozen:  # the mask head learns alone
    c.optimizer.freeze = ('(?!mask_head|bbox_attention).*',)
  else:
    c.optimizer.freeze = recipes.FROZEN
    c.optimizer.rate_factors = (('backbone/.*', .1),)
  c.schedule = dict(name='staircase', peak=1e-4, boundary_epochs=(a.drop,), factors=(.1,))
  evaluate_and_save(c, times=50)
  if a.smoke:
    recipes.smoke(c)
  return c
