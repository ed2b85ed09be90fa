"""DETR in one screen: the model of the paper's Listing 1 (arXiv:2005.12872, appendix A.6).

    import jax
    from detr_jax.models.minimal import MinimalDETR
    model = MinimalDETR(num_classes=91)
    image = jax.numpy.zeros((1, 800, 1200, 3))
    variables = model.init(jax.random.key(0), image)
    logits, boxes = model.apply(variables, image)

As there, positions are learned and enter once, queries are the decoder's input, and a box is one linear
layer. `detr_jax.models.detr` is the model of the paper's tables, for batches of any sizes.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from detr_jax.models.positions import learned
from detr_jax.models.transformer import Decoder, Encoder, Options, Pointwise
from vit_jax.models.resnet import ResNet


class MinimalDETR(nn.Module):
  """Detects up to `num_queries` objects of `num_classes` classes; "no object" is one more, the last.

  Attributes:
    num_classes, num_queries: of the answer.
    width, options, encoder_layers, decoder_layers: of the transformer.
    depths, backbone_width: of the ResNet.
  """
  num_classes: int
  width: int = 256
  options: Options = Options()
  encoder_layers: int = 6
  decoder_layers: int = 6
  num_queries: int = 100
  depths: tuple[int, ...] = (3, 4, 6, 3)
  backbone_width: int = 64

  @nn.compact
  def __call__(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Maps float `[batch, h, w, 3]` to logits `[batch, queries, classes + 1]` and boxes `[..., 4]`."""
    backbone = ResNet(None, self.depths, self.backbone_width, name='backbone')
    source = Pointwise(self.width, name='conv')(backbone(image).maps[-1])
    batch, height, width, _ = source.shape
    table = lambda name, *shape: self.param(name, nn.initializers.uniform(1.), shape)
    rows, columns = (table(name, 50, self.width // 2) for name in ('row_embed', 'col_embed'))
    tokens = (source + learned(rows, columns, (height, width))).reshape(batch, -1, self.width)
    memory = Encoder(self.options, self.encoder_layers, name='encoder')(tokens)
    memory = nn.LayerNorm(epsilon=1e-5, name='encoder_norm')(memory)
    queries = jnp.tile(table('query_pos', self.num_queries, self.width), (batch, 1, 1))
    states = Decoder(self.options, self.decoder_layers, name='decoder')(queries, None, memory)[-1]
    logits = nn.Dense(self.num_classes + 1, name='linear_class')(states)
    return logits, nn.sigmoid(nn.Dense(4, name='linear_bbox')(states))
