"""A segmenter for small data sets of one's own, from scratch, without any weights.

    python -m vit_jax.main --workdir=runs/mine \\
        --config=configs/segmenter_small.py:dataset=PATH,window=240x320

A folder with `images/SPLIT` and `labels/SPLIT` or `annotations/SPLIT`, and `classes.txt`, see
docs/segmentation.md. The backbone is a small ResNet with group norm whose last map has the `stride`,
dilated where that is 8 or 16; `backbone` names another network of `vit_jax` with stages, such as
convnext_t or swin_t, in its published depth and width. `decoder` is Segmenter's, 'linear' or 'mask'.
`size` is the short side that images are resized to first (0: as they are), `window` (height x width)
what is cut out to train on. An evaluated image is seen whole; `slide=240` lets windows of 240x240 pixels
slide over it instead, which a backbone with a table of positions needs. `ignore` are ids of the label
PNGs that count nowhere, beside 255, such as 11 or 11+12.

Hardware and time: not measured. Paper: it has no such experiment. Measured: see docs/segmentation.md.
"""

from detr_jax import recipes
from detr_jax.data.config import segmentation_data
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

DEPTHS = {4: (2,), 8: (2, 2), 16: (2, 2, 2), 32: (2, 2, 2, 2)}  # of the backbone, by its stride
DILATED = {8: (2, 2, 2), 16: (2, 2, 2, 2)}  # of the small ResNet: a stage more, which sees further


def get_config(arg=None):
  a = config.arguments(
      arg, dataset='', train='train', validation='', test='test', window=(240, 320), size=0, ignore='',
      batch_size=8, steps=2_000, lr=2e-3, backbone='', stride=8, width=32, decoder='linear', slide=0,
      smoke=False)
  depths = one_of('stride', a.stride, DEPTHS)
  c = config.base()
  c.total_steps = a.steps
  c.task = dict(name='detr_jax.tasks.segmentation.Segmentation')
  own = recipes.stages(a.backbone, depths) if a.backbone else dict(
      norm='group', width=a.width, depths=DILATED.get(a.stride, depths), output_stride=max(a.stride, 8))
  c.model = dict(name=f'segmenter_s16_{a.decoder}', backbone=a.backbone or 'resnet18',
                 backbone_fields=own, decoder=a.decoder, decoder_heads=4)
  c.data = segmentation_data(a.dataset or 'digit_maps', a.batch_size, a.window)
  c.data.transforms = [dict(name='random_scale', size=a.size, low=.5, high=2.),
                       dict(name='window', size=a.window), dict(name='flip')]
  c.data.augment = [dict(name='color_jitter', brightness=.4, contrast=.4, saturation=.4)]
  c.data.inference.update(short_side=a.size, window=a.slide, stride=2 * a.slide // 3)
  c.data.ignore = tuple(int(n) for n in a.ignore.split('+') if n)
  if a.dataset:
    c.data.update(train=a.train, validation=a.validation, test=a.test)
  c.optimizer = dict(name='adamw', weight_decay=.05, clip_norm=1.)
  c.schedule = dict(name='cosine', peak=a.lr, warmup_steps=min(100, a.steps // 10))
  evaluate_and_save(c, times=10)
  if a.smoke:
    recipes.smoke_segmenter(c)
  return c
