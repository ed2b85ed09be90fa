"""Train a DeiT on ImageNet-1k, with or without a teacher (arXiv:2012.12877, tables 3 and 9).

    python -m vit_jax.main --workdir=runs/deit_b16 \\
        --config=configs/deit.py:model=deit_b16,data=imagenet1k
    python -m vit_jax.main --workdir=runs/deit_b16_384 \\
        --config=configs/deit.py:model=deit_b16,data=imagenet1k,recipe=finetune,init_from=runs/deit_b16
    python -m vit_jax.main --workdir=runs/deit_s16_distilled \\
        --config=configs/deit.py:model=deit_s16_distilled,data=imagenet1k,distillation=hard,teacher=PATH

recipe=deit is the table's right column: AdamW, batch 1024, 0.0005 per 512 images, 300 epochs of cosine
after 5 of warm-up, stochastic depth, RandAugment, mixup, cutmix, erasing, each image three times in a
batch. As its code runs, the rate changes once per epoch, the decay begins with the warm-up, and a colour
jitter that its options name is not applied beside RandAugment. recipe=vit is the left column: the ViT
paper's ingredients as DeiT's authors list them. recipe=finetune goes from 224 to 384 pixels: 30 epochs
of a constant 5e-6 after the warm-up, next to no weight decay, no stochastic depth. Position tables are
resampled by the rule of the file they come from: bicubic for the authors' own.

variant=code lets the rate run one epoch behind its formula and the distillation token decay, as the
published code does; variant=paper does neither. That code also keeps an average of the weights that it
does not evaluate (`--config.ema_decay=.99996 --config.ema_warmup=false`), and drops the rest of an epoch
that fills no batch: 1,251 steps of 1,024 images.

distillation=hard learns half from the labels, half from what the teacher decides; =soft a tenth from
its probabilities at temperature 3 (section 4). A *_distilled model learns from it with a second head, a
plain one with its only head, which the published code cannot do. variant=code divides the soft loss by
the number of classes too, as that code does. The teacher is a run's workdir, a file, or a name of
`vit_jax.list_pretrained()`; where the file does not tell its model, `--config.task.teacher.name=MODEL`.
The paper's is a RegNetY-16GF (82.9 %): teacher=regnety_16gf.deit_teacher, as the tables take it.
recipe=finetune shows it the larger images, as the paper's teacher saw them.

Arguments: model, data (imagenet1k), dataset (any source; neither: the digits), recipe, init_from,
epochs, batch_size and resolution (0: the recipe's), distillation, teacher, variant, smoke.

Hardware and time: not measured. Paper: Ti 72.2, S 79.8, B 81.8, B at 384 83.1 %; distilled 74.5, 81.2,
83.4, 84.5 %.
Measured: not measured.
"""

from vit_jax import config, recipes
from vit_jax.models.variant import IMAGENET_MEAN, IMAGENET_STD

# Rates are per image of the batch.
RECIPES = dict(
    deit=dict(epochs=300., batch_size=1024, peak=5e-4 / 512., end=1e-5, warmup=5., weight_decay=.05,
              smoothing=.1, dropout=0., drop_path=.1, clip=0., resolution=(224, 224)),
    vit=dict(epochs=300., batch_size=4096, peak=3e-3 / 4096., end=0., warmup=3.4, weight_decay=.3,
             smoothing=0., dropout=.1, drop_path=0., clip=1., resolution=(224, 224)),
    finetune=dict(epochs=30., batch_size=512, peak=5e-6 / 512., end=5e-6, warmup=5., weight_decay=1e-8,
                  smoothing=.1, dropout=0., drop_path=0., clip=0., resolution=(384, 384)))

AUGMENT = (
    dict(name='randaugment', flavor='pil', layers=2, magnitude=9., magnitude_std=.5, increasing=True,
         interpolation='bicubic'),
    dict(name='random_erasing', probability=.25, mode='pixel'),
    dict(name='mixup_cutmix', mixup=.8, cutmix=1., probability=1., switch=.5, mode='batch'))


# Share of the teacher and temperature (section 5.3).
TEACHING = dict(hard=dict(alpha=.5, tau=1.), soft=dict(alpha=.1, tau=3.))


def distilled(a, code: bool) -> dict:
  """Returns what `config.task` of a student has."""
  teaching = recipes.one_of('distillation', a.distillation, {**TEACHING, 'none': None})
  return dict(
      teaching, name='vit_jax.tasks.distillation.Distillation', kind=a.distillation,
      mean_over_classes=code, head='distillation' if '_distilled' in a.model else 'class',
      teacher=dict(init_from=a.teacher, name='',
                   image_size=a.resolution if a.recipe == 'finetune' else None))


def get_config(arg=None):
  a = config.arguments(arg, model='deit_b16', data='', dataset='', recipe='deit', init_from='',
                       epochs=0., batch_size=0, resolution=(0, 0), distillation='none', teacher='',
                       variant='code', smoke=False)
  r = recipes.one_of('recipe', a.recipe, RECIPES)
  code = recipes.one_of('variant', a.variant, dict(code=True, paper=False))
  a.batch_size = a.batch_size or r['batch_size']
  a.resolution = a.resolution if any(a.resolution) else r['resolution']
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.init_from = a.init_from
  c.init_resampling = 'bicubic' if a.init_from else ''  # DeiT's rule, whatever wrote the file
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=r['smoothing'])
  if a.distillation != 'none':
    c.task.update(distilled(a, code))
  c.model = recipes.model(a.model, dropout_rate=r['dropout'], drop_path_rate=r['drop_path'], scan=True,
                          remat='none')
  c.data = recipes.pretraining_data(a)
  c.optimizer = dict(name='adamw', eps=1e-8, weight_decay=r['weight_decay'], clip_norm=r['clip'])
  c.schedule = dict(name='cosine', peak=r['peak'] * a.batch_size, end=r['end'],
                    warmup_epochs=r['warmup'])
  if a.recipe != 'vit':
    c.data.update(channels=3, interpolation='bicubic', mean=IMAGENET_MEAN, std=IMAGENET_STD, repeats=3)
    c.data.crop.min_area = .08
    c.data.augment += [dict(op) for op in AUGMENT]
    c.optimizer.decay = 'deit' if code else 'timm'
    c.schedule.update(form='timm', warmup_from=1e-6, hold_epochs=1., lag_epochs=1. if code else 0.)
  recipes.evaluate_and_save(c, times=60)
  if a.smoke:
    recipes.smoke(c)
  return c
