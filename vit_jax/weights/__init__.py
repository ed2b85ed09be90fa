"""Weights in and out: published formats, runs, and fitting them to a model."""

from vit_jax.weights.exporting import check_format, export
from vit_jax.weights.fit import POSITIONS, image_kernel
from vit_jax.weights.loading import (Loaded, check_classes, complete, flatten, init_shapes, initialize,
                                     load, model_grid, read, run_config, run_model, unflatten,
                                     variable_shapes)

__all__ = ['POSITIONS', 'Loaded', 'check_classes', 'check_format', 'complete', 'export', 'flatten',
           'image_kernel', 'init_shapes', 'initialize', 'load', 'model_grid', 'read', 'run_config',
           'run_model', 'unflatten', 'variable_shapes']
