"""A ViT so small that a test can train it many times."""

from vit_jax import config


def get_config(arg=None):
  a = config.arguments(arg, dataset='digits', resolution=(16, 16), steps=12, model='vit_ti16',
                       scan=False, remat='none', channels=0)
  c = config.base()
  c.total_steps = a.steps
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=.1)
  c.model = dict(name=a.model, patch_size=4, width=32, depth=2, num_heads=4, mlp_dim=64,
                 dropout_rate=0., drop_path_rate=0., scan=a.scan, remat=a.remat)
  c.data = config.image_data(a.dataset, a.resolution, batch_size=32)
  c.data.channels = a.channels
  c.data.augment = [dict(name='affine'), dict(name='mixup', p=.3)]
  c.optimizer = dict(name='adamw', weight_decay=.05, clip_norm=1., freeze=())
  c.schedule = dict(name='cosine', peak=3e-3, warmup_steps=2)
  c.log.every = 1
  c.checkpoint.every = 4
  return c
