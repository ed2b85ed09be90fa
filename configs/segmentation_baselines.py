"""Train the systems that Segmenter and Swin are compared with on ADE20K, as mmsegmentation does.

    python -m vit_jax.main --workdir=runs/setr_l16_mla \\
        --config=configs/segmentation_baselines.py:model=setr_l16_mla,dataset=PATH

SETR (arXiv:2012.15840), DeepLabv3+ (arXiv:1802.02611), OCRNet (arXiv:1909.11065) and UperNet
(arXiv:1807.10221) on ResNet-101. dataset=PATH is a folder with images/SPLIT, annotations/SPLIT and
classes.txt, see docs/segmentation.md; id 0 counts nowhere. Images are resized by a factor from .5 to 2
about a short side of 512 pixels, windows of 512x512 are cut, flipped, and their colours changed. SGD
with momentum .9 for 160,000 steps of 16 images, a polynomial decay of power .9 to 1e-4: from .01 with
weight decay 5e-4, of SETR from .001 without, ten times as fast in the heads. The mean of the loss counts
ignored pixels. Windows of 512 every 341 pixels slide over SETR's test images; the others see them whole.
`multiscale` evaluates at six scales and mirrored.

init_from is a classifier for the backbone: resnet101_c, hrnet_w48 and ViT-L/16 have published ones; or
any other file.

Arguments: model (deeplabv3plus_r101, ocrnet_r101, ocrnet_hrnet_w48, upernet_r101, setr_l16_naive,
setr_l16_pup, setr_l16_mla), dataset, init_from, multiscale, steps and batch_size (0: the recipe's),
smoke (on digit maps).

Hardware and time: not measured. mmsegmentation: DeepLabv3+ R101 45.47 mIoU, OCRNet HRNet-W48 43.25,
SETR-MLA 47.34 at batch 8. Measured: not measured.
"""

from detr_jax import recipes
from detr_jax.data.config import segmentation_data
from detr_jax.models import pixels
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

SIDE, STRIDE = 512, 341
INITIAL = dict(resnet101_c='resnet101_c.openmmlab', hrnet_w48='hrnet_w48.openmmlab',
               vit_l16='vit_l16.imagenet21k_imagenet1k_384')
MODELS = {name: pixels.variant(name).arguments for name in (
    'deeplabv3plus_r101', 'ocrnet_r101', 'ocrnet_hrnet_w48', 'upernet_r101', 'setr_l16_naive',
    'setr_l16_pup', 'setr_l16_mla')}
# What lies in SETR's decode_head and auxiliary_head; MLA's neck does not.
HEADS = r'auxiliary.*|decode/(?!norm_|project_|extract_).*'


def get_config(arg=None):
  a = config.arguments(arg, model='deeplabv3plus_r101', dataset='', init_from='', multiscale=False,
                       steps=0, batch_size=0, smoke=False)
  own, variant, setr = one_of('model', a.model, MODELS), pixels.variant(a.model), 'setr' in a.model
  c = config.base()
  c.total_steps = a.steps or 160_000
  c.task = dict(name='detr_jax.tasks.segmentation.Segmentation', auxiliary=.4, count_ignored=True)
  c.model = dict(name=a.model, backbone_fields=dict(own['backbone_fields']))
  c.data = segmentation_data(a.dataset or 'ade20k', a.batch_size or 16, (SIDE, SIDE))
  c.data.update(train='training', test='validation', zero_ignored=True,
                mean=variant.preprocessing.mean, std=variant.preprocessing.std)
  recipes.published_views(c.data, SIDE, 4 * SIDE, SIDE, a.multiscale)
  if setr:
    c.data.inference.update(window=SIDE, stride=STRIDE)
  c.optimizer = dict(name='sgd', momentum=.9, weight_decay=0. if setr else 5e-4, decay=('.*',))
  if setr:
    c.optimizer.rate_factors = ((HEADS, 10.),)
  c.schedule = dict(name='polynomial', power=.9, form='mmcv', peak=1e-3 if setr else 1e-2, end=1e-4)
  c.init_from = '' if a.smoke else a.init_from or INITIAL[own['backbone']]
  evaluate_and_save(c, times=10)
  if a.smoke:
    recipes.smoke_published_segmenter(c)
  return c
