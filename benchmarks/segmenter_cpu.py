"""Segmenter-S/16 on one CPU core next to the same structure of timm and PyTorch: 512x512, float32.

    python -m benchmarks.segmenter_cpu
    python -m benchmarks.segmenter_cpu --rounds=3

Prints a table, after the logits of the same weights were found equal to those in float64, and those of
deliberately wrong weights unequal. Needs torch and timm: pip install -e '.[peers]'.
"""

from benchmarks import sides

MODES = dict(eager='eager', freeze='compile + freezing')


if __name__ == '__main__':
  sides.main(__spec__.name, __doc__, 'segmenter', MODES, models='segmenter_s16_linear', batches='1')
