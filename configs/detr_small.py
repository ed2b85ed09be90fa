"""A detector for small data sets of one's own, from scratch, without any weights.

    python -m vit_jax.main --workdir=runs/mine \\
        --config=configs/detr_small.py:dataset=PATH,test=val+test,resolution=120x160

A folder with annotations in COCO's form, see docs/detection.md. DETR as published learns next to nothing
from a few hundred images; anchors as queries with iterative refinement (DAB-DETR, arXiv:2201.12329) and
the focal loss do, on a small ResNet with group norm. `backbone` names another network of `vit_jax` with
stages, such as swin_t, convnext_t or nat_mini: `stride` tells how many of them are kept, in their
published depth and width. `resolution` (height x width) is the canvas that
images are shrunk to fit; portrait images lie on the same canvas turned upright. `stride` is that of the
map the transformer reads; `steps` and `batch_size` as the data needs; `validation` names the split by
which the best step is chosen. `queries=learned,focal=false` is the paper's recipe; `denoising=2` adds
denoising queries (DN-DETR, arXiv:2203.01305).

Hardware and time: one core of an AMD EPYC, 15 minutes of CPU time for the 2,500 steps.
Paper: it has no such experiment. Measured on 205 images of blood cells, with `denoising=2` and
`vertical_flip`: AP 38.3, AP50 65.8 (docs/detection.md).
"""

from detr_jax import recipes
from detr_jax.data.config import detection_data
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

DEPTHS = {4: (1,), 8: (1, 2), 16: (1, 2, 2), 32: (1, 2, 2, 2)}  # of the backbone, by its stride


def get_config(arg=None):
  a = config.arguments(
      arg, dataset='', train='train', validation='', test='test', resolution=(120, 160), batch_size=8,
      steps=2_500, lr=4e-4, backbone='', num_queries=60, queries='anchors', focal=True, denoising=0,
      vertical_flip=False, augment=True, stride=8, width=96, smoke=False)
  depths = one_of('stride', a.stride, DEPTHS)
  c = config.base()
  c.total_steps = a.steps
  c.task = dict(name='detr_jax.tasks.detection.Detection', cost_class=2. if a.focal else 1.)
  own = recipes.stages(a.backbone, depths) if a.backbone else dict(norm='group', width=32, depths=depths)
  c.model = dict(
      name='detr_r50', backbone=a.backbone or 'resnet18', backbone_fields=own,
      width=a.width, num_heads=4, mlp_dim=2 * a.width, encoder_layers=1, decoder_layers=3,
      dropout_rate=0., num_queries=a.num_queries, temperature=20., queries=a.queries,
      denoising=a.denoising, classifier='sigmoid' if a.focal else 'softmax')
  canvases = dict.fromkeys((a.resolution, a.resolution[::-1]))  # landscape and portrait; one if square
  c.data = detection_data(a.dataset or 'digit_scenes', a.batch_size, list(canvases))
  fit = dict(name='resize', size=min(a.resolution), max_size=max(a.resolution))
  c.data.test_transforms = [fit]
  if a.augment:
    c.data.transforms = [dict(name='flip', vertical=.5 * a.vertical_flip),
                         dict(name='random_crop', min_share=.6, probability=.5, visible=.3)]
  c.data.transforms.append(fit)
  if a.dataset:
    c.data.update(train=a.train, validation=a.validation, test=a.test)
  c.optimizer = dict(name='adamw', weight_decay=1e-4, clip_norm=.1)
  c.schedule = dict(name='cosine', peak=a.lr, warmup_steps=100)
  evaluate_and_save(c, times=10)
  if a.smoke:
    recipes.smoke(c)
  return c
