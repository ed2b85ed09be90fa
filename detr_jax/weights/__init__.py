"""Weights in and out: published detectors and backbones, runs, and fitting them to a model."""

from detr_jax.weights.exporting import check_format, export
from detr_jax.weights.initializing import check_classes, check_head, follow_protocol, initialize
from detr_jax.weights.loading import candidates, load, origin, read

__all__ = ['candidates', 'check_classes', 'check_format', 'check_head', 'export', 'follow_protocol',
           'initialize', 'load', 'origin', 'read']
