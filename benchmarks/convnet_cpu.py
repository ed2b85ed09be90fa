"""ResNet-50, BiT-R50x1, Swin-T, ConvNeXt-T and RegNetY-4G on one CPU core next to torchvision and timm:
forward pass, float32, 224x224.

    python -m benchmarks.convnet_cpu
    python -m benchmarks.convnet_cpu --models=swin_t,convnext_t,regnety_4gf --batches=1
    python -m benchmarks.convnet_cpu --models=resnet50 --batches=1

Prints a table, after the logits of the same weights were found equal to those in float64, and those of
deliberately wrong weights unequal. Needs torch, torchvision and timm: pip install -e '.[peers]'.
"""

from benchmarks import sides

MODES = dict(eager='eager', nhwc='eager, channels last', freeze='compile + freezing')


if __name__ == '__main__':
  sides.main(__spec__.name, __doc__, 'convnet', MODES, models='resnet50,bit_r50x1', batches='1,8')
