"""Writes docs/config.md, the page of all keys of a config, from their definitions.

    python scripts/config_page.py docs/config.md
"""

import sys

from detr_jax.data.config import DETECTION_DATA, SEGMENTATION_DATA
from vit_jax.config import BASE, IMAGE_DATA

HEAD = """# Keys of a config

Every key can be set on the command line, `--config.KEY=VALUE`. `scripts/config_page.py` makes this page
of the definitions in `vit_jax/config.py` and `detr_jax/data/config.py`; a test compares them.

The sections `model`, `task`, `optimizer` and `schedule` are passed on: `name` chooses a model of
`vit_jax.list_models()` or `detr_jax.list_models()`, the dotted path of a task, an optimizer and a
schedule; all other keys are fields of what is named, see its docstring and
[optimizers.md](optimizers.md).
"""


def table(title: str, keys: dict, before: str = '') -> str:
  """Returns the Markdown table of some keys."""
  shown = lambda value: f'`{value!r}`'.replace('|', r'\|')
  rows = [f'| `{before}{key}` | {shown(default)} | {what} |' for key, (default, what) in keys.items()]
  return '\n'.join([f'## {title}', '', '| key | default | what it is |', '|---|---|---|', *rows, ''])


def page() -> str:
  """Returns the text of the page."""
  return '\n'.join([HEAD, table('Every config', BASE), table('Labelled images', IMAGE_DATA, 'data.'),
                    table('Images with boxes', DETECTION_DATA, 'data.'),
                    table('Images with label maps', SEGMENTATION_DATA, 'data.')])


if __name__ == '__main__':
  with open(sys.argv[1], 'w', encoding='utf-8') as file:
    file.write(page())
