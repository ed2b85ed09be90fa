"""The list of published checkpoints, as data.

Addresses, accuracies and checksums are those that the publishers print: in the README files of
google-research/vision_transformer and google-research/big_transfer, README_deit.md and
README_revenge.md of facebookresearch/deit, and torchvision's `models/resnet.py`. Facebook and
torchvision name a file by the first eight digits of its SHA-256; Google prints none. What was not
found is None.
"""

import dataclasses
import functools
import os

from vit_jax import models
from vit_jax.models.variant import Preprocessing

VIT = 'https://storage.googleapis.com/vit_models/'
BIT = 'https://storage.googleapis.com/bit_models/'
MIXER = 'https://storage.googleapis.com/mixer_models/'
FACEBOOK = 'https://dl.fbaipublicfiles.com/deit/'
TORCHVISION = 'https://download.pytorch.org/models/'
CIFAR = 'https://github.com/akamaster/pytorch_resnet_cifar10/raw/master/pretrained_models/'

IMAGENET1K, IMAGENET21K = 'ImageNet-1k', 'ImageNet-21k'
IMAGENET22K = 'ImageNet-22k'  # the same images, by PyTorch codes' list of classes
BOTH = 'ImageNet-21k, then ImageNet-1k'
NUM_CLASSES = {IMAGENET1K: 1000, IMAGENET21K: 21_843, IMAGENET22K: 21_841, BOTH: 1000,
               'JFT-300M without labels, ImageNet-1k': 1000,
               'CIFAR-10': 10}


CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


@functools.cache
def imagenet1k() -> tuple[str, ...]:
  """Returns the names of ImageNet-1k's classes (WordNet's first word for each), in the usual order."""
  with open(os.path.join(os.path.dirname(__file__), 'imagenet1k.txt'), encoding='utf-8') as file:
    return tuple(file.read().splitlines())


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """What is known of a published checkpoint.

  Attributes:
    model: name of the model that it belongs to.
    url: of the file.
    data: what it was trained on.
    image_size: (height, width) in pixels at which it was trained last and is to be evaluated.
    preprocessing: mean, standard deviation, crop rule and interpolation of its images.
    licence: of the repository that publishes it.
    accuracy: published `measure` in percent on the validation images of ImageNet-1k, or on CIFAR-10's
      test images; None: none was found. No figure was measured with this code.
    accuracy_source: where that figure stands, and whether it is of this file; '' without one.
    sha256: of the file, or its first digits; None: not published.
    resampling: rule by which its authors resample the position table, one of
      `layers.positions.RESAMPLING`; None: that of the format its names are in.
    measure: what `accuracy` is.
  """
  model: str
  url: str
  data: str
  image_size: tuple[int, int]
  preprocessing: Preprocessing
  licence: str
  accuracy: float | None = None
  accuracy_source: str = ''
  sha256: str | None = None
  resampling: str | None = None
  measure: str = 'top-1'

  @property
  def num_classes(self) -> int:
    """Number of classes of its head."""
    return NUM_CLASSES[self.data]

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of its classes, in the order of its head; () where they are not known here."""
    return imagenet1k() if self.num_classes == 1000 else CIFAR10 if self.num_classes == 10 else ()

  @property
  def evaluation(self) -> str:
    """How an image is cut and resized for it, in words."""
    rule = self.preprocessing
    of = f' of {rule.crop_ratio:.3f}' if rule.crop == 'center' else ''
    return f'{rule.crop}{of}, {rule.interpolation}'


def _google(model: str, path: str, data: str, size: int = 224, accuracy: float | None = None,
            source: str = '') -> Pretrained:
  # big_vision: the shorter side to 256 for 224 pixels, to 448 for 384, then the centre.
  rule = dataclasses.replace(models.variant(model).preprocessing,
                             crop_ratio=384. / 448. if size == 384 else .875)
  return Pretrained(model, VIT + path, data, (size, size), rule, 'Apache-2.0', accuracy, source)


def _vit() -> dict[str, Pretrained]:
  """The files of the ViT paper, and two trained with sharpness-aware minimisation."""
  table5 = 'ViT paper, table 5: of the recipe; not said to be of this file'
  suffix = 'README of vision_transformer, as expected'
  found = {}
  for model, file, accuracy in (
      ('vit_b16', 'ViT-B_16', 83.97), ('vit_b32', 'ViT-B_32', 81.28), ('vit_l16', 'ViT-L_16', 85.15),
      ('vit_l32', 'ViT-L_32', 80.99), ('r50_b16', 'R50%2BViT-B_16', None),
      ('vit_h14', 'ViT-H_14', None)):
    found[f'{model}.imagenet21k'] = _google(model, f'imagenet21k/{file}.npz', IMAGENET21K)
    if model != 'vit_h14':
      found[f'{model}.imagenet21k_imagenet1k_384'] = _google(
          model, f'imagenet21k%2Bimagenet2012/{file}.npz', BOTH, 384, accuracy,
          table5 if accuracy else '')
  for model, file, accuracy in (('vit_b16', 'ViT-B_16', 81.2), ('vit_l16', 'ViT-L_16', 82.7)):
    found[f'{model}.imagenet21k_imagenet1k'] = _google(
        model, f'imagenet21k%2Bimagenet2012/{file}-224.npz', BOTH, 224, accuracy, suffix)
  for model, file in (('vit_b16', 'ViT-B_16'), ('vit_b32', 'ViT-B_32')):
    found[f'{model}.sam_imagenet1k'] = _google(model, f'sam/{file}.npz', IMAGENET1K)
  return found


# The files that AugReg's authors recommend: best on their validation images while pre-training.
AUGREG = (
    ('vit_l16', 'L_16', 'strong1-wd_0.1-do_0.0-sd_0.0', '0.01', 85.59),
    ('vit_b16', 'B_16', 'medium1-wd_0.1-do_0.0-sd_0.0', '0.03', 85.49),
    ('vit_s16', 'S_16', 'light1-wd_0.03-do_0.0-sd_0.0', '0.03', 83.73),
    ('r50_l32', 'R50_L_32', 'medium1-wd_0.1-do_0.1-sd_0.1', '0.01', 85.99),
    ('r26_s32', 'R26_S_32', 'light1-wd_0.1-do_0.0-sd_0.0', '0.01', 83.85),
    ('vit_ti16', 'Ti_16', 'none-wd_0.03-do_0.0-sd_0.0', '0.03', 78.22),
    ('vit_b32', 'B_32', 'light1-wd_0.1-do_0.0-sd_0.0', '0.01', 83.59),
    ('vit_s32', 'S_32', 'none-wd_0.1-do_0.0-sd_0.0', '0.01', 79.58),
    ('r_ti16', 'R_Ti_16', 'none-wd_0.03-do_0.0-sd_0.0', '0.03', 75.40))


def _augreg() -> dict[str, Pretrained]:
  source, found = 'README of vision_transformer', {}
  for model, file, recipe, rate, accuracy in AUGREG:
    path = f'augreg/{file}-i21k-300ep-lr_0.001-aug_{recipe}'
    found[f'{model}.augreg_imagenet21k'] = _google(model, path + '.npz', IMAGENET21K)
    found[f'{model}.augreg_imagenet21k_imagenet1k_384'] = _google(
        model, f'{path}--imagenet2012-steps_20k-lr_{rate}-res_384.npz', BOTH, 384, accuracy, source)
  path = 'augreg/B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0'
  found['vit_b8.augreg_imagenet21k'] = _google('vit_b8', path + '.npz', IMAGENET21K)
  found['vit_b8.augreg_imagenet21k_imagenet1k'] = _google(
      'vit_b8', path + '--imagenet2012-steps_20k-lr_0.01-res_224.npz', BOTH)
  return found


def _bit() -> dict[str, Pretrained]:
  """BiT-S (ImageNet-1k), BiT-M (ImageNet-21k), BiT-M fine-tuned at 480 pixels, and a distilled one."""
  found = {}

  def add(name, file, data, size=224, accuracy=None, source='', **rule):
    model = name.partition('.')[0]
    rule = dataclasses.replace(models.variant(model).preprocessing, **rule)
    found[name] = Pretrained(model, f'{BIT}{file}.npz', data, (size, size), rule, 'Apache-2.0', accuracy,
                             source)

  for size in ('R50x1', 'R101x1', 'R50x3', 'R101x3', 'R152x2', 'R152x4'):
    model = 'bit_' + size.lower()
    if size != 'R152x2':  # added after the paper, pre-trained on ImageNet-21k
      add(f'{model}.imagenet1k', f'BiT-S-{size}', IMAGENET1K)
    add(f'{model}.imagenet21k', f'BiT-M-{size}', IMAGENET21K)
    add(f'{model}.imagenet21k_imagenet1k_480', f'BiT-M-{size}-ILSVRC2012', BOTH, 480)
  add('bit_r50x1.distilled_imagenet1k', 'distill/R50x1_224', IMAGENET1K, 224, 82.8,
      'README of big_transfer', crop='center', crop_ratio=.875)
  return found


def _mixer() -> dict[str, Pretrained]:
  return {f'mixer_{model}.{folder}': Pretrained(
      f'mixer_{model}', f'{MIXER}{folder}/Mixer-{file}.npz', data, (224, 224),
      models.variant(f'mixer_{model}').preprocessing, 'Apache-2.0')
      for model, file in (('b16', 'B_16'), ('l16', 'L_16'))
      for folder, data in (('imagenet1k', IMAGENET1K), ('imagenet21k', IMAGENET21K))}


def _facebook(model: str, file: str, data: str, accuracy: float | None, source: str,
              sha256: str | None = None) -> Pretrained:
  variant = models.variant(model)
  return Pretrained(model, f'{FACEBOOK}{file}.pth', data, variant.image_size, variant.preprocessing,
                    'Apache-2.0', accuracy, source if accuracy else '', sha256, 'bicubic')


DEIT = (  # model, file, checksum, accuracy
    ('deit_ti16', 'tiny_patch16_224', 'a1311bcf', 72.202),
    ('deit_s16', 'small_patch16_224', 'cd65a155', 79.854),
    ('deit_b16', 'base_patch16_224', 'b5f2ef4d', 81.846),
    ('deit_ti16_distilled', 'tiny_distilled_patch16_224', 'b40b3cf7', 74.476),
    ('deit_s16_distilled', 'small_distilled_patch16_224', '649709d9', 81.164),
    ('deit_b16_distilled', 'base_distilled_patch16_224', 'df68dfff', 83.372),
    ('deit_b16_384', 'base_patch16_384', '8de9b5d1', 82.890),
    ('deit_b16_distilled_384', 'base_distilled_patch16_384', 'd0272ac0', 85.224))

DEIT3 = (  # model, file, accuracy from ImageNet-1k and from ImageNet-21k
    ('deit3_s16', 'small_224', 81.4, 83.1), ('deit3_s16_384', 'small_384', 83.4, 84.8),
    ('deit3_m16', 'medium_224', None, None),
    ('deit3_b16', 'base_224', 83.8, 85.7), ('deit3_b16_384', 'base_384', 85.0, 86.7),
    ('deit3_l16', 'large_224', 84.9, 87.0), ('deit3_l16_384', 'large_384', 85.8, 87.7),
    ('deit3_h14', 'huge_224', 85.2, 87.2))


def _deit() -> dict[str, Pretrained]:
  found = {f'{model}.imagenet1k': _facebook(model, f'deit_{file}-{sha256}', IMAGENET1K, accuracy,
                                            'README_deit.md', sha256)
           for model, file, sha256, accuracy in DEIT}
  for model, file, first, second in DEIT3:
    old = 'README_revenge.md'
    found[f'{model}.imagenet1k'] = _facebook(model, f'deit_3_{file}_1k', IMAGENET1K, first, old)
    version = '_v1' if model == 'deit3_h14' else ''
    found[f'{model}.imagenet21k_imagenet1k'] = _facebook(
        model, f'deit_3_{file}_21k{version}', BOTH, second, old)
  return found


RESNET = (  # torchvision's two recipes: checksum and accuracy of each
    ('resnet18', ('f37072fd', 69.758), None), ('resnet34', ('b627a593', 73.314), None),
    ('resnet50', ('0676ba61', 76.130), ('11ad3fa6', 80.858)),
    ('resnet101', ('63fe2227', 77.374), ('cd907fc2', 81.886)),
    ('resnet152', ('394f9c45', 78.312), ('f82ba261', 82.284)))

SMALL_RESNET = (  # best accuracy that the file itself keeps; of the other two the file was not at hand
    ('resnet20', '12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8', 91.78),
    ('resnet32', 'd509ac18', None), ('resnet44', '014dd654', None),
    ('resnet56', '4bfd97631478d6b638d2764fd2baff3edb1d7d82252d54439343b6596b9b5367', 93.62))


def _resnet() -> dict[str, Pretrained]:
  found = {}
  for model, *recipes in RESNET:
    for version, (recipe, ratio) in enumerate(zip(recipes, (224. / 256., 224. / 232.)), 1):
      if recipe is None:
        continue
      rule = dataclasses.replace(models.variant(model).preprocessing, crop_ratio=ratio)
      found[f'{model}.imagenet1k_v{version}'] = Pretrained(
          model, f'{TORCHVISION}{model}-{recipe[0]}.pth', IMAGENET1K, (224, 224), rule, 'BSD-3-Clause',
          recipe[1], 'torchvision, models/resnet.py', recipe[0])
  for name, sha256, accuracy in SMALL_RESNET:
    model = f'{name}_cifar'
    found[f'{model}.cifar10'] = Pretrained(
        model, f'{CIFAR}{name}-{sha256[:8]}.th', 'CIFAR-10', (32, 32),
        models.variant(model).preprocessing, 'BSD-2-Clause', accuracy,
        'best_prec1 in the file' if accuracy else '', sha256)
  return found


PRETRAINED: dict[str, Pretrained] = {**_vit(), **_augreg(), **_bit(), **_mixer(), **_deit(), **_resnet()}
