"""Host evaluation of a 480x640 image: panoptic quality and 100 instance masks, CPU seconds.

    python -m benchmarks.host_evaluation
"""

import statistics
import time

import numpy as np

from detr_jax.evaluation import panoptic_quality
from detr_jax.ops import postprocess

SIZE, RESIZED, CANVAS, MASKS, SEGMENTS = (480, 640), (800, 1066), (800, 1344), 100, 12
ROUNDS = 7


def smooth(count: int, size: tuple[int, int], rng) -> np.ndarray:
  """Returns float32 `[count, *size]` with blobs, as a mask head gives."""
  import cv2
  coarse = rng.normal(size=(count, 12, 16)).astype(np.float32)
  return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC) for one in coarse])


def segments(rng) -> tuple[np.ndarray, list[dict]]:
  """Returns segment ids as COCO's PNGs hold them, int32 `SIZE`, and the segments."""
  names = rng.integers(1, 2 ** 24, SEGMENTS)
  ids = names[smooth(SEGMENTS, SIZE, rng).argmax(0)].astype(np.int32)
  ids[:20] = panoptic_quality.VOID
  return ids, [dict(id=int(n), label=i % 5) for i, n in enumerate(names)]


def seconds(function) -> str:
  """Returns the median (least-most) CPU time of all threads."""
  times = []
  for _ in range(ROUNDS):
    start = time.process_time()
    function()
    times.append(time.process_time() - start)
  return f'{statistics.median(times):.3f} ({min(times):.3f}-{max(times):.3f})'


def main() -> None:
  """Prints a row for each part."""
  rng = np.random.default_rng(0)
  found, truth = segments(rng), segments(rng)
  masks = smooth(MASKS, tuple(-(-n // 4) for n in CANVAS), rng)
  logits = 12. * np.eye(6, dtype=np.float32)[rng.integers(5, size=MASKS)]
  logits[20:, -1] = 24.  # twenty queries found something
  parts = {
      'panoptic quality': lambda: panoptic_quality.count(*found, *truth, 5),
      'panoptic picture': lambda: postprocess.panoptic(
          logits, masks, CANVAS, RESIZED, SIZE, [True, True, True, False, False]),
      f'{MASKS} instance masks': lambda: postprocess.instance_masks(masks, CANVAS, RESIZED, SIZE)}
  print('| part | CPU s per image |\n|---|---|')
  for name, part in parts.items():
    part()
    print(f'| {name} | {seconds(part)} |')


if __name__ == '__main__':
  main()
