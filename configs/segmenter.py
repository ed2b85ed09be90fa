"""Train Segmenter on ADE20K, Pascal Context or Cityscapes (arXiv:2105.05633, section 4 and its code).

    python -m vit_jax.main --workdir=runs/segmenter_s16_mask \\
        --config=configs/segmenter.py:model=segmenter_s16_mask,data=ade20k,dataset=PATH

dataset=PATH is a folder with images/SPLIT, annotations/SPLIT and classes.txt, see docs/segmentation.md;
of ADE20K, id 0 counts nowhere. SGD with Nesterov momentum .9, no weight decay, a polynomial decay of
power .9 to 1e-5. Images are resized by a factor from .5 to 2 about the published short side, windows are
cut in which no class has more than three quarters, flipped, and their colours changed (photometric
distortion, as the code does it). Windows slide over test images; multi-scale numbers are `multiscale`,
at six scales and mirrored. examples=4000 takes the first so many training images (table 5);
resolution=640 is table 6's of Seg-L-Mask.

init_from is the ViT fine-tuned at 384 pixels by AugReg's authors, of segmenter_b16_deit_* DeiT's, or
any other file or run. The decoder starts anew. There is no published B/8 at 384 pixels; give one of
your own.

Arguments: model, data (ade20k, context, cityscapes), dataset, init_from, examples, resolution,
multiscale, epochs and batch_size (0: the recipe's), smoke (on digit maps).

Hardware and time: not measured. Paper: Seg-S/16 with the linear decoder 45.37 mIoU on ADE20K.
Measured: not measured.
"""

from detr_jax import recipes
from detr_jax.data.config import segmentation_data
from detr_jax.models import pixels
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

# epochs, batch, rate, short side, its bound, window, stride; splits (the code's table of data sets).
RECIPES = dict(
    ade20k=(64, 8, 1e-3, 512, 2048, 512, 512, 'training', 'validation'),
    context=(256, 16, 1e-3, 520, 2080, 480, 320, 'train', 'val'),
    cityscapes=(216, 8, 1e-2, 1024, 2048, 768, 512, 'train', 'val'))


def initial(model: str) -> str:
  """Returns the published classifier that a model starts from; '' where there is none."""
  backbone = pixels.variant(model).arguments['backbone']
  if backbone.startswith('deit'):
    return f'{backbone}_384.imagenet1k'
  return '' if backbone == 'vit_b8' else f'{backbone}.augreg_imagenet21k_imagenet1k_384'


def get_config(arg=None):
  a = config.arguments(
      arg, model='segmenter_s16_mask', data='ade20k', dataset='', init_from='', examples=0, resolution=0,
      multiscale=False, epochs=0., batch_size=0, smoke=False)
  epochs, batch, rate, side, bound, window, stride, train, test = one_of('data', a.data, RECIPES)
  if a.resolution:
    side, bound, window, stride = a.resolution, 4 * a.resolution, a.resolution, a.resolution
  variant, c = pixels.variant(a.model), config.base()
  c.total_epochs = a.epochs or float(epochs)
  c.task = dict(name='detr_jax.tasks.segmentation.Segmentation')
  c.model = dict(name=a.model, backbone_fields=dict(variant.arguments['backbone_fields']))
  c.data = segmentation_data(a.dataset or a.data, a.batch_size or batch, (window, window))
  c.data.update(train=f'{train}[:{a.examples}]' if a.examples else train, test=test,
                zero_ignored=a.data == 'ade20k', mean=variant.preprocessing.mean,
                std=variant.preprocessing.std)
  recipes.published_views(c.data, side, bound, window, a.multiscale)
  c.data.inference.update(window=window, stride=stride)
  c.optimizer = dict(name='sgd', momentum=.9, nesterov=True)
  c.schedule = dict(name='polynomial', power=.9, form='segmenter', peak=rate, end=1e-5, warmup_from=1e-5)
  c.init_from = '' if a.smoke else a.init_from or initial(a.model)
  evaluate_and_save(c, times=8)
  if a.smoke:
    recipes.smoke_published_segmenter(c)
  return c
