"""Pre-train an MLP-Mixer (arXiv:2105.01601, appendix B, table 4).

    python -m vit_jax.main --config=configs/mixer.py:model=mixer_b16,data=imagenet1k \\
        --workdir=runs/mixer_b16_imagenet1k
    python -m vit_jax.main --workdir=runs/mixer_b16_cifar10 \\
        --config=configs/vit_finetune.py:model=mixer_b16,pretrained=imagenet1k,dataset=cifar10,resolution=224

Adam, batch 4096, peak after 10,000 steps, linear decay, clip 1; RandAugment, mixup and stochastic depth
on ImageNet-1k and -21k, Inception crops and flips alone on JFT. variant=code: the rate ends at 1e-5 of
its peak and 1 % of ImageNet-1k is kept for choices, as in big_vision's configs/mlp_mixer_i1k.py;
variant=paper: it ends at 0. The sigmoid loss, with a head that starts at -6.9 or -10, is big_vision's;
the paper says nothing of it. Sizes that the table does not name for a data set take the row of Mixer-B.
Of 7 and 14 epochs of Mixer-L on JFT the longer is the default.

Arguments: model, data (imagenet1k, imagenet21k, jft), dataset (any source; neither: the digits), epochs
(0: the paper's), resolution, batch_size, variant, smoke.

Hardware and time: not measured. Paper: Mixer-B/16 on ImageNet-1k 76.44 %. Measured: not measured.
"""

from vit_jax import config, recipes

# Epochs, peak, weight decay, magnitude of RandAugment, p of mixup, stochastic depth.
ROWS = dict(
    imagenet1k=dict(b=(300., 1e-3, .1, 15., .5, .1)),
    imagenet21k=dict(b=(300., 1e-3, .1, 10., .2, .1), l=(300., 1e-3, .1, 20., .5, .1)),
    jft=dict(s=(5., 3e-3, .03, 0., 0., 0.), b=(7., 3e-3, .03, 0., 0., 0.),
             l=(14., 1e-3, .03, 0., 0., 0.), h=(14., 1e-3, .03, 0., 0., 0.)))


def get_config(arg=None):
  a = config.arguments(arg, model='mixer_b16', data='', dataset='', epochs=0., resolution=(224, 224),
                       batch_size=4096, variant='code', smoke=False)
  rows = recipes.one_of('data', a.data or 'imagenet1k', ROWS)
  size = a.model.removeprefix('mixer_')[:1]
  epochs, peak, decay, magnitude, mixing, drop_path = rows.get(size, rows['b'])
  end = recipes.one_of('variant', a.variant, dict(code=1e-5, paper=0.))
  c = config.base()
  c.total_epochs = a.epochs or epochs
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='sigmoid',
                label_smoothing=0.)
  c.model = recipes.model(a.model, drop_path_rate=drop_path,
                          head_bias=-6.9 if a.data in ('', 'imagenet1k') else -10.)
  c.data = recipes.pretraining_data(a, minival=a.variant == 'code')
  if magnitude:
    c.data.augment += [dict(name='randaugment', flavor='tf', layers=2, magnitude=magnitude),
                       dict(name='mixup', p=mixing)]
  c.optimizer = dict(name='adam', weight_decay=decay, clip_norm=1.)
  c.schedule = dict(name='linear', peak=peak, end=end * peak, **recipes.warmup(a, c, 10_000))
  recipes.evaluate_and_save(c, times=40)
  if a.smoke:
    recipes.smoke(c)
  return c
