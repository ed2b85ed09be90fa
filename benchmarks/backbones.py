"""Backbones at their published size: images/s of the forward pass and of a gradient, beside torchvision.

    python -m benchmarks.backbones
    python -m benchmarks.backbones --models=swin_t --batch=64 --dtype=bfloat16

Images of 224x224, random weights. On a CPU or a GPU, whatever JAX finds; torchvision runs eagerly, and
is left out where it is not installed. Each figure is the median of 5 rounds, of images that lie on the
device.
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp

from vit_jax import compilation, models

PEERS = dict(swin_t='swin_t', convnext_t='convnext_tiny', resnet50='resnet50', vit_b16='vit_b_16',
             regnety_16gf='regnet_y_16gf', efficientnet_b0='efficientnet_b0')
ROUNDS, CALLS = 5, 5


def rate(run, ready, batch: int) -> float:
  """Returns images/s of a function without arguments; `ready` waits for its result."""
  ready(run())
  times = []
  for _ in range(ROUNDS):
    start = time.perf_counter()
    for _ in range(CALLS):
      out = run()
    ready(out)
    times.append((time.perf_counter() - start) / CALLS)
  return batch / statistics.median(times)


def ours(name: str, batch: int, dtype: str) -> tuple[float, float]:
  """Returns images/s of (forward, gradient) of a model."""
  model = models.create_model(name, dtype=dtype)
  image = jax.random.normal(jax.random.key(0), (batch, 224, 224, 3), dtype)
  variables = jax.jit(model.init)(jax.random.key(1), image[:1])
  state = {k: v for k, v in variables.items() if k != 'params'}
  forward = compilation.jit(model.apply)
  loss = lambda params: jnp.square(model.apply({'params': params, **state}, image)).mean()
  gradient = compilation.jit(jax.grad(loss))
  return (rate(lambda: forward(variables, image), jax.block_until_ready, batch),
          rate(lambda: gradient(variables['params']), jax.block_until_ready, batch))


def theirs(name: str, batch: int, dtype: str) -> tuple[float, float]:
  """Returns the same of torchvision's model."""
  import torch
  import torchvision
  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  model = getattr(torchvision.models, PEERS[name])().to(device, getattr(torch, dtype)).eval()
  image = torch.randn(batch, 3, 224, 224, device=device, dtype=getattr(torch, dtype))

  def forward():
    with torch.no_grad():
      return model(image)

  def gradient():
    model.zero_grad()
    model(image).square().mean().backward()

  wait = lambda _: torch.cuda.synchronize() if device == 'cuda' else None
  return rate(forward, wait, batch), rate(gradient, wait, batch)


def main() -> None:
  """Prints a line for each model."""
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
  parser.add_argument('--models', default='swin_t,convnext_t,nat_mini', help='names, with commas')
  parser.add_argument('--batch', type=int, default=64, help='images of a call')
  parser.add_argument('--dtype', default='bfloat16', help='compute dtype')
  options = parser.parse_args()
  print(f'{jax.devices()[0].device_kind}, batch {options.batch}, {options.dtype}; images/s')
  for name in options.models.split(','):
    rows = {'ours': ours}
    if name in PEERS:
      rows['torchvision'] = theirs
    for side, measure in rows.items():
      try:
        forward, gradient = measure(name, options.batch, options.dtype)
      except ImportError:
        continue
      print(f'{name:12} {side:12} forward {forward:8.0f}  gradient {gradient:8.0f}', flush=True)


if __name__ == '__main__':
  main()
