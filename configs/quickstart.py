"""A ViT learns handwritten digits at 16x16 pixels, then at 24x24 with interpolated positions.

    python -m vit_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

The method of the ViT paper (arXiv:2010.11929, section 3.2: fine-tuning at a higher resolution with
2-D interpolated position embeddings) on 1,797 real images that ship inside scikit-learn, so that
nothing is downloaded.

Hardware and time: two cores of an AMD EPYC, 2 minutes 10 seconds.
Paper: it has no such experiment. Measured on the 355 test images: 98.0 % after
pre-training, 99.4 % after fine-tuning (seeds 1 and 2: 97.7 then 98.9, 98.0 then 98.6).
"""

from ml_collections import ConfigDict

from vit_jax import config
from vit_jax.recipes import evaluate_and_save


def get_config(arg=None):
  a = config.arguments(arg, smoke=False)
  c = ConfigDict()
  c.stages = [_stage('pretraining', (16, 16), epochs=2. if a.smoke else 30., peak=3e-3),
              _stage('finetuning', (24, 24), epochs=2. if a.smoke else 40., peak=2e-3)]
  c.explore = 30
  return c


def _stage(name, resolution, epochs, peak):
  c = config.base()
  c.name = name
  c.total_epochs = epochs
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=.1)
  c.model = dict(name='vit_ti16', patch_size=4, width=96, depth=4, num_heads=4, mlp_dim=192,
                 pool='mean')
  c.data = config.image_data('digits', resolution, batch_size=64)
  c.data.augment = [dict(name='affine', degrees=12., translate=.1, scale=.2, shear=.1)]
  c.data.interpolation = 'bicubic'
  c.optimizer = dict(name='adamw', weight_decay=.05, clip_norm=1.)
  c.schedule = dict(name='cosine', peak=peak, warmup_steps=40 if epochs < 10. else 100)
  evaluate_and_save(c, times=2 if epochs < 10. else 12)
  return c
