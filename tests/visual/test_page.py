"""The page is one self-contained file, and all text in it is escaped."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from vit_jax.visual import charts, drawing
from vit_jax.visual.page import Picture, Section, encode, write_page

EVIL = '<script>alert("$1")</script> & \'x\''


class Reader(HTMLParser):
  """Collects tags, and the attributes by which a page can load something."""

  def __init__(self, text: str):
    super().__init__()
    self.tags, self.loads, self.words = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    loading = ('src', 'href', 'srcset', 'data', 'poster', 'action')
    self.loads += [value for name, value in attributes if name in loading]

  def handle_data(self, data):
    self.words.append(data)


@pytest.fixture
def curve():
  return charts.draw_curves({'train/loss': (np.arange(3), np.ones(3))})


@pytest.fixture
def page(tmp_path, curve):
  matrix = charts.draw_confusion(np.eye(2, dtype=int), [EVIL, 'b'])
  sections = [Section(EVIL, f'one {EVIL}\n\ntwo', [Picture(curve, EVIL), Picture(matrix, 'm')]),
              Section('image', figures=[Picture(Image.new('RGB', (8, 4), 'red'), 'red')])]
  path = tmp_path / 'new' / 'page.html'
  write_page(path, EVIL, sections, {EVIL: EVIL, 'steps': 10_000})
  return path


def test_the_page_loads_nothing(page):
  text = page.read_text()
  loads = Reader(text).loads
  assert len(loads) == 3 and all(load.startswith('data:image/') for load in loads)
  assert 'http://' not in text and 'https://' not in text and '@import' not in text
  assert not re.search(r'url\(', text)


def test_all_text_is_escaped(page):
  reader = Reader(page.read_text())
  assert 'script' not in reader.tags
  assert sum(EVIL in words for words in reader.words) == 7  # 2 titles, fact twice, heading, ...


def test_facts_and_sections_are_there_in_order(page):
  words = [word.strip() for word in Reader(page.read_text()).words]
  assert words.index('steps') < words.index('10000') < words.index('two') < words.index('image')


def test_line_art_is_svg_and_pixels_are_png(curve):
  media_type, content, width = encode(curve)
  assert media_type == 'image/svg+xml' and b'<svg' in content and b'<script' not in content
  assert width == round(96 * curve.get_figwidth())
  media_type, content, _ = encode(drawing.draw_filters(np.zeros((2, 4, 4, 3))))
  assert media_type == 'image/png' and Image.open(io.BytesIO(content)).size > (0, 0)


def test_a_pil_image_survives_unchanged(page):
  data = [load for load in Reader(page.read_text()).loads][-1]
  image = Image.open(io.BytesIO(base64.b64decode(data.split(',')[1])))
  assert image.size == (8, 4) and image.getpixel((0, 0)) == (255, 0, 0)


def test_a_failure_leaves_the_old_page(tmp_path):
  class Broken:
    width = 1

    def save(self, *_):
      raise OSError('disk full')

  path = tmp_path / 'page.html'
  write_page(path, 'old', [], {})
  with pytest.raises(OSError):
    write_page(path, 'new', [Section('s', figures=[Picture(Broken(), 'c')])], {})
  assert '<h1>old</h1>' in path.read_text()
  assert [file.name for file in tmp_path.iterdir()] == ['page.html']
