"""One program of `benchmarks.input_rate`: `python -m benchmarks.input_side KIND FOLDER`."""

import glob
import io
import math
import os
import sys
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from benchmarks.sides import serve

BATCH, SIZE = 32, 224


def files(folder: str) -> list[str]:
  return sorted(glob.glob(os.path.join(folder, 'train', '*', '*')))


def window(rng, width: int, height: int) -> tuple[int, int, int, int]:
  """Draws the (left, top, right, bottom) of a random resized crop: 8 to 100 % of the area."""
  for _ in range(10):
    area = rng.uniform(.08, 1.) * width * height
    aspect = math.exp(rng.uniform(-1., 1.) * math.log(4. / 3.))
    w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
    if w <= width and h <= height:
      left, top = rng.integers(width - w + 1), rng.integers(height - h + 1)
      return int(left), int(top), int(left) + w, int(top) + h
  return 0, 0, width, height


def reference(content: bytes, box) -> np.ndarray:
  """Returns the window by Pillow's antialiased bilinear filter in float."""
  pixels = np.asarray(Image.open(io.BytesIO(content)).convert('RGB').crop(box), np.float32)
  planes = [Image.fromarray(pixels[..., c]).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            for c in range(3)]
  return np.stack([np.asarray(plane) for plane in planes], -1)


def ours(folder: str) -> tuple[Callable, Iterator]:
  """Our pipeline; the flip happens on the device, in the train step."""
  import jax
  from vit_jax import compilation, config, sharding
  from vit_jax.data import images, pipeline
  compilation.keep_freed_memory()  # as every command line does
  data_config = config.image_data(folder, (SIZE, SIZE), BATCH)
  data_config.test = 'train'
  data_config.crop = dict(name='inception', min_area=.08)
  data = pipeline.build(data_config, 0, sharding.make_mesh(devices=jax.devices()[:1]))
  cut = lambda content, box: images.Quick(content, 3, '').resize(
      (SIZE, SIZE), Image.Resampling.BILINEAR, box)
  return cut, (batch for _, batch in data.train.after(0, 10 ** 9))


def torch_loader(folder: str) -> tuple[Callable, Iterator]:
  """torch.utils.data.DataLoader over torchvision's ImageFolder, in this process."""
  import torch
  if 'cpu' in torch.__version__:  # whose torchvision lacks the compiled operators that it names
    for operator in ('nms', 'qnms'):
      torch.library.define(f'torchvision::{operator}',
                           '(Tensor dets, Tensor scores, float iou) -> Tensor')
  from torchvision import datasets, transforms
  from torchvision.transforms import functional
  torch.set_num_threads(1)
  transform = transforms.Compose([transforms.RandomResizedCrop(SIZE, (.08, 1.), (3 / 4, 4 / 3)),
                                  transforms.RandomHorizontalFlip(), transforms.ToTensor(),
                                  transforms.Normalize([.5] * 3, [.5] * 3)])
  data = datasets.ImageFolder(os.path.join(folder, 'train'), transform)
  loader = torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)

  def cut(content, box):
    image = Image.open(io.BytesIO(content)).convert('RGB')
    left, top, right, bottom = box
    return np.asarray(functional.resized_crop(image, top, left, bottom - top, right - left,
                                              [SIZE, SIZE]))

  def batches():
    while True:
      yield from loader

  return cut, batches()


def pillow_cut(content: bytes, box) -> np.ndarray:
  image = Image.open(io.BytesIO(content)).convert('RGB')
  return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, box))


def grain_loader(folder: str) -> tuple[Callable, Iterator]:
  """grain with Pillow, uint8 out, one reading thread."""
  import grain
  names = files(folder)

  def load(path, rng):
    with open(path, 'rb') as file:
      content = file.read()
    image = Image.open(io.BytesIO(content)).convert('RGB')
    out = np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BILINEAR, window(rng, *image.size)))
    return out[:, ::-1] if rng.random() < .5 else out

  data = grain.MapDataset.source(names).seed(0).shuffle().repeat().random_map(load)
  options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=8)
  return pillow_cut, iter(data.to_iter_dataset(options).batch(BATCH, drop_remainder=True))


def tf_data(folder: str) -> tuple[Callable, Iterator]:
  """tf.data as vision_transformer writes it: window decode, bilinear without antialiasing, float."""
  import tensorflow as tf
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)

  def load(path):
    content = tf.io.read_file(path)
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(content), tf.zeros([0, 0, 4]), area_range=(.08, 1.),
        min_object_covered=0., use_image_if_no_bounding_boxes=True)
    image = tf.io.decode_and_crop_jpeg(content, tf.concat([begin[:2], size[:2]], 0), channels=3)
    image = tf.image.resize(image, (SIZE, SIZE))
    return (tf.image.random_flip_left_right(image) - 127.5) / 127.5

  data = tf.data.Dataset.from_tensor_slices(files(folder)).repeat().shuffle(200)
  data = data.map(load, num_parallel_calls=1).batch(BATCH, drop_remainder=True).prefetch(1)

  def cut(content, box):
    left, top, right, bottom = box
    image = tf.io.decode_and_crop_jpeg(content, (top, left, bottom - top, right - left), channels=3)
    return tf.image.resize(image, (SIZE, SIZE)).numpy()

  return cut, iter(data.as_numpy_iterator())


KINDS = {'ours': ours, 'torch': torch_loader, 'grain': grain_loader, 'tf.data': tf_data}


def main(kind: str, folder: str) -> None:
  """Answers the questions of `benchmarks.input_rate`."""
  cut, batches = KINDS[kind](folder)

  def quality() -> float:
    off = []
    for i, name in enumerate(files(folder)[:100]):
      with open(name, 'rb') as file:
        content = file.read()
      box = window(np.random.default_rng(i), *Image.open(name).size)
      off.append(np.abs(cut(content, box).astype(np.float32) - reference(content, box)).mean())
    return float(np.mean(off))

  serve(quality, lambda i: next(batches), ahead=True)


if __name__ == '__main__':
  main(*sys.argv[1:])
