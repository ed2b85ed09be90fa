"""Lists published checkpoints, shows one, or downloads them.

    python -m vit_jax.pretrained
    python -m vit_jax.pretrained '*b16*'
    python -m vit_jax.pretrained 'detr*'
    python -m vit_jax.pretrained vit_b16.augreg_imagenet21k --fetch
"""

import os
from collections.abc import Mapping

from vit_jax import errors, pretrained
from vit_jax.flags import Parser


def parser() -> Parser:
  """Returns the flags of this command line."""
  flags = Parser(prog='python -m vit_jax.pretrained', description=__doc__)
  flags.add_argument('pattern', nargs='?', default='*', help='a name, or a shell pattern of names')
  flags.add_argument('--fetch', action='store_true', help='download what matches into the cache')
  return flags


def table(found: Mapping[str, pretrained.Pretrained]) -> str:
  """Returns the checkpoints as a table, one line each."""
  width = max(map(len, found))
  measure = next(iter(found.values())).measure
  lines = [f'{"name":{width}}  pixels  {measure:>6}  trained on']
  for name, known in found.items():
    accuracy = '' if known.accuracy is None else f'{known.accuracy:.2f}'
    lines.append(f'{name:{width}}  {known.image_size[0]:6}  {accuracy:>6}  {known.data}')
  return '\n'.join(lines)


def facts(name: str, known: pretrained.Pretrained) -> str:
  """Returns all that is known of one checkpoint."""
  rule, path = known.preprocessing, pretrained.cache_path(known.url)
  accuracy = 'none found' if known.accuracy is None else f'{known.accuracy} % ({known.accuracy_source})'
  return '\n'.join(f'{key:12}  {value}' for key, value in {
      'name': name, 'model': known.model, 'trained on': f'{known.data}; {known.num_classes:,} classes',
      'image size': '{}x{}'.format(*known.image_size),
      'evaluation': f'{known.evaluation}, mean {rule.mean}, std {rule.std}',
      known.measure: accuracy, 'licence': known.licence, 'address': known.url,
      'SHA-256': known.sha256 or 'not published',
      'file': path + ('' if os.path.exists(path) else ' (not there yet)')}.items())


def main() -> None:
  """Runs the command line."""
  from vit_jax import faces
  flags, every = parser().parse_args(), faces.known()
  found = pretrained.list_pretrained(flags.pattern, every)
  if not found:
    raise errors.unknown('published checkpoint', flags.pattern, every)
  if flags.fetch:
    for name in found:
      print(pretrained.resolve(name, every))
  elif len(found) == 1:
    print(facts(*next(iter(found.items()))))
  else:  # a table for each task, whose measures differ
    tables = (pretrained.list_pretrained(flags.pattern, face.KNOWN) for face in faces.faces())
    print('\n\n'.join(table(own) for own in tables if own))


if __name__ == '__main__':
  errors.exit_cleanly('vit_jax.pretrained', main)
