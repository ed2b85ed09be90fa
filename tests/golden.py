"""Golden files: numbers of the authors' own code, compared with ours.

    python -m tests.golden FILE...

prints a table (output, largest error, tolerance, verdict) and exits with 1 on any failure. `errors`
is the one function that reads a file, builds our model from its `meta`, loads its weights through
`vit_jax.weights`, runs it and returns the error of each output.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from tests.goldens import recipes
from vit_jax import trees, weights
from vit_jax.data import augment
from vit_jax.layers import positions
from vit_jax.models.vit import ViT
from vit_jax.weights import vit as vit_tables
from vit_jax.weights.fit import POSITIONS, fit
from vit_jax.weights.table import to_ours


@dataclasses.dataclass(frozen=True)
class Golden:
  """A golden file: see its README for the format."""
  meta: Mapping
  weights: Mapping[str, np.ndarray]
  inputs: Mapping[str, np.ndarray]
  outputs: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Error:
  """How far one output is from the authors'."""
  output: str
  error: float
  tolerance: float

  @property
  def passed(self) -> bool:
    """Whether the error is within the tolerance; NaN is not."""
    return bool(self.error <= self.tolerance)


def read(path: str) -> Golden:
  """Reads a golden file."""
  with np.load(path, allow_pickle=False) as archive:
    part = lambda prefix: {k[len(prefix):]: archive[k]
                           for k in archive.files if k.startswith(prefix)}
    return Golden(json.loads(str(archive['meta'])), part('weights/'), part('in/'), part('out/'))


def run(model: ViT, params, image: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Returns the logits and every intermediate, by path, of a model in exact float32."""
  with jax.default_matmul_precision('highest'):
    logits, state = jax.jit(lambda p, x: model.apply(
        {'params': p}, x, capture_intermediates=True, mutable=['intermediates']))(params, image)
  found = {k.removesuffix('/__call__'): v[0] for k, v in
           trees.flatten(state['intermediates']).items()}
  return np.asarray(logits), found


def load(golden: Golden, model: ViT, image_size, extra=None):
  """Returns the file's weights fitted to the model, and them as flat paths."""
  arrays = vit_tables.parameters(golden.weights)
  table = vit_tables.guess_table(arrays)
  flat = to_ours(table, arrays)
  shapes = weights.init_shapes(model, image_size, 3)
  fitted, _ = fit(flat, trees.unstack(trees.flatten(shapes)), new=weights.model_grid(model, image_size),
                  class_position=table.class_position, resampling=table.resampling)
  fitted.update(extra or {})
  return weights.complete(fitted, model, shapes, image_size, 3, seed=0), fitted


def vit_google(golden: Golden) -> dict[str, np.ndarray]:
  """vision_transformer's VisionTransformer, at the size of its weights or at another."""
  kwargs = golden.meta['kwargs'].get('model', golden.meta['kwargs'])
  transformer = kwargs['transformer']
  classifier = kwargs.get('classifier', 'token')
  model = ViT(
      num_classes=kwargs['num_classes'], patch_size=tuple(kwargs['patches']['size']),
      width=kwargs['hidden_size'], depth=transformer['num_layers'],
      mlp_dim=transformer['mlp_dim'], num_heads=transformer['num_heads'],
      pool={'token': 'token', 'gap': 'mean', 'unpooled': 'none', 'token_unpooled': 'none'}[
          classifier], class_token=classifier.startswith('token'),
      position='learned' if transformer.get('add_position_embedding', True) else 'none',
      representation_size=kwargs.get('representation_size'))
  image = golden.inputs['image']
  extra = {f'head/{leaf}': golden.inputs[f'head_{leaf}'] for leaf in ('kernel', 'bias')
           if f'head_{leaf}' in golden.inputs}
  params, flat = load(golden, model, image.shape[1:3], extra)
  logits, found = run(model, params, image)
  representation = found.pop('representation')
  renamed = {'inter/pre_logits': found.pop('pre_logits', representation)}  # before its tanh

  for name, value in found.items():
    name = name.replace('MultiHeadDotProductAttention_0', 'MultiHeadDotProductAttention_1')
    name = name.replace('MlpBlock_0', 'MlpBlock_3').replace('LayerNorm_1', 'LayerNorm_2')
    renamed[f'inter/{name}'] = value[0] if isinstance(value, tuple) else value  # scan's None
  return {**renamed, 'logits': logits, 'pos_embedding_resized': flat.get(POSITIONS)}


def vit_big_vision(golden: Golden) -> dict[str, np.ndarray]:
  """big_vision's vit.Model, also reading an older file at another resolution."""
  kwargs = golden.meta['kwargs'].get('model', golden.meta['kwargs'])
  pool, rep_size = kwargs.get('pool_type', 'gap'), kwargs.get('rep_size', False)
  model = ViT(
      num_classes=kwargs['num_classes'], patch_size=tuple(kwargs['patch_size']),
      width=kwargs['width'], depth=kwargs['depth'],
      mlp_dim=kwargs.get('mlp_dim') or 4 * kwargs['width'], num_heads=kwargs['num_heads'],
      pool={'gap': 'mean', 'map': 'attention', 'tok': 'token', '0': 'mean'}.get(pool, pool),
      class_position=False,
      position={'learn': 'learned', 'sincos2d': 'sincos'}[kwargs.get('posemb', 'learn')],
      representation_size=kwargs['width'] if rep_size is True else rep_size or None)
  image = golden.inputs['image']
  params, flat = load(golden, model, image.shape[1:3])
  logits, found = run(model, params, image)
  out = {'result': logits, 'inter/stem': found['embedding'], 'inter/pre_logits': found['representation'],
         'loaded/pos_embedding': flat.get(POSITIONS), 'loaded/cls': flat.get('cls')}
  out.update(_big_vision_intermediates(model, params, found, golden))
  return {k: v for k, v in out.items() if v is not None}


def _big_vision_intermediates(model, params, found, golden):
  """big_vision's names for what our capture found, and its per-patch logits."""
  tokens = found['Transformer/encoder_norm']
  patches = tokens[:, model.num_prefix:].reshape(found['embedding'].shape)
  head = params['head']
  dense = lambda x: x @ head['kernel'] + head['bias']
  represent = lambda x: x
  if 'pre_logits' in params:
    represent = lambda x: jnp.tanh(
        x @ params['pre_logits']['kernel'] + params['pre_logits']['bias'])
  pooled = {'token': lambda: tokens[:, 0], 'mean': lambda: tokens.mean(axis=1),
            'attention': lambda: found['MAPHead_0']}[model.pool]()
  out = {'inter/encoded': tokens if model.pool != 'token' else tokens[:, 1:],
         'inter/head_input': pooled, 'inter/pre_logits_2d': represent(patches),
         'inter/logits_2d': dense(represent(patches))}
  if 'inter/encoded' in golden.outputs and golden.outputs['inter/encoded'].shape != out[
      'inter/encoded'].shape:
    out['inter/encoded'] = tokens
  if 'Transformer/posembed_input' in found:
    out['inter/with_posemb'] = found['Transformer/posembed_input']
  else:
    stem = found['embedding']
    out['inter/with_posemb'] = stem.reshape(stem.shape[0], -1, stem.shape[-1]) + (
        positions.sincos_2d(stem.shape[1:3], stem.shape[-1]))
  for i in range(model.depth):
    block = f'Transformer/encoderblock_{i}'
    names = {'sa': found[f'{block}/MultiHeadDotProductAttention_0'], 'mlp': found[f'{block}/MlpBlock_0'],
             '+mlp': found[block][0]}
    names['+sa'] = names['+mlp'] - names['mlp']
    for name, value in names.items():
      out[f'inter/encoder/block{i:02d}/{name}'] = value
  return out


def big_vision_mixup(golden: Golden) -> dict[str, np.ndarray]:
  """Mixup from a key: the key is split once, as the authors' code does it."""
  out = {}
  for i, (seed, p) in enumerate(golden.meta['kwargs']['cases']):
    new_key, key = jax.random.split(jax.random.PRNGKey(seed))
    images, targets = augment.mixup(golden.inputs['images'], golden.inputs['labels'], key, p)
    share, _ = augment.mixup(jnp.array([1., 0.]), jnp.array([1., 0.]), key, p)
    out |= {f'{i}/new_rng': new_key, f'{i}/images': images, f'{i}/labels': targets,
            f'{i}/a': share[0]}
  return out


SYSTEMS = dict(vit_jax=vit_google, vit_jax_resize=vit_google, bv_vit=vit_big_vision,
               bv_vit_load=vit_big_vision, bv_mixup=big_vision_mixup, **recipes.SYSTEMS)


def difference(got, want: np.ndarray) -> float:
  """Returns the largest difference; NaN where shapes differ. JSON is equal (0) or not (infinite)."""
  if want.dtype.kind == 'U':
    return 0. if got == recipes.canonical(json.loads(str(want))) else float('inf')
  if np.shape(got) != want.shape:
    return float('nan')
  return float(np.abs(np.asarray(got, np.float64) - np.asarray(want, np.float64)).max())


def errors(path: str) -> list[Error]:
  """Runs our implementation on a golden file and returns the error of each of its outputs."""
  golden = read(path)
  system = golden.meta['system']
  if system not in SYSTEMS:
    raise KeyError(f'{path}: no implementation of system {system!r} yet')
  got = SYSTEMS[system](golden)
  tolerances = golden.meta.get('outputs', {})
  out = []
  for name, want in golden.outputs.items():
    entry = tolerances.get(name)
    if entry is None:  # schedules: relative
      tolerance = 1e-6 * float(np.abs(want).max())
    else:
      tolerance = 0. if entry.get('exact') else entry['suggested_atol']
    out.append(Error(name, difference(got.get(name), want), tolerance))
  return out


def main(paths: list[str]) -> int:
  """Prints the table for each file; returns the exit code."""
  failed = False
  for path in paths:
    print(path)
    for entry in errors(path):
      failed |= not entry.passed
      print(f'  {entry.output:72s} {entry.error:10.2e} {entry.tolerance:10.2e} '
            f'{"ok" if entry.passed else "FAILED"}')
  return int(failed)


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
