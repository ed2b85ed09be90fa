"""Fine-tune a ViT at a higher resolution (ViT paper, arXiv:2010.11929, section 4.1, appendix B.1.1).

    python -m vit_jax.main --config=configs/vit_finetune.py:model=vit_b16,dataset=PATH,init_from=FILE \\
        --workdir=runs/b16_mine

`init_from` is the workdir of a run, a checkpoint in it, or a published .npz file. Position
embeddings are interpolated to `resolution`; where the classes differ the head starts anew from
zero. `dataset` is a built-in name or a folder with PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg.

The recipe is the paper's for CIFAR: SGD with momentum 0.9, batch 512, 10,000 steps of cosine decay
after 500 of warm-up, gradients clipped at norm 1, no weight decay. The learning rate is chosen among
0.001, 0.003, 0.01 and 0.03 on a part held out of training:
`--config.data.train='train[:98%]' --config.data.test='train[98%:]'`.

Arguments: model, dataset, init_from, resolution (pixels, 384 or 256x512), batch_size, steps, smoke
(the same recipe for a minute on a CPU, on the digits unless a dataset is named).

Hardware and time: not measured. Paper: ViT-B/16, ImageNet-21k to CIFAR-10, 98.95 (table 5).
Measured: not measured.
"""

from vit_jax import config


def get_config(arg=None):
  a = config.arguments(arg, model='vit_b16', dataset='digits', init_from='', resolution=(384, 384),
                       batch_size=512, steps=10_000, smoke=False)
  c = config.base()
  c.total_steps = a.steps
  c.init_from = a.init_from
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=0.)
  c.model = dict(name=a.model, dropout_rate=0., drop_path_rate=0., scan=True, remat='none',
                 dtype='float32')
  c.data = config.image_data(a.dataset, a.resolution, a.batch_size)
  c.data.crop = dict(name='random', ratio=384. / 448.)
  c.data.augment = [dict(name='flip')]
  c.optimizer = dict(name='sgd', momentum=.9, clip_norm=1., weight_decay=0., freeze=())
  c.schedule = dict(name='cosine', peak=.03, warmup_steps=500)
  c.evaluate.every = 1_000
  c.checkpoint.every = 1_000
  if a.smoke:
    config.smoke(c)
    c.schedule.warmup_steps = 2
  return c
