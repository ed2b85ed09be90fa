"""timm's half of `vit_cpu`: makes weights and inputs, and runs them as PyTorch does it best.

    python -m benchmarks.timm_side FOLDER SIZE forward|train BATCH eager|compile|freeze
"""

import os
import sys

import numpy as np
import torch

from benchmarks import sides

NAMES = dict(ti='vit_tiny', s='vit_small', b='vit_base')


def declare_operators() -> None:
  """Lets timm and torchvision be imported where torchvision lacks its compiled operators."""
  if not hasattr(torch.ops.torchvision, 'nms'):
    for name in ('nms', 'qnms'):
      torch.library.define(f'torchvision::{name}',
                           '(Tensor dets, Tensor scores, float iou) -> Tensor')


def create(size: str, **options):
  """Returns timm's ViT with patches of 16 pixels at 224x224."""
  declare_operators()
  import timm
  return timm.create_model(f'{NAMES[size]}_patch16_224', **options)


def published(model, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Renames timm's parameters, or their gradients, to what Google's `.npz` files have."""
  heads, out = model.blocks[0].attn.num_heads, {
      'cls': values['cls_token'],
      'Transformer/posembed_input/pos_embedding': values['pos_embed'],
      'embedding/kernel': values['patch_embed.proj.weight'].transpose(2, 3, 1, 0),
      'embedding/bias': values['patch_embed.proj.bias']}

  def copy(theirs, ours, leaf='kernel'):
    out[f'{ours}/{leaf}'] = values[f'{theirs}.weight'].T
    out[f'{ours}/bias'] = values[f'{theirs}.bias']

  copy('norm', 'Transformer/encoder_norm', 'scale')
  copy('head', 'head')
  for i in range(len(model.blocks)):
    block, ours = f'blocks.{i}', f'Transformer/encoderblock_{i}'
    attention = f'{ours}/MultiHeadDotProductAttention_1'
    copy(f'{block}.norm1', f'{ours}/LayerNorm_0', 'scale')
    copy(f'{block}.norm2', f'{ours}/LayerNorm_2', 'scale')
    copy(f'{block}.mlp.fc1', f'{ours}/MlpBlock_3/Dense_0')
    copy(f'{block}.mlp.fc2', f'{ours}/MlpBlock_3/Dense_1')
    copy(f'{block}.attn.proj', f'{attention}/out')
    out[f'{attention}/out/kernel'] = out[f'{attention}/out/kernel'].reshape(
        heads, -1, model.embed_dim)
    kernels = np.split(values[f'{block}.attn.qkv.weight'], 3)
    biases = np.split(values[f'{block}.attn.qkv.bias'], 3)
    for name, kernel, bias in zip(('query', 'key', 'value'), kernels, biases):
      out[f'{attention}/{name}/kernel'] = kernel.T.reshape(model.embed_dim, heads, -1)
      out[f'{attention}/{name}/bias'] = bias.reshape(heads, -1)
  return out


def write(folder: str, size: str, batch: int) -> None:
  """Writes random weights, none of them zero or one, and three batches of uint8 images."""
  model = create(size)
  with torch.no_grad():
    for value in model.parameters():
      value.add_(torch.randn_like(value) * (.1 if value.ndim == 1 else .02))
  torch.save(model.state_dict(), os.path.join(folder, 'timm.pt'))
  values = {k: v.detach().numpy() for k, v in model.named_parameters()}
  np.savez(os.path.join(folder, 'published.npz'), **published(model, values))
  write_inputs(folder, batch)


def write_inputs(folder: str, batch: int, size: tuple[int, int] = (224, 224)) -> None:
  """Writes three batches of random images, `size` = (height, width), and labels."""
  random = np.random.default_rng()
  np.savez(os.path.join(folder, 'inputs.npz'),
           image=random.integers(0, 256, (3, batch, *size, 3), dtype=np.uint8),
           label=random.integers(0, 1000, (3, batch)))


def normalized(images: np.ndarray) -> np.ndarray:
  """Returns float32 in [-1, 1]."""
  return images.astype(np.float32) / 255. * 2. - 1.


def optimizer(model):
  """Returns fused AdamW; only matrices decay."""
  groups = [dict(params=[p for p in model.parameters() if p.ndim > 1], weight_decay=.05),
            dict(params=[p for p in model.parameters() if p.ndim == 1], weight_decay=0.)]
  return torch.optim.AdamW(groups, lr=1e-5, fused=True)


def compiled(model, mode: str):
  """Returns the model as PyTorch runs it: 'eager', 'compile', or 'freeze', which packs the weights."""
  if mode == 'freeze':
    from torch._inductor import config
    config.freezing = True
  return model if mode == 'eager' else torch.compile(model)


def run(folder: str, size: str, kind: str, mode: str) -> None:
  """Serves the forward pass or the train step."""
  torch.set_num_threads(1)
  model = create(size)
  model.load_state_dict(torch.load(os.path.join(folder, 'timm.pt')))
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    images = [torch.from_numpy(normalized(x).transpose(0, 3, 1, 2).copy()) for x in file['image']]
    labels = [torch.from_numpy(x) for x in file['label']]
  model.train(kind == 'train')
  call = compiled(model, mode)
  adam = optimizer(model)

  def forward(i):
    with torch.no_grad():
      return call(images[i % 3])

  def loss(i):
    value = torch.nn.functional.cross_entropy(call(images[i % 3]), labels[i % 3])
    adam.zero_grad(set_to_none=True)
    value.backward()
    return value

  def train(i):
    value = loss(i)
    adam.step()
    value.item()

  def check():
    path = os.path.join(folder, f'{mode}.npz')
    if kind == 'forward':
      return np.savez(path, logits=np.stack([forward(i).numpy() for i in range(3)]))
    value = loss(0).item()
    gradients = {k: v.grad.numpy() for k, v in model.named_parameters()}
    return np.savez(path, loss=value, **published(model, gradients))

  sides.serve(check, forward if kind == 'forward' else train)


if __name__ == '__main__':
  folder_, size_, kind_, batch_, mode_ = sys.argv[1:]
  if mode_ == 'write':
    write(folder_, size_, int(batch_))
  else:
    run(folder_, size_, kind_, mode_)
