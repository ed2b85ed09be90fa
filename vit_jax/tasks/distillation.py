"""One class per image, learnt from the labels and from a teacher (DeiT, arXiv:2012.12877, section 4)."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax

from vit_jax.tasks import losses
from vit_jax import metrics, models, ranges, sharding, weights
from vit_jax.data import augment
from vit_jax.errors import UserError, unknown
from vit_jax.evaluation.accuracy import multi_hot, top_k
from vit_jax.evaluation.measures import Measures
from vit_jax.models.vit import fuse
from vit_jax.tasks.classification import Classification

KINDS = ('hard', 'soft')
HEADS = ('distillation', 'class')


def divergence(logits: jax.Array, teacher: jax.Array, kind: str = 'hard', tau: float = 1.,
               mean_over_classes: bool = True) -> jax.Array:
  """Returns how far a student is from its teacher, float32 `[batch]`.

  'hard' (equation 3) is the cross-entropy with the class that the teacher decides for. 'soft'
  (equation 2) is tau^2 times the divergence of the student's softmax from the teacher's, both of
  logits divided by tau. The published code divides it by the number of classes too.

  Args:
    logits, teacher: `[batch, classes]`.
    kind: one of `KINDS`.
    tau: temperature of 'soft'.
    mean_over_classes: of 'soft': as the code has it; False is the paper's sum.
  """
  logits, teacher = logits.astype(jnp.float32), teacher.astype(jnp.float32)
  if kind == 'hard':
    return optax.softmax_cross_entropy_with_integer_labels(logits, teacher.argmax(axis=-1))
  student, taught = jax.nn.log_softmax(logits / tau), jax.nn.log_softmax(teacher / tau)
  terms = tau ** 2 * jnp.exp(taught) * (taught - student)
  return terms.mean(axis=-1) if mean_over_classes else terms.sum(axis=-1)


class Teacher:
  """A model that is not trained. What it is, `load` finds out; until then it is a name of weights."""

  def __init__(self, init_from: str = '', name: str = '', image_size=None, **fields):
    """Reads nothing yet.

    Args:
      init_from: workdir, checkpoint, published file, or name of a published checkpoint.
      name: of the model, where the weights do not tell.
      image_size: of its images, a number or (height, width); None: that of the weights.
      **fields: of the model, such as `dtype='bfloat16'`.
    """
    if not init_from:
      raise UserError("a student needs a teacher: set task.teacher.init_from to a run's workdir, a file "
                      'of weights, or a name of vit_jax.list_pretrained()')
    ranges.check('task.teacher.', dict(image_size=image_size, name=name, init_from=init_from), dict(
        image_size=int | tuple[int, int] | None, name=str, init_from=str), dict(image_size='[1, inf)'))
    self._names = (name, init_from) if name else (init_from,)
    self._path, self._size, self._fields = init_from, image_size, fields
    if isinstance(image_size, list):  # from JSON
      self._size = tuple(image_size)
    self._model = self._info = None

  def load(self, info, mesh) -> Mapping[str, Any]:
    """Returns its variables, placed by the rules of its family.

    Args:
      info: of the student's data.
      mesh: of the run.

    Raises:
      UserError: without weights, or when its classes are not those of the data.
    """
    try:
      host = jax.local_devices(backend='cpu')[0]  # first: no device need hold it whole
    except RuntimeError:  # JAX_PLATFORMS names the accelerator alone
      host = None
    try:
      with jax.default_device(host):
        loaded = weights.load(*self._names, image_size=self._size, channels=info.channels,
                              verbose=False, **self._fields)
    except UserError as error:
      raise UserError(f'the teacher: {error}') from None
    self._model, _, self._info = loaded
    _check_classes(self._path, loaded, info)
    where, _ = sharding.shardings(loaded.variables, models.family(self._model).rules, mesh)
    return jax.tree.map(sharding.place, jax.device_get(loaded.variables), where)

  def __call__(self, variables, images: jax.Array) -> jax.Array:
    """Returns its logits `[batch, classes]` of float images in [0, 1], of any size.

    They are resized to the size it wants, and normalised by its own mean and standard deviation.
    """
    size = (images.shape[0], *self._info.image_size, images.shape[3])
    if images.shape != size:
      images = jax.image.resize(images, size, 'bilinear')
    images = augment.normalize(images, self._info.mean, self._info.std)
    return self._model.apply(variables, images)


def _check_classes(path: str, loaded: weights.Loaded, info) -> None:
  """Raises UserError unless a teacher knows the classes of the data, in their order."""
  fresh = loaded.report.reinitialised
  if loaded.model.num_classes is None or fresh:
    what = f'({next(iter(fresh))} is missing)' if fresh else '(it has no head)'
    raise UserError(f'the teacher {path} does not classify {what}; give weights of a trained classifier')
  count, own = loaded.model.num_classes, loaded.info.classes
  if count != info.num_classes:
    raise UserError(f'the teacher {path} knows {count} classes, the data {info.source!r} has '
                    f'{info.num_classes}; train one on this data, and give its workdir')
  if loaded.info.source and own != info.classes:  # a published file has no names of classes
    wrong = next(i for i in range(count) if own[i] != info.classes[i])
    raise UserError(f'class {wrong} of the teacher {path} is {own[wrong]!r}, of the data '
                    f'{info.source!r} {info.classes[wrong]!r}; train one on this data')


@dataclasses.dataclass(frozen=True)
class Distillation(Classification):
  """A student: (1 - alpha) of its loss is that of `Classification`, alpha its divergence from a teacher.

  Both see the same augmented images. A student with a distillation token learns the labels with its
  class head and the teacher's decision with the other one; both are evaluated, and what they agree on.

  Attributes:
    teacher: arguments of `Teacher`.
    kind: 'hard' or 'soft', see `divergence`.
    alpha: share of the teacher.
    tau, mean_over_classes: of 'soft'.
    head: which learns from the teacher: 'distillation', or 'class' in a student with one head.
  """
  teacher: Mapping[str, Any] | Teacher = dataclasses.field(default_factory=dict)
  kind: str = 'hard'
  alpha: float = .5
  tau: float = 1.
  mean_over_classes: bool = True
  head: str = 'distillation'

  OPTIONS: ClassVar[Mapping[str, str]] = {**Classification.OPTIONS, **{name: name for name in (
      'teacher', 'kind', 'alpha', 'tau', 'mean_over_classes', 'head')}}

  def __post_init__(self):
    for what, value, options in (('kind of distillation', self.kind, KINDS), ('head', self.head, HEADS)):
      if value not in options:
        raise unknown(what, value, options)
    if not 0. <= self.alpha <= 1. or not self.tau > 0.:
      raise UserError(f'task.alpha={self.alpha}, task.tau={self.tau}: the first is a share from 0 to 1, '
                      'the second is positive')
    if self.info.multi_label:
      raise UserError('a teacher decides for one class per image, but the data has several labels; '
                      "train with task.name='vit_jax.tasks.classification.Classification'")
    two = getattr(self.model, 'distillation_token', False)
    if two != (self.head == 'distillation'):
      have, remedy = ('two heads', 'distillation') if two else ('no distillation head', 'class')
      raise UserError(f'the model has {have}, but task.head={self.head!r} is to learn from the teacher; '
                      f'set task.head={remedy}, or choose a model '
                      + ('without a distillation token' if two else 'such as deit_s16_distilled'))
    if two and self.model.fusion == 'none':
      raise UserError("model.fusion='none' gives no one answer to evaluate; choose logits or softmax")
    if not isinstance(self.teacher, Teacher):
      object.__setattr__(self, 'teacher', Teacher(**self.teacher))

  def constants(self, mesh) -> dict:
    """Returns the teacher's variables."""
    return {'teacher': self.teacher.load(self.info, mesh)}

  def augment(self, batch, rng, teacher=None):
    """Returns the augmented batch with `teacher`, its logits; without it where nothing is learnt."""
    batch = super().augment(batch, rng)
    return batch if teacher is None else {**batch, 'teacher': self.teacher(teacher, batch['image'])}

  def measure(self, logits, batch):
    """Returns what `Classification` does, the divergence, and whether the teacher is right."""
    own, taught = logits if isinstance(logits, tuple) else (logits, logits)
    out = super().measure(own, batch)
    apart = divergence(taught, batch['teacher'], self.kind, self.tau, self.mean_over_classes)
    right = top_k(batch['teacher'], multi_hot(batch['label'], self.info.num_classes), 1)
    return {**out, 'loss': (1. - self.alpha) * out['loss'] + self.alpha * apart,
            'divergence': apart, 'teacher_accuracy': right}

  def evaluators(self, split: str = 'test'):
    """Returns the evaluator of `Classification`; of two heads it measures each as well."""
    if self.head == 'class':
      return super().evaluators(split)
    both = Classification(self.model.clone(fusion='none'), self.info)
    return [Heads(both.predict, losses.LOSSES[self.loss_name], losses.OUTPUTS[self.loss_name],
                  self.info.classes, False, self.model.fusion)]


class Heads(Measures):
  """`Measures` of what two heads agree on, and the accuracy of each, from one pass of the model."""

  def __init__(self, predict, loss, output, classes, multi_label, fusion: str):
    """Takes what `Measures` takes, where `predict` gives both heads' logits, and how they are fused."""
    super().__init__(predict, loss, output, classes, multi_label)
    self._fusion = fusion

  def step(self, params, model_state, batch):
    """Returns {name: (sum, count)} over the examples that are not padding."""
    own, distilled = self._predict(params, model_state, batch)
    labels = multi_hot(batch['label'], own.shape[1])
    mask = batch['mask'] * labels.any(axis=1)
    return {**self.sums(fuse(own, distilled, self._fusion), batch),
            'class_accuracy': metrics.masked(top_k(own, labels, 1), mask),
            'distillation_accuracy': metrics.masked(top_k(distilled, labels, 1), mask)}

  def finish(self, total) -> dict[str, float]:
    """Returns the means of all."""
    heads = {name: total[name] for name in ('class_accuracy', 'distillation_accuracy')}
    return {**super().finish(total), **metrics.mean(heads)}
