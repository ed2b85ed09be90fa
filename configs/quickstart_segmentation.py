"""Quickstart of segmentation: handwritten digits in composed scenes, on a CPU, without any network.

    python -m vit_jax.main --config=configs/quickstart_segmentation.py \\
        --workdir=runs/quickstart-segmentation

A pixel belongs to the digit whose ink, widened by two pixels, covers it, or to the background: 11
classes, 4,096 training scenes, 300 test scenes of digits that no training scene has. The backbone is a
small ResNet, of which the map of stride 4 is read by Segmenter's linear decoder;
`decoder=mask` takes the mask transformer instead, at the same number of steps. lr=0 is the decoder's own
rate.

Hardware and time, and what was measured: see docs/segmentation.md. Paper: it has no such experiment.
"""

from detr_jax import recipes
from detr_jax.data.config import segmentation_data
from vit_jax import config
from vit_jax.recipes import evaluate_and_save, one_of

RATES = dict(linear=2e-3, mask=6e-4)  # at 2e-3 the mask transformer stays with the background


def get_config(arg=None):
  a = config.arguments(arg, decoder='linear', steps=600, batch_size=16, lr=0., smoke=False)
  rate = a.lr or one_of('decoder', a.decoder, RATES)
  c = config.base()
  c.total_steps = a.steps
  c.task = dict(name='detr_jax.tasks.segmentation.Segmentation')
  fields = dict(norm='batch', width=24, depths=(1, 1, 2))
  c.model = dict(name=f'segmenter_s16_{a.decoder}', backbone='resnet20_cifar', backbone_fields=fields,
                 decoder=a.decoder, decoder_heads=4)
  c.data = segmentation_data('digit_maps', a.batch_size, (64, 64))
  c.data.transforms = [dict(name='random_scale', low=.8, high=1.25),
                       dict(name='window', size=(64, 64), most=1.)]
  c.data.mean, c.data.std = (.1,) * 3, (.25,) * 3
  c.optimizer = dict(name='adamw', weight_decay=.05, clip_norm=1., b2=.99)
  c.schedule = dict(name='cosine', peak=rate, warmup_steps=max(c.total_steps // 12, 1))
  c.log.every = max(c.total_steps // 20, 1)
  evaluate_and_save(c, times=4)
  if a.smoke:
    recipes.smoke_segmenter(c)
  return c
