"""Train ViT-S/16 on ImageNet-1k in 90 epochs (Better plain ViT baselines, arXiv:2205.01580).

    python -m vit_jax.main --config=configs/vit_plain.py:data=imagenet1k --workdir=runs/plain

Against the original: fixed sine-cosine positions, the mean of the patches instead of a class token,
RandAugment and a little mixup, batch 1024. variant=paper has a single linear layer as its head,
variant=code a layer of tanh before it, as big_vision's configs/vit_s16_i1k.py.

Arguments: data (imagenet1k) or dataset (any source; neither: the digits), model, epochs (90, 150 or
300 in the paper), resolution, batch_size, variant, smoke.

Hardware and time: not measured. Paper: 76.5 after 90 epochs, 78.5 after 150, 80.0 after 300.
Measured: not measured.
"""

from vit_jax import config, recipes


def get_config(arg=None):
  a = config.arguments(arg, model='vit_s16', data='', dataset='', epochs=90., resolution=(224, 224),
                       batch_size=1024, variant='code', smoke=False)
  c = config.base()
  c.total_epochs = a.epochs
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=0.)
  hidden = recipes.one_of('variant', a.variant, dict(code=True, paper=False))
  c.model = recipes.model(a.model, hidden_layer=hidden, pool='mean', position='sincos', scan=True,
                          remat='none')
  c.data = recipes.pretraining_data(a, minival=True)
  c.data.augment += [dict(name='randaugment', flavor='tf', layers=2, magnitude=10.),
                     dict(name='mixup', p=.2)]
  c.optimizer = dict(name='adam', momentum_dtype='bfloat16', weight_decay=.1, clip_norm=1.)
  c.schedule = dict(name='cosine', peak=1e-3, **recipes.warmup(a, c, 10_000))
  recipes.evaluate_and_save(c, times=40)
  if a.smoke:
    recipes.smoke(c)
  return c
