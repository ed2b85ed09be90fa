"""A classifier for small images of one's own, from scratch, without any weights.

    python -m vit_jax.main --workdir=runs/mine
    --config=configs/classifier_small.py:dataset=PATH,network=vit

A folder with train/CLASS/IMAGE and test/CLASS/IMAGE, see docs/data.md, or any other source. `network` is
a small ViT, Swin, NAT, ConvNeXt or ResNet of about 0.3 M parameters, made for images of 32x32 pixels:
all but the ResNet, whose root keeps every pixel, cut patches of 4x4. `resolution` is a multiple of 16.
AdamW with a cosine decay; random crops of at least `min_area` of the image, and mirror images unless
`flip=false`. Further fields of the network: `--config.model.FIELD=VALUE`.

Arguments: dataset, network (vit, swin, nat, convnext, resnet), resolution, batch_size, steps, lr,
min_area, flip, smoke.

Hardware and time, and what was measured: see docs/training.md. Paper: it has no such experiment.
"""

from vit_jax import config, recipes

NETWORKS = dict(
    vit=dict(name='vit_ti16', patch_size=4, width=96, depth=4, num_heads=4, mlp_dim=192, pool='mean'),
    swin=dict(name='swin_t', width=48, depths=(2, 2), num_heads=(2, 4), window_size=4),
    nat=dict(name='nat_mini', width=48, depths=(3, 2), num_heads=(2, 4), kernel_size=3),
    convnext=dict(name='convnext_t', widths=(48, 96), depths=(2, 3)),
    resnet=dict(name='resnet20_cifar', depths=(3, 5, 3)))


def get_config(arg=None):
  a = config.arguments(arg, dataset='', network='vit', resolution=(32, 32), batch_size=128, steps=2_000,
                       lr=2e-3, min_area=.4, flip=True, smoke=False)
  c = config.base()
  c.total_steps = a.steps
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss='softmax', label_smoothing=0.)
  c.model = dict(recipes.one_of('network', a.network, NETWORKS))
  c.data = config.image_data(a.dataset or 'digits', a.resolution, a.batch_size)
  c.data.crop = dict(name='inception', min_area=a.min_area)
  c.data.eval_crop = dict(name='squash')
  c.data.augment = [dict(name='flip')] if a.flip else []
  c.optimizer = dict(name='adamw', weight_decay=.05, clip_norm=1.)
  c.schedule = dict(name='cosine', peak=a.lr, warmup_steps=min(100, a.steps // 10))
  recipes.evaluate_and_save(c, times=5)
  if a.smoke:
    recipes.smoke(c)
  return c
