"""What `config.data` holds for detection."""

from collections.abc import Sequence

from ml_collections import ConfigDict

from vit_jax.config import tree
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# {key: (default, what it is)}; `docs/config.md` is made of this table.
DETECTION_DATA = {
    'source': ('', "built-in name ('digit_scenes'), a folder with COCO's JSON, VOC's XML or YOLO's "
               'text, or the name of a TFDS data set'),
    'data_dir': ('', 'where TFDS keeps its data'),
    'train': ('train', "training split, such as 'train2017', 'train[:90%]', 'val+test' or "
              "'FILE.json:IMAGES' (panoptic: 'FILE.json:IMAGES:PNGS:INSTANCES.json', the last for AP)"),
    'validation': ('', "split by which choices are made; '': none"),
    'test': ('test', 'test split'),
    'panoptic': (False, 'whether to read panoptic annotations'),
    'masks': (False, 'whether batches hold masks'),
    'segments': ('annotated', "targets of panoptic training: 'annotated', without crowds, boxes of "
                 "the annotations; 'published', as in the code of DETR's authors, crowds too, and boxes "
                 'from the first to the last pixel of the masks'),
    'id_slots': (0, '0 numbers the classes without gaps; n takes the category ids themselves for '
                 'labels, of n (91: the published COCO weights)'),
    'batch_size': (1, 'images of a step, on all devices together'),
    'canvases': ((), '(height, width) of the arrays that training images lie on'),
    'test_canvases': ((), 'the same of evaluated images; (): as canvases'),
    'max_boxes': (0, 'box slots per image; 0: the largest number in a training image, rounded up to a '
                  'multiple of 8'),
    'transforms': ([], 'what the host does to training images, see detr_jax.data.transforms'),
    'test_transforms': ([], 'what it does to evaluated images'),
    'augment': ([], 'colour operations on the device, such as dict(name="color_jitter")'),
    'mean': (IMAGENET_MEAN, 'per channel, of values in [0, 1]'),
    'std': (IMAGENET_STD, 'standard deviation, likewise'),
    'on_error': ('raise', "'raise', or 'skip' images that cannot be read and annotations that are "
                 'wrong'),
    'outside': ('error', "'error' for boxes that reach far out of their image, or 'clip' to train on "
                'what lies inside'),
    'exif': ('upright', "'upright' where boxes were drawn on images turned as their EXIF tag says, "
             "'stored' where they were drawn on the pixels of the file"),
}


# Keys that segmentation shares have the same words; `docs/config.md` is made of this table.
SEGMENTATION_DATA = {
    'source': ('', "built-in name ('digit_maps'), a folder with images and label PNGs, or a TFDS name "
               "such as 'scene_parse150'"),
    'data_dir': ('', 'where TFDS keeps its data'),
    'num_classes': (0, 'of a TFDS data set; a folder tells its own'),
    'train': ('train', "training split, such as 'train', 'train[:90%]', 'train+val'"),
    'validation': ('', "split by which choices are made; '': none"),
    'test': ('test', 'test split'),
    'zero_ignored': (False, 'whether id 0 counts nowhere and the classes begin with 1, as in ADE20K'),
    'ignore': ((), 'ids of the label PNGs that count nowhere, beside 255'),
    'batch_size': (1, 'images of a step, on all devices together'),
    'window': ((512, 512), '(height, width) of the arrays that training images lie on'),
    'transforms': ([], 'what the host does to training images, see detr_jax.data.transforms'),
    'augment': ([], 'colour operations on the device, such as dict(name="color_jitter")'),
    'inference': ({'short_side': 0, 'max_size': 0, 'window': 0, 'stride': 0, 'scales': (),
                   'flip': False}, 'how images of any size are segmented, see detr_jax.ops.windows'),
    'mean': (IMAGENET_MEAN, 'per channel, of values in [0, 1]'),
    'std': (IMAGENET_STD, 'standard deviation, likewise'),
    'on_error': ('raise', "'raise', or 'skip' images that cannot be read"),
}


def segmentation_data(source: str, batch_size: int, window: tuple[int, int], **options) -> ConfigDict:
  """Returns `config.data` for images with label maps: every key of `SEGMENTATION_DATA`.

  Args:
    source, batch_size, window: as in the table.
    **options: other keys.
  """
  return tree(SEGMENTATION_DATA, source=source, batch_size=batch_size, window=tuple(window), **options)


def detection_data(source: str, batch_size: int, canvases: Sequence[tuple[int, int]],
                   **options) -> ConfigDict:
  """Returns `config.data` for images with boxes: every key of `DETECTION_DATA`, with plain defaults.

  Args:
    source, batch_size: as in the table.
    canvases: (height, width) pairs.
    **options: other keys.
  """
  return tree(DETECTION_DATA, source=source, batch_size=batch_size,
              canvases=tuple(map(tuple, canvases)), **options)
