"""Weights in and out: published formats, runs, and fitting them to a model."""

from vit_jax.weights.fit import POSITIONS
from vit_jax.weights.loading import (Loaded, check_classes, complete, export, flatten, init_shapes,
                                     initialize, load, model_grid, read, run_config, run_model,
                                     unflatten, variable_shapes)

__all__ = ['POSITIONS', 'Loaded', 'check_classes', 'complete', 'export', 'flatten', 'init_shapes',
           'initialize', 'load', 'model_grid', 'read', 'run_config', 'run_model', 'unflatten',
           'variable_shapes']
