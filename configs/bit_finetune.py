"""Fine-tune by BiT-HyperRule (BiT, arXiv:1912.11370, section 3.3; google-research/big_transfer).

    python -m vit_jax.main --workdir=runs/bit_r50x1_cifar10 \\
        --config=configs/bit_finetune.py:model=bit_r50x1,dataset=cifar10,init_from=FILE

The rule has no free choice: SGD with momentum 0.9 and rate 0.003 per 512 images, divided by ten at 30,
60 and 90 % of the run (of 500 steps: after 200, 300 and 400). Below 20,000 training images (`examples`)
there are 500 steps and no mixup, below 500,000 there are 10,000, else 20,000, with mixup of 0.1. Images
below 96x96 pixels (`small`) are resized to 160x160 and cut to 128x128, others 512x512 and 480x480; test
images are squashed to that size. Both are known of cifar10, cifar100, imagenet2012, oxford_iiit_pet and
oxford_flowers102; of any other data set say them. Flips are random, as in the paper; the published
TensorFlow code flips every training image.

It is one of the two ways in which the ViT paper's table 7 fine-tunes; configs/vit_finetune.py is the
other.

Arguments: model, dataset, init_from, pretrained (as in configs/vit_finetune.py), examples (0: 1,000),
small, batch_size, smoke (on the digits).

Hardware and time: not measured. Paper: BiT-M R50x1 on CIFAR-10 97.35 %. Measured: not measured.
"""

from vit_jax import config, recipes

# Training images, and whether they are small.
KNOWN = dict(cifar10=(50_000, True), cifar100=(50_000, True), imagenet2012=(1_281_167, False),
             oxford_iiit_pet=(3_680, False), oxford_flowers102=(1_020, False))

# Below so many images: steps, steps at which the rate drops, warm-up, mixup.
RULE = ((20_000, 500, (200, 300, 400), 100, 0.), (500_000, 10_000, (3_000, 6_000, 9_000), 500, .1),
        (float('inf'), 20_000, (6_000, 12_000, 18_000), 500, .1))


def get_config(arg=None):
  a = config.arguments(arg, model='bit_r50x1', dataset='digits', init_from='', pretrained='', examples=0,
                       small=False, batch_size=512, smoke=False)
  examples, small = KNOWN.get(a.dataset, (a.examples or 1_000, a.small))
  steps, drops, warmup, mixup = next(rest for below, *rest in RULE if examples < below)
  full, cut = (160, 128) if small else (512, 480)
  c = config.base()
  c.name = '_'.join(filter(None, (a.model, a.pretrained, a.dataset.strip('/').replace('/', '_'), 'bit')))
  c.total_steps = steps
  c.init_from = a.init_from or (f'runs/{a.model}_{a.pretrained}' if a.pretrained else '')
  c.reset_head = bool(a.pretrained)
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax',
                label_smoothing=0.)
  c.model = recipes.model(a.model)
  c.data = config.image_data(a.dataset, (cut, cut), a.batch_size)
  if a.dataset == 'imagenet2012':
    c.data.test = 'validation'
  c.data.crop = dict(name='random', ratio=cut / full, squash=True)
  c.data.augment = [dict(name='flip')]
  if mixup:
    c.data.augment.append(dict(name='mixup_cutmix', mixup=mixup, cutmix=0.))
  c.optimizer = dict(name='sgd', momentum=.9, weight_decay=0.)
  # The published loop looks the rate of step s up at s + 1.
  c.schedule = dict(name='staircase', form='timm', peak=.003 * a.batch_size / 512., warmup_steps=warmup,
                    boundaries=tuple(s + 1 for s in drops), factors=(.1, .01, .001))
  recipes.evaluate_and_save(c)
  if a.smoke:
    if a.dataset in KNOWN:
      c.data.update(source='digits', train='train', test='test')
    recipes.smoke(c)
  return c
