"""Writes the parameters of a run or of a published detector in names that other tools read.

    python -m detr_jax.convert runs/my_detector detector.safetensors
    python -m detr_jax.convert detr-r50-e632da11.pth model.safetensors --to=huggingface
    python -m detr_jax.convert runs/my_detector detector.safetensors --to=detr

huggingface: transformers' DetrForObjectDetection, with timm's ResNet. detr: the authors' names.
"""

from vit_jax import convert, errors

if __name__ == '__main__':
  errors.exit_cleanly('detr_jax.convert', lambda: convert.main('detr_jax', __doc__, 'huggingface'))
