"""VTAB-1k: 19 tasks with 1,000 training examples each, over TFDS (arXiv:1910.04867, table 2 and
appendix A; splits and label rules as in google-research/task_adaptation).

A hyper-parameter is chosen by training on `train800` and scoring `val200`; the final model is
trained on both (`train`) and scored once on `test`. The score of VTAB is the mean accuracy over the
tasks; ViT's table 2 takes it after fine-tuning with one setting for all tasks.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vit_jax.errors import unknown

# Of one TFDS example, as NumPy arrays: nested as TFDS gives them, or flat ('objects/type') as its
# records hold them.
Features = Mapping[str, Any]

GROUPS = ('natural', 'specialized', 'structured')


def attribute(name: str = 'label', bins: int = 0, values: int = 0) -> Callable[[Features], int]:
  """Returns the rule that reads an integer feature.

  Args:
    name: of the feature.
    bins: how many classes its values are grouped into; 0: each is a class.
    values: how many it has.
  """
  def rule(features):
    value = int(np.asarray(features[name]).item())
    return value * bins // values if bins else value
  return rule


def clevr_count(features: Features) -> int:
  """The number of objects, of which CLEVR has 3 to 10: class 0 is three of them."""
  return len(_objects(features, 'size')) - 3


def clevr_distance(features: Features) -> int:
  """The distance of the closest object in six ranges."""
  depth = _objects(features, 'pixel_coords').reshape(-1, 3)[:, 2]
  return _range(depth.min(), (0., 8., 8.5, 9., 9.5, 10., 100.))


def kitti_distance(features: Features) -> int:
  """The distance of the closest car, van or truck in three ranges of metres; class 3: there is none."""
  depth = _objects(features, 'location').reshape(-1, 3)[:, 2]
  vehicles = depth[_objects(features, 'type') < 3]
  return _range(vehicles.min(initial=1000.), (-100., 8., 20., 999.))


def _objects(features: Features, name: str) -> np.ndarray:
  """Returns one property of all objects in an image."""
  flat = f'objects/{name}'
  return np.asarray(features[flat] if flat in features else features['objects'][name])


def _range(value: float, bounds: tuple[float, ...]) -> int:
  """Returns the index of the last bound below a value."""
  return int(np.flatnonzero(np.asarray(bounds) < value)[-1])


@dataclasses.dataclass(frozen=True)
class Task:
  """One task of VTAB.

  Attributes:
    group: 'natural', 'specialized' or 'structured'.
    tfds: name of the data set, with config and major version.
    num_classes: of the label.
    train800, val200: splits, in TFDS's syntax.
    test: the same.
    label: rule from the features of an example to its class.
    image_scale: what pixel values are multiplied by to reach 0 .. 255.
    manual: whether the files must be fetched by hand before TFDS can prepare them.
  """
  group: str
  tfds: str
  num_classes: int
  train800: str
  val200: str
  test: str
  label: Callable[[Features], int] = attribute()
  image_scale: int = 1
  manual: bool = False

  @property
  def train(self) -> str:
    """The 1,000 examples of the final training."""
    return f'{self.train800}+{self.val200}'


def _task(group: str, tfds: str, num_classes: int, val: str | int = 'validation', test: str = 'test',
          **fields) -> Task:
  """`val`: the split that the 200 examples open, or where they start in `train`."""
  val200 = f'{val}[:200]' if isinstance(val, str) else f'train[{val}:{val + 200}]'
  return Task(group, tfds, num_classes, 'train[:800]', val200, test, **fields)


# Where `val` is a number, the data set has no validation split: it is 90 % of its training examples
# (pets and dSprites 80 %, EuroSAT and Resisc45 60 %). Caltech101: of the paper's 3,060 (appendix A).
TASKS: Mapping[str, Task] = dict(
    caltech101=_task('natural', 'caltech101:3.*.*', 102, 2_754),
    cifar100=_task('natural', 'cifar100:3.*.*', 100, 45_000),
    dtd=_task('natural', 'dtd:3.*.*', 47),
    flowers102=_task('natural', 'oxford_flowers102:2.*.*', 102),
    pets=_task('natural', 'oxford_iiit_pet:3.*.*', 37, 2_944),
    sun397=_task('natural', 'sun397/tfds:4.*.*', 397),
    svhn=_task('natural', 'svhn_cropped:3.*.*', 10, 65_931),
    patch_camelyon=_task('specialized', 'patch_camelyon:2.*.*', 2),
    eurosat=_task('specialized', 'eurosat/rgb:2.*.*', 10, 16_200, 'train[21600:]'),
    resisc45=_task('specialized', 'resisc45:3.*.*', 45, 18_900, 'train[25200:]', manual=True),
    diabetic_retinopathy=_task('specialized', 'diabetic_retinopathy_detection/btgraham-300:3.*.*', 5,
                               manual=True),
    clevr_count=_task('structured', 'clevr:3.*.*', 8, 63_000, 'validation', label=clevr_count),
    clevr_distance=_task('structured', 'clevr:3.*.*', 6, 63_000, 'validation', label=clevr_distance),
    dmlab=_task('structured', 'dmlab:2.0.*', 6),
    dsprites_location=_task('structured', 'dsprites:2.*.*', 16, 589_824, 'train[663552:]',
                            label=attribute('label_x_position', 16, 32), image_scale=255),
    dsprites_orientation=_task('structured', 'dsprites:2.*.*', 16, 589_824, 'train[663552:]',
                               label=attribute('label_orientation', 16, 40), image_scale=255),
    kitti_distance=_task('structured', 'kitti:3.*.*', 4, label=kitti_distance),
    smallnorb_azimuth=_task('structured', 'smallnorb:2.*.*', 18, 'test', 'test[12150:]',
                            label=attribute('label_azimuth')),
    smallnorb_elevation=_task('structured', 'smallnorb:2.*.*', 9, 'test', 'test[12150:]',
                              label=attribute('label_elevation')),
)


def task(name: str) -> Task:
  """Returns the task of that name; UserError names the nearest one for an unknown name."""
  if name not in TASKS:
    raise unknown('VTAB task', name, TASKS)
  return TASKS[name]


def scores(accuracies: Mapping[str, float]) -> dict[str, float]:
  """Returns the mean accuracy over each group's tasks, and over all 19 as 'mean'.

  Args:
    accuracies: {name of a task: accuracy}. A group of which a task is missing has no score.

  Raises:
    UserError: for a task that there is not.
  """
  for name in accuracies:
    task(name)
  members = {group: [n for n, t in TASKS.items() if t.group == group] for group in GROUPS}
  members['mean'] = list(TASKS)
  return {group: float(np.mean([accuracies[n] for n in names])) for group, names in members.items()
          if all(n in accuracies for n in names)}
