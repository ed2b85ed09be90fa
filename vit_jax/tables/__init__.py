"""Published tables as data: each cell of the papers' own is a config of this project.

    python -m vit_jax.tables                                            # lists the tables
    python -m vit_jax.tables vit_table5                                 # prints one
    python -m vit_jax.tables vit_table5 --row='JFT-300M -> CIFAR-10' --column=ViT-B/16   # its commands
    python -m vit_jax.tables vit_table5 --runs=runs                     # measured beside published
"""

from vit_jax.errors import unknown
from vit_jax.tables import convnext, deit, detr, nat, segmenter, swin, vit
from vit_jax.tables.base import Row, Table

__all__ = ['TABLES', 'Row', 'Table', 'table']

TABLES = {t.name: t for t in (*vit.TABLES, *deit.TABLES, *detr.TABLES, *convnext.TABLES,
                              *nat.TABLES, *swin.TABLES, *segmenter.TABLES)}


def table(name: str) -> Table:
  """Returns the table of that name; UserError names the nearest one for an unknown name."""
  if name not in TABLES:
    raise unknown('table', name, TABLES)
  return TABLES[name]
