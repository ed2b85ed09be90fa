"""What `config.data` holds for detection."""

from collections.abc import Sequence

from ml_collections import ConfigDict

MEAN, STD = (.485, .456, .406), (.229, .224, .225)  # of ImageNet, as every published backbone wants


def detection_data(source: str, batch_size: int, canvases: Sequence[tuple[int, int]],
                   **options) -> ConfigDict:
  """Returns `config.data` for images with boxes: every key, with plain defaults.

  source: built-in name ('digit_scenes'), a folder with COCO's JSON, or the name of a TFDS data set under
  `data_dir`. train, test: splits, such as 'train2017', 'train[:90%]', 'val+test' or
  'FILE.json:IMAGES' (of panoptic data 'FILE.json:IMAGES:PNGS:INSTANCES.json', the last for AP).
  validation: split by which choices are made, '' for none. panoptic: whether to read panoptic
  annotations. masks: whether batches hold masks. segments: targets of panoptic training, 'annotated':
  without crowds, boxes of the annotations; 'published': as in the code of DETR's authors, crowds too,
  and boxes from the first to the last pixel of the masks. id_slots: 0 numbers the
  classes without gaps; n takes the category ids themselves for labels, of n (91: the published COCO
  weights). canvases, test_canvases: (height, width) of the arrays that images
  lie on; () for the same. max_boxes: box slots per image; 0: the largest number in a training image,
  rounded up to a multiple of 8. transforms, test_transforms: what the host does, see
  `detr_jax.data.transforms`. mean, std: of values in [0, 1]. on_error: 'raise', or 'skip' images that
  cannot be read and annotations that are wrong. outside: 'error' for boxes that reach far out of their
  image, or 'clip' to train on what lies inside. exif: 'upright' where boxes were drawn on images turned
  as their EXIF tag says, 'stored' where they were drawn on the pixels of the file.
  """
  data = ConfigDict(dict(
      source=source, data_dir='', train='train', validation='', test='test', panoptic=False, masks=False,
      segments='annotated', id_slots=0, batch_size=batch_size,
      canvases=tuple(map(tuple, canvases)), test_canvases=(), max_boxes=0, transforms=[],
      test_transforms=[], mean=MEAN, std=STD, on_error='raise', outside='error', exif='upright'))
  data.update(options)
  return data
