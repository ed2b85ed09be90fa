"""Images for detectors to look at, and the command that has them look."""

import sys

import numpy as np
import pytest
from PIL import Image

from vit_jax import predict


@pytest.fixture(scope='session')
def folder(tmp_path_factory) -> str:
  """Returns a folder of three images of noise, of different shapes; not to be written to."""
  path = tmp_path_factory.mktemp('images')
  for i, size in enumerate(((40, 60), (64, 64), (90, 50))):
    pixels = np.random.default_rng(i).integers(0, 255, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path / f'{i}.png')
  return str(path)


@pytest.fixture
def run(monkeypatch):
  """Returns what runs `predict` with arguments."""
  def call(*argv):
    monkeypatch.setattr(sys, 'argv', ['predict', *argv])
    predict.main()
  return call
