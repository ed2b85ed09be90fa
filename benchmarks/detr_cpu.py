"""DETR-R50 on one CPU core next to transformers: forward pass, float32, 800x1066.

    python -m benchmarks.detr_cpu
    python -m benchmarks.detr_cpu --models=detr_r50 --rounds=3

`detr_r50+size` is also told the size of each image on its canvas, and keeps what lies outside it out of
the backbone; transformers makes a mask of padding on its own. Prints a table, after logits and boxes of
the same weights were found equal to those in float64, and those of deliberately wrong weights unequal.
Needs torch, transformers and timm: pip install -e '.[peers]'.
"""

from benchmarks import sides
from benchmarks.convnet_cpu import MODES


if __name__ == '__main__':
  sides.main(__spec__.name, __doc__, 'detr', MODES, models='detr_r50,detr_r50+size', batches='1')
