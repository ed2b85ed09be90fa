"""Pre-train with a chosen augmentation and regularisation (How to train your ViT, arXiv:2106.10270).

    python -m vit_jax.main --config=configs/augreg.py:model=vit_b16,data=imagenet21k,aug=light1,wd=.03 \\
        --workdir=runs/vit_b16_augreg
    python -m vit_jax.main --workdir=runs/vit_b16_augreg_cifar10 \\
        --config=configs/vit_finetune.py:model=vit_b16,pretrained=augreg,dataset=cifar10

Every cell of the paper's grid (section 3.3): seven levels `aug` of RandAugment and mixup, weight decay
`wd` .03 or .1, dropout `do` and stochastic depth `sd` 0 or .1, 300 `epochs` on imagenet1k, 30 or 300 on
imagenet21k (`data`, or any `dataset`), for Ti/16, S/32, S/16, B/32, B/16, B/8, L/16 and the hybrids
R+Ti/16, R26+S/32 and R50+L/32. `aug` left out is the level that big_vision's configs/vit_i1k.py and
vit_i21k.py have for the model; for hybrids and B/8, of which they say nothing, that of the ViT of the
same width. A published file says its cell in its name:
`B_16-i21k-300ep-lr_0.001-aug_light1-wd_0.1-do_0.0-sd_0.0`.

Batch 4096, Adam with its first moment in bfloat16, peak 1e-3 after 10,000 steps, cosine, clip 1, sigmoid
loss with a head that starts at -6.9 (1k) or -10 (21k), 1 % of ImageNet-1k kept for choices.
variant=code: the mean of the patches is classified on ImageNet-21k, as in big_vision's config;
variant=paper: the class token, as in the paper and its published files. On ImageNet-1k both have the
class token and, as the config has it, a layer of tanh.

Arguments: model, data, dataset, aug, wd, do, sd, epochs, lr, resolution, batch_size, variant, smoke.

Hardware and time: not measured. Paper: its results are a list of 50,000 files (index.csv), not a table.
Measured: not measured.
"""

from vit_jax import config, recipes

# Level: p of mixup, magnitude of RandAugment's two layers; None: neither.
LEVELS = dict(none=(0., None), light1=(0., 0.), light2=(.2, 10.), medium1=(.2, 15.), medium2=(.5, 15.),
              strong1=(.5, 20.), strong2=(.8, 20.))

# The level of each model on ImageNet-1k and on ImageNet-21k.
USUAL = dict(
    vit_ti16=('light1', 'none'), vit_s32=('medium1', 'none'), vit_s16=('medium2', 'light1'),
    vit_b32=('medium2', 'light2'), vit_b16=('medium2', 'light2'), vit_b8=('medium2', 'light2'),
    vit_l16=('medium2', 'medium2'), r_ti16=('light1', 'none'), r26_s32=('medium1', 'none'),
    r50_l32=('medium2', 'medium2'))


def get_config(arg=None):
  a = config.arguments(arg, model='vit_s16', data='', dataset='', aug='', wd=.1, do=0., sd=0.,
                       epochs=300., lr=1e-3, resolution=(224, 224), batch_size=4096, variant='code',
                       smoke=False)
  large = a.data == 'imagenet21k'
  level = a.aug or recipes.one_of('model without aug=LEVEL', a.model, USUAL)[large]
  mixing, magnitude = recipes.one_of('level of augmentation', level, LEVELS)
  pool = recipes.one_of('variant', a.variant, dict(code='mean' if large else 'token', paper='token'))
  c = config.base()
  c.total_epochs = a.epochs
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='sigmoid',
                label_smoothing=0.)
  c.model = recipes.model(a.model, hidden_layer=not large, pool=pool, dropout_rate=a.do,
                          drop_path_rate=a.sd, scan=True, remat='none',
                          head_bias=-10. if large else -6.9)
  c.data = recipes.pretraining_data(a, minival=True)
  if magnitude is not None:
    c.data.augment.append(dict(name='randaugment', flavor='tf', layers=2, magnitude=magnitude))
  if mixing:
    c.data.augment.append(dict(name='mixup', p=mixing))
  c.optimizer = dict(name='adam', momentum_dtype='bfloat16', weight_decay=a.wd, clip_norm=1.)
  c.schedule = dict(name='cosine', peak=a.lr, **recipes.warmup(a, c, 10_000))
  recipes.evaluate_and_save(c)
  if a.smoke:
    recipes.smoke(c)
  return c
