"""Weights in and out: published formats, runs, and fitting them to a model."""

from vit_jax.weights.exporting import check_format, export
from vit_jax.weights.fit import POSITIONS, image_kernel
from vit_jax.weights.initializing import (check_classes, check_head, differences, follow_protocol,
                                          initialize, old_grid, replaced)
from vit_jax.weights.loading import (Loaded, complete, flatten, init_shapes, load, model_grid, pair,
                                     read, run_model, unflatten, variable_shapes)
from vit_jax.weights.published import candidates
from vit_jax.weights.runs import run_config

__all__ = ['POSITIONS', 'Loaded', 'candidates', 'check_classes', 'check_format', 'check_head',
           'complete', 'differences', 'export', 'flatten', 'follow_protocol', 'image_kernel',
           'init_shapes', 'initialize', 'load', 'model_grid', 'old_grid', 'pair', 'read', 'replaced',
           'run_config', 'run_model', 'unflatten', 'variable_shapes']
