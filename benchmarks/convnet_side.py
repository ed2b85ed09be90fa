"""The PyTorch half of `convnet_cpu`: torchvision's ResNet-50; timm's BiT, Swin, ConvNeXt and RegNet.

    python -m benchmarks.convnet_side FOLDER NAME BATCH write|eager|nhwc|freeze
"""

import os
import sys

import numpy as np
import torch

from benchmarks import sides, timm_side


TIMM = dict(swin_t='swin_tiny_patch4_window7_224', convnext_t='convnext_tiny', regnety_4gf='regnety_040')


def create(name: str):
  """Returns the network, for inference."""
  timm_side.declare_operators()
  import timm
  import torchvision
  if name == 'resnet50':
    return torchvision.models.resnet50().eval()
  if name in TIMM:
    return timm.create_model(TIMM[name]).eval()
  model = timm.create_model('resnetv2_50x1_bit').eval()
  for layer in model.modules():
    if isinstance(layer, timm.layers.StdConv2d):
      layer.eps = 1e-10  # Big Transfer's own; timm has 1e-8, which shows in weights as small as these
  return model


def write(folder: str, model, batch: int, size: tuple[int, int] = (224, 224)) -> None:
  """Writes random weights and statistics, none of them zero or one, and three batches of images.

  And what the network makes of them in float64, to which both sides are held.
  """
  from safetensors.torch import save_file
  with torch.no_grad():
    for path, value in model.state_dict().items():
      if path.endswith('running_var'):
        value.uniform_(.5, 1.5)
      elif value.is_floating_point():
        value.add_(torch.randn_like(value) * (.1 if value.ndim == 1 else .01))
  save_file(model.state_dict(), os.path.join(folder, 'published.safetensors'))
  timm_side.write_inputs(folder, batch, size)
  model.double()
  with torch.no_grad(), np.load(os.path.join(folder, 'inputs.npz')) as file:
    logits = [model(planes(x).double()).numpy() for x in file['image']]
  np.savez(os.path.join(folder, 'exact.npz'), logits=np.stack(logits))


def planes(images: np.ndarray) -> torch.Tensor:
  """Returns uint8 images as PyTorch takes them: float32 `[batch, channels, height, width]`."""
  return torch.from_numpy(timm_side.normalized(images).transpose(0, 3, 1, 2).copy())


def run(folder: str, model, mode: str) -> None:
  """Serves the forward pass: 'nhwc' is eager with channels last, 'freeze' compiled."""
  from safetensors.torch import load_file
  torch.set_num_threads(1)
  model.load_state_dict(load_file(os.path.join(folder, 'published.safetensors')))
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    images = [planes(x) for x in file['image']]
  if mode == 'nhwc':
    model = model.to(memory_format=torch.channels_last)
    images = [x.contiguous(memory_format=torch.channels_last) for x in images]
  call = timm_side.compiled(model, 'eager' if mode == 'nhwc' else mode)

  def forward(i):
    with torch.no_grad():
      return call(images[i % 3])

  def check():
    logits = np.stack([forward(i).numpy() for i in range(3)])
    np.savez(os.path.join(folder, f'{mode}.npz'), logits=logits)

  sides.serve(check, forward)


if __name__ == '__main__':
  folder_, name_, batch_, mode_ = sys.argv[1:]
  if mode_ == 'write':
    write(folder_, create(name_), int(batch_))
  else:
    run(folder_, create(name_), mode_)
