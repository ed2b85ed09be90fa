"""Pre-train a Big Transfer ResNet with SGD (BiT, arXiv:1912.11370, section 3.2).

    python -m vit_jax.main --config=configs/bit_pretrain.py:model=bit_r50x1,data=imagenet21k \\
        --workdir=runs/bit_r50x1_imagenet21k

SGD with momentum 0.9, batch 4096, rates that grow with the batch, 90 epochs. variant=code: cosine decay,
gradients clipped at norm 1, and what big_vision's configs/bit_i1k.py and bit_i21k.py have else (the
sigmoid loss on ImageNet-21k with a head that starts at -10). variant=paper: softmax on ImageNet-1k as
there, a rate of 0.03 per 256 images everywhere, 5,000 steps of warm-up, divided by ten after 30, 60 and
80 epochs (on JFT after 10, 23, 30 and 37 of 40), not clipped. The paper's decay of 1e-4 passes through
the momentum, ours does not: 1e-3 comes to the same, and is what big_vision's figures are after division
by the rate.

`data=jft` is SGD's side of the ViT paper's table 7; it says 7 epochs, and we divide the rate at the same
shares of them. Adam's side is configs/vit_pretrain.py:model=bit_r50x1,data=jft.

Arguments: model, data (imagenet1k, imagenet21k, jft), dataset (any source; neither: the digits), epochs
(0: the paper's), resolution, batch_size, variant, smoke.

Hardware and time: not measured. Paper: BiT-M R50x1, fine-tuned on ImageNet-1k, 80.4 %.
Measured: not measured.
"""

from vit_jax import config, recipes

# Epochs, rate per 256 images, warm-up, loss, initial bias of the head.
ROWS = dict(
    imagenet1k=dict(epochs=90., rate=.1, warmup=1_000, loss='softmax', head_bias=0.),
    imagenet21k=dict(epochs=90., rate=.03, warmup=5_000, loss='sigmoid', head_bias=-10.),
    jft=dict(epochs=7., rate=.03, warmup=5_000, loss='sigmoid', head_bias=-10.))

# Where the paper divides the rate by ten, as shares of the run.
DROPS = (30. / 90., 60. / 90., 80. / 90.)
DROPS_JFT = (10. / 40., 23. / 40., 30. / 40., 37. / 40.)


def get_config(arg=None):
  a = config.arguments(arg, model='bit_r50x1', data='', dataset='', epochs=0., resolution=(224, 224),
                       batch_size=4096, variant='code', smoke=False)
  r = recipes.one_of('data', a.data or 'imagenet1k', ROWS)
  paper = recipes.one_of('variant', a.variant, dict(code=False, paper=True))
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss=r['loss'],
                label_smoothing=0.)
  c.model = recipes.model(a.model, head_bias=r['head_bias'])
  c.data = recipes.pretraining_data(a, minival=not paper)
  c.optimizer = dict(name='sgd', momentum=.9, weight_decay=1e-3, clip_norm=0. if paper else 1.)
  if paper:
    drops = DROPS_JFT if a.data == 'jft' else DROPS
    c.schedule = dict(name='staircase', form='timm', peak=.03 * a.batch_size / 256.,
                      **recipes.warmup(a, c, 5_000),
                      boundary_epochs=tuple(share * c.total_epochs for share in drops),
                      factors=tuple(.1 ** (i + 1) for i in range(len(drops))))
  else:
    c.schedule = dict(name='cosine', peak=r['rate'] * a.batch_size / 256.,
                      **recipes.warmup(a, c, r['warmup']))
  recipes.evaluate_and_save(c)
  if a.smoke:
    recipes.smoke(c)
  return c
