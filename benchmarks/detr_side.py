"""The PyTorch half of `detr_cpu`: transformers' DETR, with a backbone of timm.

    python -m benchmarks.detr_side FOLDER detr_r50[+size] BATCH write|eager|nhwc|freeze
"""

import sys

import torch

from benchmarks import convnet_side, timm_side

SIZE = 800, 1066


class Detector(torch.nn.Module):
  """transformers' detector, whose logits and boxes are one tensor."""

  def __init__(self):
    super().__init__()
    timm_side.declare_operators()
    import transformers
    config = transformers.DetrConfig(backbone='resnet50', use_timm_backbone=True, num_labels=91,
                                     use_pretrained_backbone=False)
    self.detector = transformers.DetrForObjectDetection(config)

  def forward(self, images):
    """Returns `[batch, queries, classes + 1 + 4]`; the mask of padding is transformers' own, of ones."""
    outputs = self.detector(images)
    return torch.cat([outputs.logits, outputs.pred_boxes], dim=-1)

  def vary(self) -> 'Detector':
    """Draws the transformer as the paper does, so that outputs depend on image and query."""
    for name, value in self.detector.named_parameters():
      if 'query_position' in name:
        torch.nn.init.normal_(value)
      elif 'backbone' not in name and value.ndim > 1:
        torch.nn.init.xavier_uniform_(value)
    return self

  def state_dict(self, *args, **kwargs):
    """Returns the names of the published files."""
    return self.detector.state_dict(*args, **kwargs)

  def load_state_dict(self, *args, **kwargs):
    """Takes what `state_dict` gives."""
    return self.detector.load_state_dict(*args, **kwargs)


if __name__ == '__main__':
  folder_, _, batch_, mode_ = sys.argv[1:]
  if mode_ == 'write':
    convnet_side.write(folder_, Detector().vary().eval(), int(batch_), SIZE)
  else:
    convnet_side.run(folder_, Detector().eval(), mode_)
