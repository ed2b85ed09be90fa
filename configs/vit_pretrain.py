"""Pre-train a ViT from random weights (ViT paper, arXiv:2010.11929, section 4.1 and table 3).

    python -m vit_jax.main --config=configs/vit_pretrain.py:model=vit_b16,dataset=PATH --workdir=runs/b16

`dataset` is a built-in name or a folder with PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg. The
row is the paper's for training on ImageNet-1k: Adam with decoupled weight decay, batch 4096, 300
epochs, cosine decay, dropout 0.1, gradients clipped at norm 1. Small images want a small patch:
`--config.model.patch_size=4`.

Arguments: model, dataset, resolution (pixels, 224 or 256x512), batch_size, epochs, smoke (the same
recipe for a minute on a CPU, on the digits unless a dataset is named).

Hardware and time: not measured. Paper: ViT-B/16 on ImageNet-1k 77.91 (table 5, fine-tuned at 384).
Measured: not measured.
"""

from vit_jax import config


def get_config(arg=None):
  a = config.arguments(arg, model='vit_b16', dataset='digits', resolution=(224, 224),
                       batch_size=4096, epochs=300., smoke=False)
  c = config.base()
  c.total_epochs = a.epochs
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=0.)
  c.model = dict(name=a.model, dropout_rate=.1, drop_path_rate=0., scan=True, remat='none',
                 dtype='float32')
  c.data = config.image_data(a.dataset, a.resolution, a.batch_size)
  c.data.crop = dict(name='inception', min_area=.05)
  c.data.eval_crop = dict(name='center', ratio=.875)
  c.data.augment = [dict(name='flip')]
  c.optimizer = dict(name='adamw', weight_decay=.3, b1=.9, b2=.999, clip_norm=1., freeze=())
  c.schedule = dict(name='cosine', peak=3e-3, warmup_steps=10_000)
  c.evaluate.every = 5_000
  c.checkpoint.every = 5_000
  if a.smoke:
    config.smoke(c)
    c.schedule.peak, c.schedule.warmup_steps = 1e-3, 5
  return c
