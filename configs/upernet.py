"""Train UperNet over Swin on ADE20K (Swin transformer, arXiv:2103.14030, table 3, and its code).

    python -m vit_jax.main --workdir=runs/upernet_swin_t \\
        --config=configs/upernet.py:model=upernet_swin_t,dataset=PATH

dataset=PATH is a folder with images/SPLIT, annotations/SPLIT and classes.txt, see docs/segmentation.md;
id 0 teaches nothing, but counts in the mean of the loss. AdamW at 6e-5 for 160,000 steps of 16 images,
1,500 of them of warm-up, then a straight line to 0; weight decay .01, but for norms of the backbone and
its biases of positions. Windows of 512x512 pixels, of 640x640 for the backbones pre-trained on
ImageNet-22k (B and L). Whole images are evaluated; the table's numbers are `multiscale`, at six scales
and mirrored.

init_from is the authors' classifier: T and S of ImageNet-1k, B and L of ImageNet-22k; or any other file.

Arguments: model, data (ade20k), dataset, init_from, multiscale, steps and batch_size (0: the recipe's),
smoke (on digit maps).

Hardware and time: not measured. Paper: Swin-T 46.1, S 49.3, B 51.6, L 53.5 mIoU with several scales.
Measured: not measured.
"""

from detr_jax import recipes
from detr_jax.data.config import segmentation_data
from detr_jax.models import pixels
from vit_jax import config
from vit_jax.recipes import evaluate_and_save

INITIAL = dict(swin_t='swin_t.imagenet1k', swin_s='swin_s.imagenet1k', swin_b='swin_b.imagenet22k',
               swin_l='swin_l.imagenet22k')
LARGE = ('swin_b', 'swin_l')  # trained on windows of 640


def get_config(arg=None):
  a = config.arguments(arg, model='upernet_swin_t', data='ade20k', dataset='', init_from='',
                       multiscale=False, steps=0, batch_size=0, smoke=False)
  variant, c = pixels.variant(a.model), config.base()
  backbone = variant.arguments['backbone']
  side = 640 if backbone in LARGE else 512
  c.total_steps = a.steps or 160_000
  c.task = dict(name='detr_jax.tasks.segmentation.Segmentation', auxiliary=.4, count_ignored=True)
  c.model = dict(name=a.model, backbone_fields=dict(variant.arguments['backbone_fields']))
  c.data = segmentation_data(a.dataset or a.data, a.batch_size or 16, (side, side))
  c.data.update(train='training', test='validation', zero_ignored=True,
                mean=variant.preprocessing.mean, std=variant.preprocessing.std)
  recipes.published_views(c.data, side, 4 * side, side, a.multiscale)
  c.optimizer = dict(name='adamw', weight_decay=.01,
                     decay=(r'(?!backbone/(.*norm|.*position)).*',))
  c.schedule = dict(name='polynomial', power=1., form='mmcv', peak=6e-5, end=0., warmup_steps=1_500,
                    warmup_from=6e-11)
  c.init_from = '' if a.smoke else a.init_from or INITIAL[backbone]
  evaluate_and_save(c, times=10)
  if a.smoke:
    recipes.smoke_published_segmenter(c)
  return c
