"""The PyTorch half of `segmenter_cpu`: a linear Segmenter on timm's ViT-S/16.

    python -m benchmarks.segmenter_side FOLDER segmenter_s16_linear BATCH write|eager|freeze
"""

import sys

import torch

from benchmarks import convnet_side, timm_side

SIZE = 512, 512
CLASSES = 150


class Segmenter(torch.nn.Module):
  """timm's ViT, a linear layer for each patch, and bilinear enlargement to the image."""

  def __init__(self):
    super().__init__()
    timm_side.declare_operators()
    import timm
    self.encoder = timm.create_model('vit_small_patch16_224', img_size=SIZE[0], num_classes=0)
    for layer in self.encoder.modules():
      if isinstance(layer, torch.nn.LayerNorm):
        layer.eps = 1e-5  # Segmenter's own
    self.decoder = torch.nn.ModuleDict(dict(head=torch.nn.Linear(self.encoder.embed_dim, CLASSES)))

  def forward(self, images):
    """Maps `[batch, 3, height, width]` to `[batch, height, width, classes]`."""
    patches = self.encoder.forward_features(images)[:, 1:]
    grid = tuple(n // 16 for n in images.shape[2:])
    logits = self.decoder['head'](patches).transpose(1, 2).unflatten(2, grid)
    large = torch.nn.functional.interpolate(logits, size=images.shape[2:], mode='bilinear')
    return large.permute(0, 2, 3, 1)


if __name__ == '__main__':
  folder_, _, batch_, mode_ = sys.argv[1:]
  if mode_ == 'write':
    convnet_side.write(folder_, Segmenter().eval(), int(batch_), SIZE)
  else:
    convnet_side.run(folder_, Segmenter().eval(), mode_)
