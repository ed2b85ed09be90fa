"""Fine-tune at a higher resolution (ViT paper, arXiv:2010.11929, section 4.1, appendix B.1.1, table 4).

    python -m vit_jax.main --config=configs/vit_finetune.py:model=vit_b16,dataset=PATH,init_from=FILE \\
        --workdir=runs/b16_mine
    python -m vit_jax.main --workdir=runs/b16_cifar10 \\
        --config=configs/vit_finetune.py:model=vit_b16,pretrained=jft,dataset=cifar10
    python -m vit_jax.tables vit_table5 --row='JFT-300M -> CIFAR-10' --column=ViT-B/16

`init_from` is the workdir of a run, a checkpoint in it, or a published file. Position embeddings are
interpolated to `resolution`; where the classes differ the head starts anew from zero. `pretrained=LABEL`
says what the model learnt from, as the tables do: weights then come from runs/MODEL_LABEL unless
`init_from` is given, and the whole head starts anew, as in the paper.

The recipe: SGD with momentum 0.9, batch 512, cosine decay after a warm-up, gradients clipped at norm 1,
no weight decay. Steps, crops, splits and the rates to try belong to the data set: cifar10, cifar100,
imagenet2012, oxford_iiit_pet, oxford_flowers102 and vtab/TASK, TFDS names under
`--config.data.data_dir`; any other `dataset`, a built-in name or a folder, is treated as CIFAR, but its
test images are squashed. `heldout` trains on a part of the training data and tests on the rest, to
choose `lr` (0: .03; VTAB .01); `validation` chooses the best step on that rest, and tests on the test
split. ImageNet-ReaL: `real=FILE`, its real.json, or `real=tfds`, the data set imagenet2012_real. Table
2's ImageNet: `resolution=512,ema=.9999` (ViT-H/14: 518), plain averages.

variant=code: momentum in bfloat16 and Flowers' 1,020 training images, as vision_transformer and
big_vision have them. variant=paper: float32, and 2,040 with the validation split (the ViT paper does not
say; its authors' next one, arXiv:2105.01601, has 2k). ViT-H/14 at 384 sees 378x378: the published code
cuts 27x27 patches out of 384 pixels and drops the rest. The sources are silent on warm-up and crops of
VTAB: 500 steps; as BiT, whose protocol it is, crops and flips but not where they change the label.
Crops are big_vision's (configs/transfer.py); vision_transformer's code crops as Inception everywhere.

MLP-Mixers are fine-tuned by the same recipe, with resolution=224 and other rates to try
(arXiv:2105.01601, appendix C), AugReg's models too (arXiv:2106.10270, with other numbers of steps).

Arguments: model, dataset, init_from, pretrained, resolution (pixels, 384 or 256x512; 0: 384),
batch_size, steps (0: the data set's), lr, heldout, validation, ema, real, variant, smoke (the same
recipe for a minute on a CPU, on the digits).

Hardware and time: not measured. Paper: ViT-B/16, ImageNet-21k to CIFAR-10, 98.95 (table 5).
Measured: not measured.
"""

from vit_jax import config, models, recipes

RATES = (.001, .003, .01, .03)
CROP = dict(name='random', ratio=384. / 448.)
INCEPTION = dict(name='inception', min_area=.05)
CENTER = dict(name='center', ratio=384. / 448.)
SQUASH = dict(name='squash')
FLIP = (dict(name='flip'),)

# Steps, warm-up and rates of table 4; splits of appendix B.1.1.
ROWS = dict(
    cifar=dict(steps=10_000, warmup=500, rates=RATES, crop=CROP, augment=FLIP, heldout=98),
    imagenet2012=dict(steps=20_000, warmup=500, rates=(.003, .01, .03), crop=INCEPTION, augment=FLIP,
                      heldout=99),
    small=dict(steps=500, warmup=100, rates=RATES, crop=INCEPTION, augment=FLIP, heldout=90),
    vtab=dict(steps=2_500, warmup=500, rates=(.01,), crop=dict(CROP, squash=True), augment=FLIP),
    vtab_structured=dict(steps=2_500, warmup=500, rates=(.01,), crop=SQUASH, augment=()))
ROW_OF = dict(cifar10='cifar', cifar100='cifar', imagenet2012='imagenet2012', oxford_iiit_pet='small',
              oxford_flowers102='small')


def row(dataset):
  """Returns what belongs to a data set."""
  if dataset.startswith('vtab/'):
    from vit_jax.data.sources import vtab
    structured = vtab.task(dataset.removeprefix('vtab/')).group == 'structured'
    return ROWS['vtab_structured' if structured else 'vtab']
  return ROWS[ROW_OF.get(dataset, 'cifar')]


def splits(dataset, variant):
  """Returns the training split, its two parts where some of it is held out, and the test split."""
  if dataset.startswith('vtab/'):
    return 'train', 'train800', 'val200', 'test'
  if dataset == 'oxford_flowers102' and variant == 'paper':
    return 'train+validation', 'train+validation[:80%]', 'validation[80%:]', 'test'
  share, test = row(dataset)['heldout'], 'validation' if dataset == 'imagenet2012' else 'test'
  return 'train', f'train[:{share}%]', f'train[{share}%:]', test


def usual_resolution(model):
  """Returns the largest size within 384 pixels that the model's patches fill."""
  patch = models.variant(model).arguments.get('patch_size', 1)
  return (384 - 384 % patch,) * 2


def sweep(arg=None):
  """Returns the learning rates to try on the held-out split."""
  a = arguments(arg)
  rates = row(a.dataset)['rates']
  if a.dataset == 'imagenet2012' and a.model.startswith(('bit', 'r50', 'r26')):  # ResNets and hybrids
    return (*rates, .06)
  if a.model.startswith('mixer') and rates == RATES:
    return (*rates[1:], .06)
  return rates


def arguments(arg):
  return config.arguments(
      arg, model='vit_b16', dataset='digits', init_from='', pretrained='', resolution=(0, 0),
      batch_size=512, steps=0, lr=0., heldout=False, validation=False, ema=0., real='', variant='code',
      smoke=False)


def get_config(arg=None):
  a = arguments(arg)
  r = row(a.dataset)
  published = a.dataset in ROW_OF or a.dataset.startswith('vtab/')
  c = config.base()
  c.name = '_'.join(filter(None, (a.model, a.pretrained, a.dataset.strip('/').replace('/', '_'))))
  c.total_steps = a.steps or r['steps']
  c.init_from = a.init_from or (f'runs/{a.model}_{a.pretrained}' if a.pretrained else '')
  c.reset_head = bool(a.pretrained)
  c.ema_decay, c.ema_warmup = a.ema, False
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=0.)
  c.model = recipes.model(a.model, dropout_rate=0., drop_path_rate=0., scan=True, remat='none')
  c.data = config.image_data(a.dataset, a.resolution if any(a.resolution) else
                             usual_resolution(a.model), a.batch_size)
  whole, part, rest, test = splits(a.dataset, a.variant)
  c.data.train, c.data.test = part if a.heldout or a.validation else whole, rest if a.heldout else test
  c.data.validation = rest if a.validation and not a.heldout else ''
  c.data.crop, c.data.augment = dict(r['crop']), [dict(op) for op in r['augment']]
  c.data.eval_crop = dict(CENTER if published and not a.dataset.startswith('vtab/') else SQUASH)
  if a.real == 'tfds' and not a.heldout:  # training images have no such labels
    c.data.mixture = [dict(source=a.dataset, train=c.data.train, weight=1.)]
    c.data.source = 'imagenet2012_real'
  elif not a.heldout:
    c.data.real = a.real
  momentum = recipes.one_of('variant', a.variant, dict(code='bfloat16', paper='float32'))
  c.optimizer = dict(name='sgd', momentum=.9, momentum_dtype=momentum, clip_norm=1., weight_decay=0.,
                     freeze=())
  c.schedule = dict(name='cosine', peak=a.lr or (.01 if a.dataset.startswith('vtab/') else .03),
                    warmup_steps=r['warmup'])
  recipes.evaluate_and_save(c)
  if a.smoke:
    if published:
      c.data.update(source='digits', train='train', validation='', test='test')
    recipes.smoke(c)
  return c
