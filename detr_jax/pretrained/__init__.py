"""Published detectors by name: what is known of each, and the file in the cache.

    python -m vit_jax.pretrained 'detr*'
    python -m vit_jax.pretrained detr_r50.coco --fetch

Addresses, checksums (the first eight digits of a file's SHA-256), box AP and PQ are those of the
README and hubconf.py of facebookresearch/detr. No figure was measured with this code.
"""

import dataclasses
from collections.abc import Mapping

from detr_jax import models
from vit_jax import pretrained
from vit_jax.pretrained import Pretrained

FACEBOOK = 'https://dl.fbaipublicfiles.com/detr/'
COCO, PANOPTIC = 'COCO 2017', 'COCO 2017 panoptic'

# Model, checksum, box AP or PQ on val2017.
DETR = (
    ('detr_r50', 'e632da11', 42.0), ('detr_r50_dc5', 'f0fb7ef5', 43.3),
    ('detr_r101', '2c7b67e5', 43.5), ('detr_r101_dc5', 'a2e86def', 44.9),
    ('detr_r50_panoptic', '00ce5173', 43.4), ('detr_r50_dc5_panoptic', 'da08f1b1', 44.6),
    ('detr_r101_panoptic', '40021d53', 45.1))

# Things that are counted, then stuff. The files number their classes by these ids, with gaps.
THINGS = {
    1: 'person', 2: 'bicycle', 3: 'car', 4: 'motorcycle', 5: 'airplane', 6: 'bus', 7: 'train',
    8: 'truck', 9: 'boat', 10: 'traffic light', 11: 'fire hydrant', 13: 'stop sign',
    14: 'parking meter', 15: 'bench', 16: 'bird', 17: 'cat', 18: 'dog', 19: 'horse', 20: 'sheep',
    21: 'cow', 22: 'elephant', 23: 'bear', 24: 'zebra', 25: 'giraffe', 27: 'backpack', 28: 'umbrella',
    31: 'handbag', 32: 'tie', 33: 'suitcase', 34: 'frisbee', 35: 'skis', 36: 'snowboard',
    37: 'sports ball', 38: 'kite', 39: 'baseball bat', 40: 'baseball glove', 41: 'skateboard',
    42: 'surfboard', 43: 'tennis racket', 44: 'bottle', 46: 'wine glass', 47: 'cup', 48: 'fork',
    49: 'knife', 50: 'spoon', 51: 'bowl', 52: 'banana', 53: 'apple', 54: 'sandwich', 55: 'orange',
    56: 'broccoli', 57: 'carrot', 58: 'hot dog', 59: 'pizza', 60: 'donut', 61: 'cake', 62: 'chair',
    63: 'couch', 64: 'potted plant', 65: 'bed', 67: 'dining table', 70: 'toilet', 72: 'tv',
    73: 'laptop', 74: 'mouse', 75: 'remote', 76: 'keyboard', 77: 'cell phone', 78: 'microwave',
    79: 'oven', 80: 'toaster', 81: 'sink', 82: 'refrigerator', 84: 'book', 85: 'clock', 86: 'vase',
    87: 'scissors', 88: 'teddy bear', 89: 'hair drier', 90: 'toothbrush'}
STUFF = {
    92: 'banner', 93: 'blanket', 95: 'bridge', 100: 'cardboard', 107: 'counter', 109: 'curtain',
    112: 'door-stuff', 118: 'floor-wood', 119: 'flower', 122: 'fruit', 125: 'gravel', 128: 'house',
    130: 'light', 133: 'mirror-stuff', 138: 'net', 141: 'pillow', 144: 'platform', 145: 'playingfield',
    147: 'railroad', 148: 'river', 149: 'road', 151: 'roof', 154: 'sand', 155: 'sea', 156: 'shelf',
    159: 'snow', 161: 'stairs', 166: 'tent', 168: 'towel', 171: 'wall-brick', 175: 'wall-stone',
    176: 'wall-tile', 177: 'wall-wood', 178: 'water-other', 180: 'window-blind', 181: 'window-other',
    184: 'tree-merged', 185: 'fence-merged', 186: 'ceiling-merged', 187: 'sky-other-merged',
    188: 'cabinet-merged', 189: 'table-merged', 190: 'floor-other-merged', 191: 'pavement-merged',
    192: 'mountain-merged', 193: 'grass-merged', 194: 'dirt-merged', 195: 'paper-merged',
    196: 'food-other-merged', 197: 'building-other-merged', 198: 'rock-merged',
    199: 'wall-other-merged', 200: 'rug-merged'}


@dataclasses.dataclass(frozen=True)
class PretrainedDetector(Pretrained):
  """What is known of a published detector; `accuracy` is its `measure` on COCO's val2017."""

  @property
  def num_classes(self) -> int:
    """Number of classes of its head, with the gaps between them."""
    return models.variant(self.model).arguments['num_classes']

  @property
  def evaluation(self) -> str:
    """How an image is resized for it, in words."""
    return 'shorter side to 800 pixels, the longer at most 1333, bilinear'

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of its classes; 'no class 12' for the gaps."""
    names = {**THINGS, **(STUFF if self.data == PANOPTIC else {})}
    return tuple(names.get(i, f'no class {i}') for i in range(self.num_classes))

  @property
  def is_thing(self) -> tuple[bool, ...]:
    """Of each class whether its objects are counted; () where all are."""
    return tuple(i not in STUFF for i in range(self.num_classes)) if self.data == PANOPTIC else ()


def _published() -> dict[str, PretrainedDetector]:
  found = {}
  for model, sha256, measured in DETR:
    variant, panoptic = models.variant(model), model.endswith('panoptic')
    name = model.replace('detr_', 'detr-').replace('_', '-')
    found[f'{model}.coco'] = PretrainedDetector(
        model, f'{FACEBOOK}{name}-{sha256}.pth', PANOPTIC if panoptic else COCO, variant.image_size,
        variant.preprocessing, 'Apache-2.0', measured, 'README of facebookresearch/detr', sha256,
        measure='PQ' if panoptic else 'box AP')
  return found


DETECTORS: Mapping[str, PretrainedDetector] = _published()


def list_pretrained(pattern: str = '*') -> dict[str, Pretrained]:
  """Returns {name: what is known of it} of the published detectors that fit a shell pattern."""
  return pretrained.list_pretrained(pattern, DETECTORS)
