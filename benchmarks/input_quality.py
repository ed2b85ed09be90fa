"""How far training's quick resize is from the exact one, for every container at every scale.

    python -m benchmarks.input_quality
    python -m benchmarks.input_quality --images=FOLDER --interpolation=bicubic

Each photograph is written in each container, then resized whole, to 224 pixels and less of its short
side, by `data.images.Quick`, as training calls it, and by Pillow's antialiased filter in float. A cell
is the mean difference over all pixels and photographs, in grey levels, and in brackets the CPU ms an
image.
Without --images: scikit-learn's two photographs (640x427).
"""

import argparse
import io
import time

import numpy as np
from PIL import Image

from benchmarks.sides import last_core, pin
from vit_jax.data import images, listing

SIDES = (224, 128, 96, 64, 48, 32)


def jpeg(image: Image.Image, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, 'JPEG', quality=95, **options)
  return out.getvalue()


def turned(image: Image.Image) -> bytes:
  """Returns a JPEG as a telephone writes it that is held upright: lying, with EXIF's 6."""
  exif = Image.Exif()
  exif[0x0112] = 6
  return jpeg(image.transpose(Image.Transpose.ROTATE_90), exif=exif)


def lossless(image: Image.Image, suffix: str, **options) -> bytes:
  out = io.BytesIO()
  image.save(out, suffix, **options)
  return out.getvalue()


CONTAINERS = {
    'JPEG': jpeg, 'JPEG, EXIF-turned': turned, 'JPEG, gray': lambda image: jpeg(image.convert('L')),
    'JPEG, CMYK': lambda image: jpeg(image.convert('CMYK')), 'PNG': lambda image: lossless(image, 'PNG'),
    'WebP': lambda image: lossless(image, 'WEBP', quality=95), 'array': np.asarray}


def exact(content, size: tuple[int, int], resample) -> np.ndarray:
  """Returns the image by Pillow's filter in float, clipped as bytes are, float32 `[h, w, 3]`."""
  image = images.decode(content, 3, '') if isinstance(content, bytes) else Image.fromarray(content)
  pixels = np.asarray(image, np.float32)
  planes = [Image.fromarray(pixels[..., c]).resize(size, resample) for c in range(3)]
  return np.stack([np.asarray(plane) for plane in planes], -1).clip(0., 255.)


def cell(contents, side: int, resample) -> str:
  """Returns the difference and the time of a container at a size."""
  off, spent = [], []
  for content in contents:
    width, height = images.Quick(content, 3, '').size
    size = round(width * side / min(width, height)), round(height * side / min(width, height))
    begin = time.process_time()
    got = images.Quick(content, 3, '').resize(size, resample)
    spent.append(time.process_time() - begin)
    off.append(np.abs(got - exact(content, size, resample)).mean())
  return f'{np.mean(off):.2f} ({1000. * np.mean(spent):.1f})'


def main() -> None:
  """Prints the table."""
  flags = argparse.ArgumentParser(description=__doc__,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
  flags.add_argument('--images', help='folder of photographs')
  flags.add_argument('--interpolation', default='bilinear', choices=sorted(images.RESAMPLE))
  flags = flags.parse_args()
  pin(last_core())
  if flags.images:
    names = listing.images_below(flags.images).files
    photographs = [images.decode(images.read_file(name), 3, name) for name in names]
  else:
    from sklearn import datasets
    photographs = [Image.fromarray(pixels) for pixels in datasets.load_sample_images().images]
  print('| container | ' + ' | '.join(f'to {side}' for side in SIDES) + ' |')
  print('|---|' + '---|' * len(SIDES))
  for name, write in CONTAINERS.items():
    contents = [write(photograph) for photograph in photographs]
    cells = [cell(contents, side, images.RESAMPLE[flags.interpolation]) for side in SIDES]
    print(f'| {name} | ' + ' | '.join(cells) + ' |', flush=True)


if __name__ == '__main__':
  main()
