"""Gathers pictures and facts on one self-contained HTML page."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vit_jax import files
from vit_jax.errors import UserError

if TYPE_CHECKING:
  from matplotlib.figure import Figure
  from PIL.Image import Image

DPI = 200  # of pictures that hold pixels: sharp on a dense screen
CSS_DPI = 96

STYLE = """
:root { color-scheme: light dark; --ink: #1f2430; --muted: #687080; --line: #dfe3ea;
  --page: #fafbfc; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --muted: #9aa3b2; --line: #323946; --page: #14171d; } }
body { margin: 0 auto; padding: 3rem 1.25rem 5rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 3rem 0 .5rem; }
p { max-width: 42rem; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .25rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { padding-right: 2rem; font-weight: 400; color: var(--muted); white-space: nowrap; }
figure { margin: 1.25rem 0; }
figure img { display: block; box-sizing: border-box; max-width: 100%; height: auto;
  padding: .75rem; border-radius: .5rem; background: #fff; border: 1px solid var(--line); }
figcaption { margin-top: .5rem; max-width: 42rem; font-size: .875rem; color: var(--muted); }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""


@dataclass(frozen=True)
class Picture:
  """A matplotlib Figure or PIL image, and the caption under it, which is its alt text too."""
  image: Figure | Image
  caption: str


@dataclass(frozen=True)
class Section:
  """A heading, a text (a blank line starts a new paragraph) and the pictures below it."""
  title: str
  text: str = ''
  figures: Sequence[Picture] = ()


def write_page(path: str | os.PathLike, title: str, sections: Sequence[Section],
               facts: Mapping[str, object]) -> None:
  """Writes one HTML file that needs no other file and no network.

  All text is escaped. The file appears whole or not at all: it is written beside its place and
  then renamed.

  Args:
    path: where to; the folder is made if missing.
    title: the heading.
    sections: what follows, in order.
    facts: names and values of the table on top.
  """
  body = [_table(facts)] if facts else []
  body += [_section(section) for section in sections]
  text = PAGE.format(title=html.escape(title), style=STYLE, body='\n'.join(body))
  path = os.path.abspath(path)
  os.makedirs(os.path.dirname(path), exist_ok=True)
  unfinished = f'{path}.{os.getpid()}.tmp'
  try:
    with open(unfinished, 'w', encoding='utf-8') as file:
      file.write(text)
    os.replace(unfinished, path)
  finally:
    if os.path.exists(unfinished):
      os.remove(unfinished)


def encode(image: Figure | Image) -> tuple[str, bytes, int]:
  """A picture as (media type, file content, width in CSS pixels).

  Line art becomes SVG, sharp at any size; what holds pixels becomes PNG.
  """
  buffer = io.BytesIO()
  if not hasattr(image, 'savefig'):
    image.save(buffer, 'png')
    return 'image/png', buffer.getvalue(), image.width
  width = round(image.get_figwidth() * CSS_DPI)
  if any(axes.images for axes in image.axes):
    image.savefig(buffer, format='png', dpi=DPI)
    return 'image/png', buffer.getvalue(), width
  image.savefig(buffer, format='svg', metadata={'Date': None})
  return 'image/svg+xml', buffer.getvalue(), width


def _table(facts: Mapping[str, object]) -> str:
  rows = (f'<tr><th scope="row">{html.escape(str(name))}</th>'
          f'<td>{html.escape(str(value))}</td></tr>' for name, value in facts.items())
  return '<table>\n' + '\n'.join(rows) + '\n</table>'


def _section(section: Section) -> str:
  paragraphs = [f'<p>{html.escape(part.strip())}</p>'
                for part in section.text.split('\n\n') if part.strip()]
  return '\n'.join(['<section>', f'<h2>{html.escape(section.title)}</h2>', *paragraphs,
                    *map(_figure, section.figures), '</section>'])


def _figure(picture: Picture) -> str:
  # As an image rather than inline: ids of two SVGs can't clash, and nothing inside it can run.
  media_type, content, width = encode(picture.image)
  data = base64.b64encode(content).decode()
  caption = html.escape(picture.caption)
  return (f'<figure><img src="data:{media_type};base64,{data}" alt="{caption}" width="{width}">'
          f'<figcaption>{caption}</figcaption></figure>')


def save_figure(image: Figure | Image, path: str) -> None:
  """Writes a picture in the format that the path ends with.

  Raises:
    UserError: for an ending that is no picture format, or a file that cannot be written; then nothing is
      left of it.
  """
  kind = os.path.splitext(path)[1][1:].lower() or 'png'
  try:
    with files.replacing(path, 'wb') as file:
      if hasattr(image, 'savefig'):
        image.savefig(file, dpi=DPI, format=kind)
      else:
        image.save(file, dict(jpg='jpeg', tif='tiff').get(kind, kind))
  except OSError as error:
    raise files.cannot_write(error, f'the picture {path!r}') from None
  except (ValueError, KeyError) as error:
    raise UserError(f'cannot write the picture {path!r}: {error}') from None
