"""Published checkpoints by name: what is known of each, and the file in the cache.

    vit_jax.list_pretrained('*b16*')                      # {name: Pretrained}
    model, params, info = vit_jax.load('vit_b16.augreg_imagenet21k', num_classes=10, image_size=384)

A name is that of a model, a dot, and what it was trained on.
"""

import fnmatch
import os
import urllib.parse
from collections.abc import Mapping

from vit_jax.errors import unknown
from vit_jax.pretrained.download import fetch, https
from vit_jax.pretrained import cnn, convnext, files, nat, swin
from vit_jax.pretrained.files import Pretrained

__all__ = ['PRETRAINED', 'Pretrained', 'cache_path', 'find', 'list_pretrained', 'resolve']

PRETRAINED: dict[str, Pretrained] = {**files.PRETRAINED, **convnext.CONVNEXT, **nat.NAT, **swin.SWIN,
                                     **cnn.CNN}


def list_pretrained(pattern: str = '*', known: Mapping[str, Pretrained] = PRETRAINED
                    ) -> dict[str, Pretrained]:
  """Returns {name: what is known of it} of the published checkpoints that fit a shell pattern."""
  return {name: known[name] for name in sorted(fnmatch.filter(known, pattern))}


def find(name: str, known: Mapping[str, Pretrained] = PRETRAINED) -> Pretrained | None:
  """Returns the published checkpoint of that name; None for any other text.

  A path that exists is never taken for a name.

  Args:
    name: whatever a user may give as weights.
    known: the published checkpoints.

  Raises:
    UserError: for a model's name, a dot and something unknown behind it; the nearest name is given.
  """
  if name in known and not os.path.exists(name):
    return known[name]
  own = list_pretrained(name.partition('.')[0] + '.*', known)
  if '.' in name and own and not os.path.exists(name):
    raise unknown('published checkpoint', name, own)
  return None


def resolve(path: str, known: Mapping[str, Pretrained] = PRETRAINED) -> str:
  """Returns the file that a name of the list or an address stands for, downloaded once; else `path`.

  Args:
    path: of a workdir or file, a name of `list_pretrained()`, or an address that begins with https://,
      http:// or gs://.
    known: the published checkpoints.

  Raises:
    UserError: as `find`, or when the file cannot be had; the sentence names the place to put it at.
  """
  published = None if '://' in path else find(path, known)
  if published:
    return fetch(published.url, cache_path(published.url), published.sha256)
  return fetch(path, cache_path(path)) if '://' in path else path


def cache_path(url: str) -> str:
  """Returns where the file of an address lies, or is to be put: host and path below the cache.

  The cache is `$VIT_JAX_CACHE`, or `vit_jax/weights` in `$XDG_CACHE_HOME` or `~/.cache`.
  """
  root = os.environ.get('VIT_JAX_CACHE') or os.path.join(
      os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache'), 'vit_jax', 'weights')
  parts = urllib.parse.urlsplit(https(url))
  names = [part for part in urllib.parse.unquote(parts.path).split('/') if part not in ('', '.', '..')]
  return os.path.join(root, parts.netloc.replace(':', '_'), *names)
