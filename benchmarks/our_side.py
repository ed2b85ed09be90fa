"""Our half of `vit_cpu`, `convnet_cpu`, `detr_cpu` and `segmenter_cpu`, as users load and compile.

    python -m benchmarks.our_side FOLDER SIZE forward|train
    python -m benchmarks.our_side FOLDER resnet50|bit_r50x1|swin_t|convnext_t|regnety_4gf convnet
    python -m benchmarks.our_side FOLDER segmenter_s16_linear segmenter
    python -m benchmarks.our_side FOLDER detr_r50|detr_r50+size detr
"""

import os
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np

import detr_jax
import vit_jax
from benchmarks import sides
from vit_jax import compilation, sharding, trees
from vit_jax.optim import optimizers
from vit_jax.training import step as step_lib
from vit_jax.tasks.classification import Classification
from vit_jax.weights.families import google
from vit_jax.weights.table import to_theirs

WRONG = 'Transformer/encoderblock_5/MlpBlock_0/Dense_1/kernel'  # changed for the control


def load(folder: str, size: str, **overrides):
  """Returns (Loaded, inputs) of what the other side wrote."""
  loaded = vit_jax.load(f'vit_{size}16', os.path.join(folder, 'published.npz'), gelu='erf',
                        verbose=False, **overrides)
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    return loaded, dict(file)


def wrong(params):
  """Returns the parameters with one matrix of one layer 5% larger."""
  flat = trees.unstack(trees.flatten(params))
  flat[WRONG] = flat[WRONG] * 1.05
  return trees.unflatten(trees.stack(flat) if trees.is_stacked(trees.flatten(params)) else flat)


def forward(folder: str, size: str) -> None:
  """Serves the forward pass."""
  loaded, inputs = load(folder, size)
  serve_forward(folder, loaded, inputs['image'], wrong(loaded.params))


def convnet(folder: str, name: str) -> None:
  """Serves the forward pass of a residual network."""
  loaded = vit_jax.load(name, os.path.join(folder, 'published.safetensors'), verbose=False)
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    serve_forward(folder, loaded, file['image'], wrong_norm(loaded.params))


def detr(folder: str, name: str) -> None:
  """Serves the forward pass of a detector; '+size' tells it how large each image on the canvas is."""
  name, _, sized = name.partition('+')
  loaded = detr_jax.load(name, os.path.join(folder, 'published.safetensors'), verbose=False)
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    images = file['image']
  size = [np.broadcast_to(np.int32(images.shape[2:4]), (images.shape[1], 2))] if sized else []
  last = lambda outputs: jnp.concatenate(outputs.last(), axis=-1)
  serve_forward(folder, loaded, images, wrong_norm(loaded.params), *size, answer=last)


def segmenter(folder: str, name: str) -> None:
  """Serves the forward pass of a segmenter."""
  loaded = vit_jax.load(name, os.path.join(folder, 'published.safetensors'), verbose=False)
  with np.load(os.path.join(folder, 'inputs.npz')) as file:
    serve_forward(folder, loaded, file['image'], wrong_norm(loaded.params),
                  answer=lambda outputs: outputs.logits)


CHANGED = (r'(backbone/)?(block3/unit3/[bg]n2|stage2/block1/(norm|norm2|bn2)|'
           r'Transformer/encoderblock_5/LayerNorm_1)/scale')


def wrong_norm(params):
  """Returns the parameters with the scale of one norm 5% larger."""
  flat = trees.flatten(params)
  [changed] = [path for path in flat if re.fullmatch(CHANGED, path)]
  return trees.unflatten({**flat, changed: flat[changed] * 1.05})


def serve_forward(folder: str, loaded, images: np.ndarray, wrong_params, *more,
                  answer=lambda x: x) -> None:
  """Serves the forward pass of a model on three batches of uint8 images.

  Args:
    folder: of the files.
    loaded: the model.
    images: `[3, batch, height, width, 3]`.
    wrong_params: for the control.
    *more: what the model is given besides.
    answer: returns what is compared, of what the model returns.
  """
  images = [jnp.asarray(x.astype(np.float32) / 255. * 2. - 1.) for x in images]
  call = compilation.jit(lambda variables, *given: answer(loaded.model.apply(variables, *given)))

  def check():
    for name, params in (('ours', loaded.params), ('wrong', wrong_params)):
      logits = np.stack([call({**loaded.variables, 'params': params}, x, *more) for x in images])
      np.savez(os.path.join(folder, f'{name}.npz'), logits=logits)

  sides.serve(check, lambda i: call(loaded.variables, images[i % 3], *more).block_until_ready())


def train(folder: str, size: str, **overrides) -> None:
  """Serves the train step of `vit_jax.training.step`, with layers scanned as the configs have it."""
  loaded, inputs = load(folder, size, **{'scan': True, **overrides})
  task = Classification(loaded.model, loaded.info)
  batches = [dict(image=jnp.asarray(x), label=jnp.asarray(y, jnp.int32), mask=jnp.ones(len(y)))
             for x, y in zip(inputs['image'], inputs['label'])]
  schedule = lambda step: jnp.asarray(1e-5)
  make = lambda shapes: optimizers.make(
      shapes, schedule, name='adamw', weight_decay=.05)
  mesh = sharding.make_mesh()
  with jax.set_mesh(mesh):
    state, optimizer, _ = step_lib.create_state(
        task, make, batches[0], mesh, task.family.rules, 0, False)
    where = jax.tree.map(lambda x: x.sharding, state.params)
    train_step = step_lib.make(task, optimizer, schedule, state, seed=0)
    place = lambda params: jax.tree.map(jnp.copy, jax.device_put(params, where))
    kept = [state.replace(params=place(loaded.params))]

    def check():
      for name, params in (('ours', loaded.params), ('wrong', wrong(loaded.params))):
        write_gradients(os.path.join(folder, f'{name}.npz'), task, place(params), batches[0])

    def step(i):
      kept[0], sums = train_step(kept[0], batches[i % 3])
      jax.block_until_ready((kept[0], sums))

    sides.serve(check, step)


def write_gradients(path: str, task, params, batch) -> None:
  """Writes the loss and the gradients that a step would use, under the published names."""
  def gradients(params, batch):
    key = jax.random.key(0)
    return step_lib.gradients(task, params, {}, task.augment(batch, key), key, 1)[:2]
  grads, sums = compilation.jit(gradients)(params, batch)
  flat = {k: np.asarray(v) for k, v in trees.unstack(trees.flatten(grads)).items()}
  loss = np.divide(*map(np.asarray, sums['loss']))
  np.savez(path, loss=loss, **to_theirs(google.GOOGLE, flat))


if __name__ == '__main__':
  compilation.keep_freed_memory()
  {'forward': forward, 'train': train, 'convnet': convnet, 'detr': detr,
   'segmenter': segmenter}[sys.argv[3]](*sys.argv[1:3])
