"""Weights in and out: published formats, runs, and fitting them to a model."""

from vit_jax.weights.exporting import check_format, export
from vit_jax.weights.families import Source
from vit_jax.weights.fitting import differences, fit_model
from vit_jax.weights.formats import UnknownFormat
from vit_jax.weights.initializing import (check_classes, check_head, follow_protocol, initialize,
                                          replaced)
from vit_jax.weights.loading import Loaded, load, pair, read, run_model
from vit_jax.weights.origin import File, Run, origin
from vit_jax.weights.positions import POSITIONS
from vit_jax.weights.published import candidates
from vit_jax.weights.runs import run_config
from vit_jax.weights.shapes import complete, flatten, init_shapes, unflatten, variable_shapes

__all__ = ['POSITIONS', 'File', 'Loaded', 'Run', 'Source', 'UnknownFormat',
           'candidates', 'check_classes', 'check_format',
           'check_head', 'complete', 'differences', 'export', 'fit_model', 'flatten',
           'follow_protocol', 'init_shapes', 'initialize', 'load', 'origin', 'pair', 'read', 'replaced',
           'run_config', 'run_model', 'unflatten', 'variable_shapes']
