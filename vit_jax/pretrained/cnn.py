"""The published checkpoints of RegNet and EfficientNet, DeiT's teacher among them; of ResNets with a
deep root and of HRNet, from which mmsegmentation's segmenters start.

Addresses and accuracies are those of torchvision's `models/regnet.py` and `models/efficientnet.py`, of
timm's `models/efficientnet.py`, of README_deit.md, of the README of Noisy Student (arXiv:1911.04252) and
of mmcv's list `open_mmlab.json`, which prints no accuracies.
A file's name ends in the first eight digits of its SHA-256.
"""

import dataclasses

from vit_jax import models
from vit_jax.pretrained.files import FACEBOOK, IMAGENET1K, TORCHVISION, Pretrained

OPENMMLAB = 'https://download.openmmlab.com/pretrain/third_party/'
TIMM = 'https://github.com/huggingface/pytorch-image-models/releases/download/v0.1-weights/'

REGNET = (  # torchvision's two recipes: checksum and accuracy of each
    ('x_400mf', ('adf1edd5', 72.834), ('62229a5f', 74.864)),
    ('x_800mf', ('ad17e45c', 75.212), ('94a99ebd', 77.522)),
    ('x_1_6gf', ('e3633e7f', 77.040), ('a12f2b72', 79.668)),
    ('x_3_2gf', ('f342aeae', 78.364), ('7071aa85', 81.196)),
    ('x_8gf', ('03ceed89', 79.344), ('2b70d774', 81.682)),
    ('x_16gf', ('2007eb11', 80.058), ('ba3796d7', 82.716)),
    ('x_32gf', ('9d47f8d0', 80.622), ('6eb8fdc6', 83.014)),
    ('y_400mf', ('c65dace8', 74.046), ('e6988f5f', 75.804)),
    ('y_800mf', ('1b27b58c', 76.420), ('58fc7688', 78.828)),
    ('y_1_6gf', ('b11a554e', 77.950), ('0d7bc02a', 80.876)),
    ('y_3_2gf', ('b5a9779c', 78.948), ('9180c971', 81.982)),
    ('y_8gf', ('d0d0e4a8', 80.032), ('dc2b1b54', 82.828)),
    ('y_16gf', ('9e6ed7dd', 80.424), ('3e4a00f9', 82.886)),
    ('y_32gf', ('4dee3f7a', 80.878), ('8db6d4b5', 83.368)))

EFFICIENTNET = (  # torchvision's: checksum, accuracy, side of the crop and of the image before
    ('b0', 'rwightman-7f5810bc', 77.692, 224, 256), ('b1', 'rwightman-bac287d4', 78.642, 240, 256),
    ('b2', 'rwightman-c35c1473', 80.608, 288, 288), ('b3', 'rwightman-b3899882', 82.008, 300, 320),
    ('b4', 'rwightman-23ab8bcd', 83.384, 380, 384), ('b5', 'lukemelas-1a07897c', 83.444, 456, 456),
    ('b6', 'lukemelas-24a108a5', 84.008, 528, 528), ('b7', 'lukemelas-c5b4e57e', 84.122, 600, 600))

NOISY_STUDENT = (  # timm's copies of the authors': checksum, accuracy
    ('b0', 'c0e6a31c', 78.8), ('b1', '99dd0c41', 81.5), ('b2', '00306e48', 82.4),
    ('b3', '9d44bf68', 84.1), ('b4', 'd6313a46', 85.3), ('b5', '6f26d0cf', 86.1),
    ('b6', '51548356', 86.4), ('b7', '1dbc32de', 86.9), ('l2', 'df73bb44', 88.4))


def _regnet() -> dict[str, Pretrained]:
  found = {}
  for size, *recipes in REGNET:
    for version, ((sha256, accuracy), ratio) in enumerate(zip(recipes, (224 / 256, 224 / 232)), 1):
      model = f'regnet{size}'
      rule = dataclasses.replace(models.variant(model).preprocessing, crop_ratio=ratio)
      found[f'{model}.imagenet1k_v{version}'] = Pretrained(
          model, f'{TORCHVISION}regnet_{size}-{sha256}.pth', IMAGENET1K, (224, 224), rule,
          'BSD-3-Clause', accuracy, 'torchvision, models/regnet.py', sha256)
  teacher = dataclasses.replace(models.variant('regnety_16gf').preprocessing, interpolation='bicubic')
  found['regnety_16gf.deit_teacher'] = Pretrained(
      'regnety_16gf', f'{FACEBOOK}regnety_160-a5fe301d.pth', IMAGENET1K, (224, 224), teacher,
      'Apache-2.0', 82.9, 'DeiT paper, table 2', 'a5fe301d')
  return found


def _efficientnet() -> dict[str, Pretrained]:
  found = {}
  for size, file, accuracy, side, before in EFFICIENTNET:
    model = f'efficientnet_{size}'
    rule = dataclasses.replace(models.variant(model).preprocessing, crop_ratio=side / before)
    found[f'{model}.imagenet1k_torchvision'] = Pretrained(
        model, f'{TORCHVISION}{model}_{file}.pth', IMAGENET1K, (side, side), rule, 'BSD-3-Clause',
        accuracy, 'torchvision, models/efficientnet.py', file.partition('-')[2])
  for size, sha256, accuracy in NOISY_STUDENT:
    model = f'efficientnet_{size}'
    variant = models.variant(model)
    found[f'{model}.noisy_student'] = Pretrained(
        model, f'{TIMM}tf_{model}_ns-{sha256}.pth', 'JFT-300M without labels, ImageNet-1k',
        variant.image_size, variant.preprocessing, 'Apache-2.0', accuracy, 'README of Noisy Student',
        sha256)
  return found


def _openmmlab() -> dict[str, Pretrained]:
  files = dict(resnet50_c='resnet50_v1c-2cccc1ad', resnet101_c='resnet101_v1c-e67eebb6',
               hrnet_w48='hrnetv2_w48-d2186c55')
  return {f'{model}.openmmlab': Pretrained(
      model, f'{OPENMMLAB}{file}.pth', IMAGENET1K, (224, 224), models.variant(model).preprocessing,
      'Apache-2.0', sha256=file.rpartition('-')[2]) for model, file in files.items()}


CNN: dict[str, Pretrained] = {**_regnet(), **_efficientnet(), **_openmmlab()}
