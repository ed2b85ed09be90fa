"""Pre-train a ViT, a hybrid or a ResNet from random weights (ViT paper, arXiv:2010.11929, table 3).

    python -m vit_jax.main --config=configs/vit_pretrain.py:model=vit_b16,dataset=PATH --workdir=runs/b16
    python -m vit_jax.main --config=configs/vit_pretrain.py:model=vit_l16,data=imagenet21k \\
        --workdir=runs/vit_l16_imagenet21k

`data` is a part of the table: imagenet1k (the default), imagenet21k or jft. Each names its TFDS data
set, under `--config.data.data_dir`; JFT-300M is not public, so `data=jft` wants `dataset=FOLDER` with
TFRecord shards of your own. `dataset` is any other source for the same recipe: a built-in name, a folder
with PATH/train/CLASS/*.jpg and PATH/test/CLASS/*.jpg, or one of shards. Neither: the digits. Small
images want a small patch: `--config.model.patch_size=4`. On data that is not the paper's, the warm-up is
a tenth of the run.

The recipe: Adam with decoupled weight decay, batch 4096, 10,000 steps of warm-up; on ImageNet-1k also
gradients clipped at norm 1. With `data` the head has a hidden layer of tanh (section 3.1), which
fine-tuning drops. variant=paper takes the linear decay to 0, as the paper says; variant=code to 1e-5,
as vision_transformer's does. The paper is silent on the crops: Inception's; on the loss of the large
data sets: sigmoid, with a head that starts at -10, as big_vision has it for ImageNet-21k; and on
ViT-H/14 with ImageNet-21k: as ViT-L. Of two lengths the longer is the default, whose results are those
of table 5; epochs=30 (ViT-L on ImageNet-21k) and epochs=7 (ViT-L/16 and R50+ViT-L/16 on JFT) give the
shorter.

Arguments: model, data, dataset, resolution (pixels, 224 or 256x512), batch_size, epochs (0: the
table's), variant, smoke (the same recipe for a minute on a CPU, on the digits unless a data set is
named).

Hardware and time: not measured. Paper: ViT-B/16 on ImageNet-1k 77.91 (table 5, fine-tuned at 384).
Measured: not measured.
"""

from vit_jax import config, recipes

# On ImageNet-1k and -21k: all models.
ROWS = dict(
    imagenet1k=dict(epochs=300., peak=3e-3, decay='cosine', weight_decay=.3, dropout=.1, clip=1.,
                    loss='softmax', head_bias=0.),
    imagenet21k=dict(epochs=90., peak=1e-3, decay='linear', weight_decay=.03, dropout=.1, clip=0.,
                     loss='sigmoid', head_bias=-10.),
    jft=dict(decay='linear', weight_decay=.1, dropout=0., clip=0., loss='sigmoid', head_bias=-10.))

# On JFT-300M: epochs and peak learning rate.
JFT = dict(
    vit_b16=(7., 8e-4), vit_b32=(7., 8e-4), vit_l32=(7., 6e-4), vit_l16=(14., 4e-4), vit_h14=(14., 3e-4),
    bit_r50x1=(7., 1e-3), bit_r101x1=(7., 8e-4), bit_r152x2=(7., 6e-4),
    r50_b16=(7., 8e-4), r50_b32=(7., 8e-4), r50_l32=(7., 2e-4), r50_l16=(14., 4e-4))


def get_config(arg=None):
  a = config.arguments(arg, model='vit_b16', data='', dataset='', resolution=(224, 224),
                       batch_size=4096, epochs=0., variant='code', smoke=False)
  r = dict(recipes.one_of('data', a.data or 'imagenet1k', ROWS))
  if a.data == 'jft':
    r['epochs'], r['peak'] = recipes.one_of('model for data=jft', a.model, JFT)
  c = config.base()
  c.total_epochs = a.epochs or r['epochs']
  c.task = dict(name='vit_jax.tasks.classification.Classification', loss=r['loss'],
                label_smoothing=0.)
  c.model = recipes.model(a.model, hidden_layer=bool(a.data), dropout_rate=r['dropout'],
                          drop_path_rate=0., scan=True, remat='none', head_bias=r['head_bias'])
  c.data = recipes.pretraining_data(a)
  c.optimizer = dict(name='adamw', weight_decay=r['weight_decay'], b1=.9, b2=.999,
                     clip_norm=r['clip'], freeze=())
  c.schedule = dict(name=r['decay'], peak=r['peak'], **recipes.warmup(a, c, 10_000))
  if r['decay'] == 'linear':
    c.schedule.end = recipes.one_of('variant', a.variant, dict(code=1e-5, paper=0.))
  recipes.evaluate_and_save(c)
  if a.smoke:
    recipes.smoke(c)
  return c
