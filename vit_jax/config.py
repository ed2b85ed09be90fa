"""Configs: typed arguments, loading from any directory, overrides, and what follows from them."""

import ast
import copy
import difflib
import json
import os
import re
import runpy
from collections.abc import Mapping

from ml_collections import ConfigDict

from vit_jax import files, ranges
from vit_jax.errors import UserError, nearest, unknown


# Sections that are passed on as they are: their readers know the fields and name unknown ones.
PASSED_ON = ('model', 'task', 'optimizer', 'schedule')
OPEN = (*PASSED_ON, 'transforms', 'test_transforms')

# Numbers of `base` and of `data` that are not simply 0 or more.
RANGES = {
    'seed': f'[0, {2 ** 32 - 1}]', 'ema_decay': '[0, 1)', 'mesh.data|mesh.fsdp|mesh.model': '[-1, inf)',
    'accumulate|checkpoint.keep': '[1, inf)',
    'data.batch_size|data.resolution|data.repeats|data.max_labels': '[1, inf)',
    'data.mean': '[0, 1]', 'data.std': '(0, 1]'}


def arguments(arg: str | None, **defaults) -> ConfigDict:
  """Parses 'model=vit_b16,resolution=224x384' by the types of the defaults.

  Args:
    arg: what stands behind the colon of `--config=FILE:ARG`, or None.
    **defaults: each argument with its default, which gives its type: str, bool, int, float, or a
      pair of ints, written '384' or '224x384' (height x width).

  Raises:
    UserError: for an unknown argument or a value of the wrong type.
  """
  values, before = dict(defaults), ''
  for item in filter(None, (arg or '').split(',')):
    name, equals, text = item.partition('=')
    if name not in defaults:
      comma = ("; a comma ends an argument: set a value that holds one by its leaf, such as "
               "--config.data.source='a,b'") if isinstance(defaults.get(before), str) else ''
      raise UserError(f'{unknown("config argument", name, defaults)}{comma}')
    values[name], before = _parse(name, text if equals else 'true', defaults[name]), name
  return ConfigDict(values)


def _parse(name: str, text: str, default):
  """Returns `text` as the type of `default`."""
  try:
    if isinstance(default, bool):
      return {'true': True, '1': True, 'false': False, '0': False}[text.lower()]
    if isinstance(default, tuple):
      sizes = tuple(int(s) for s in text.split('x'))
      return {1: sizes * 2, 2: sizes}[len(sizes)]
    return files.home(text) if isinstance(default, str) else type(default)(text)
  except (KeyError, ValueError):
    kind = {bool: 'true or false', tuple: 'a size such as 384 or 224x384',
            int: 'a whole number', float: 'a number'}[type(default)]
    raise UserError(f'config argument {name}={text!r} must be {kind}') from None


# {key: (default, what it is)} of every config; `docs/config.md` is made of these tables.
BASE = {
    'seed': (0, 'of everything random'),
    'total_steps': (0, 'length of the run in steps; set this or total_epochs'),
    'total_epochs': (0., 'length of the run in passes over the training data'),
    'init_from': ('', 'workdir, checkpoint, published file or name to start from'),
    'init_resampling': ('', 'rule for its position table, one of layers.positions.RESAMPLING; "": that '
                        'of the code base it comes from'),
    'init_resize_patches': (False, 'whether its patch embedding may be resized to another patch size'),
    'init_image_size': ((0, 0), '(height, width) of the images that a file was trained at, where they '
                        'were not square; (0, 0): the file tells'),
    'reset_head': (False, 'start the head anew even where it would fit'),
    'accumulate': (1, 'parts in which a batch is computed'),
    'ema_decay': (0., 'of the average of the parameters that is evaluated; 0: no average'),
    'ema_warmup': (True, 'whether the average forgets the first parameters faster'),
    'sam_rho': (0., 'radius of sharpness-aware minimisation; 0: none'),
    'explore': (0, 'test images on the picture page that the run leaves; 0: no page'),
    'mesh.data': (-1, 'replicas that each see a part of the batch; -1: all devices that are left'),
    'mesh.fsdp': (1, 'like data, but parameters and optimizer slots are split over it too'),
    'mesh.model': (1, 'devices that share each matrix product'),
    'log.every': (50, 'steps between lines of the log'),
    'log.profile': ((0, 0), '(first, last) step of a profile'),
    'evaluate.every': (0, 'steps between evaluations; 0: at the end alone'),
    'evaluate.every_epochs': (0., 'passes over the data between evaluations, in place of every'),
    'evaluate.batch_size': (0, 'rows of a batch; 0: as many as a training step holds at once'),
    'evaluate.splits': ((), 'those scored while training; (): all'),
    'evaluate.measure': ('', 'by which evaluations are compared, such as "validation/accuracy"; "": the '
                         "task's own on the validation split, or on the test split without one"),
    'evaluate.patience': (0, 'evaluations without a better measure after which the run stops; 0: never'),
    'evaluate.fewshot': ([], 'data sets for few-shot regression, see evaluation.fewshot.open_probe'),
    'evaluate.protocol': ('weights', 'whose preprocessing --evaluate takes for a published file: '
                          '"weights", or "config" for that in data of this config'),
    'checkpoint.every': (0, 'steps between checkpoints; 0: at the end alone'),
    'checkpoint.every_epochs': (0., 'passes over the data between checkpoints, in place of every'),
    'checkpoint.keep': (2, 'newest checkpoints that stay'),
    'checkpoint.best': (True, 'whether the step of the best evaluation is saved and stays, too'),
}

# The same of `config.data` for labelled images; what the source, the size and the batch are is given.
IMAGE_DATA = {
    'source': ('', 'built-in name, folder of class folders, folder of TFRecord or array_record shards, '
               'or name of a TFDS data set'),
    'data_dir': ('', 'where TFDS keeps its data'),
    'train': ('train', 'training split, such as train[:98%] or train[:800]+validation'),
    'validation': ('', 'split by which choices are made (best step, early stop); "": none'),
    'test': ('test', 'test split'),
    'mixture': ([], 'dicts of source, train and weight, to train on instead'),
    'channels': (0, '3, 1, or 0 for the number that the source has'),
    'features': (dict(image='', label='', name='', first_label=0),
                 'names of what the records of shards hold, see data.sources.shards'),
    'classes': ('', 'file with the names of the classes of shards'),
    'max_labels': (1, 'labels of an image, at most'),
    'real': ('', "path of ImageNet-ReaL's real.json"),
    'repeats': (1, 'how often each example comes in an epoch (repeated augmentation)'),
    'batch_size': (1, 'images of a step, on all devices together'),
    'resolution': ((224, 224), "(height, width) of the model's input in pixels"),
    'crop': (dict(name='squash'), 'what the host cuts in training, see data.crops'),
    'eval_crop': (dict(name='squash'), 'what it cuts in evaluation'),
    'interpolation': ('bilinear', 'bilinear, bicubic or area'),
    'antialias': (True, 'whether shrinking smooths'),
    'exact_resize': (False, 'whether training resizes exactly, not quickly'),
    'augment': ([], 'what the device does, see docs/augmentation.md'),
    'mean': ((.5,), 'per channel or one for all, of values in [0, 1]'),
    'std': ((.5,), 'standard deviation, likewise'),
    'on_error': ('raise', '"raise", or "skip" images that cannot be read'),
}


def tree(table: Mapping[str, tuple], **values) -> ConfigDict:
  """Returns the defaults of a table of keys, those with dots as groups; `values` take their place."""
  out = {}
  for key, (default, _) in table.items():
    *groups, name = key.split('.')
    node = out
    for group in groups:
      node = node.setdefault(group, {})
    node[name] = copy.deepcopy(default)
  return ConfigDict({**out, **values})


def base() -> ConfigDict:
  """Returns what every config has, with the defaults of `BASE` that do nothing special."""
  return tree(BASE)


def image_data(source: str, resolution: tuple[int, int], batch_size: int) -> ConfigDict:
  """Returns `config.data` for labelled images: every key of `IMAGE_DATA`, with plain defaults."""
  return tree(IMAGE_DATA, source=source, batch_size=batch_size, resolution=resolution)


def load(spec: str, overrides: Mapping[str, str] | None = None) -> ConfigDict:
  """Returns the config that `FILE[:arguments]` describes, with overrides, locked.

  Args:
    spec: path of a Python file with `get_config(arg)`, or of a run's `config.json`.
    overrides: {'optimizer.clip_norm': '1.0'}; values are parsed by the type of what they replace.

  Raises:
    UserError: for a missing file, a file without `get_config`, an unknown argument or key, or a
      value of the wrong type.
  """
  path, arg = _split(spec)
  if not os.path.isfile(path):
    folder = os.path.dirname(path) or '.'
    known = [os.path.join(folder, f) if os.path.dirname(path) else f for f in
             (os.listdir(folder) if os.path.isdir(folder) else ()) if f.endswith(('.py', '.json'))]
    raise UserError(f'no config file {path!r}; {nearest(path, known)}')
  if path.endswith('.json'):
    config = ConfigDict(files.read_object(
        path, 'give the --config of the run, after removing that file'))
  else:
    module = runpy.run_path(path)
    if 'get_config' not in module:
      raise UserError(f'{path} defines no get_config(arg); see configs/quickstart.py')
    config = module['get_config'](arg or None)
  for key, text in (overrides or {}).items():
    override(config, key, text)
  _clear_others(config, overrides or {})
  expand(config)
  if 'stages' in config and set(config) != {'stages', 'explore'}:
    raise UserError(f'a config of stages holds stages and explore alone, not {list(config)}')
  for stage in stages(config):
    check(stage)
  return config.lock()


def _clear_others(config: ConfigDict, overrides: Mapping[str, str]) -> None:
  """Sets what stands in epochs to 0 where the command line gives the same in steps, and vice versa."""
  known = dict(leaves(config))
  for steps, epochs in (('total_steps', 'total_epochs'), ('every', 'every_epochs'),
                        ('warmup_steps', 'warmup_epochs')):
    for given, other in ((steps, epochs), (epochs, steps)):
      for key in overrides:
        before, dot, name = key.rpartition('.')
        twin = f'{before}{dot}{other}'
        if name == given and twin in known and twin not in overrides:
          override(config, twin, '0')


def _split(spec: str) -> tuple[str, str]:
  """Returns (path, arguments) of `FILE[:arguments]`; the path may hold colons."""
  spec = files.home(spec)
  ends = [found.start() for found in re.finditer(':|$', spec)]
  end = next((end for end in ends if os.path.isfile(spec[:end])), ends[0])
  return spec[:end], spec[end + 1:]


def expand(node) -> None:
  """Writes the home directory for `~` in every text of a config, in place."""
  for key, value in list(node.items() if isinstance(node, ConfigDict | dict) else enumerate(node)):
    if isinstance(value, ConfigDict | dict | list):
      expand(value)
    elif isinstance(value, str):
      node[key] = files.home(value)


def check(config: ConfigDict) -> None:
  """Raises UserError for a key that nothing reads, and for a section that is missing."""
  known = {**base(), **{section: None for section in ('data', *PASSED_ON)}}
  for key in known:
    if key not in config:
      raise UserError(f'the config has no {key!r}; begin it with vit_jax.config.base()')
  check_section('', config, {**known, 'name': ''})
  names = {f'{section}.name': config[section].get('name', '') for section in PASSED_ON}
  ranges.check('', {**names, 'data.batch_size': config.data.get('batch_size')},
               {**dict.fromkeys(names, str), 'data.batch_size': int}, RANGES)


def check_section(key: str, section: Mapping, known: Mapping) -> None:
  """Raises UserError for a key of a section that is not known, or a value that it cannot have.

  Args:
    key: of the section, such as 'data'; '' for the config itself.
    section: of the config.
    known: its keys with their defaults, which tell the types; None: anything may stand there.
  """
  before = f'{key}.' if key else ''
  for name in section:
    if name not in known:
      raise unknown('config key', before + name, [before + n for n in known])
  ranges.check('', {before + name: section[name] for name in section if known[name] is not None},
               {before + name: ranges.like(value) for name, value in known.items()}, RANGES)
  for name, inner in known.items():
    if hasattr(inner, 'items') and name in section and set(inner) != {'name'}:  # not a crop's options
      check_section(before + name, section[name], inner)


def override(config: ConfigDict, key: str, text: str) -> None:
  """Sets one leaf, such as 'optimizer.clip_norm' or 'data.augment[0].degrees', from text.

  In a section that is passed on, `default` takes a field out, so that its reader's own default
  stands: another optimizer has other options.

  Raises:
    UserError: when there is no such leaf (the nearest is named) or the type does not fit.
  """
  parts = key.replace('[', '.').replace(']', '').split('.')
  node = config
  for part in parts[:-1]:
    node = _child(node, part, key, config)
  name = int(parts[-1]) if isinstance(node, (list, tuple)) and parts[-1].isdigit() else parts[-1]
  open_ended = isinstance(node, (ConfigDict, dict)) and any(part in OPEN for part in parts[:-1])
  old = None if open_ended and name not in node else _child(node, parts[-1], key, config)
  if isinstance(node, tuple):
    raise UserError(f'config key {key!r} is one number of {tuple(node)!r}; set all of them at once')
  if open_ended and text == 'default' and name != 'name':
    if name in node:
      del node[name]
  else:
    node[name] = _typed(key, text, old)


def _child(node, part: str, key: str, config):
  """Returns `node[part]` or raises the error that names the nearest leaf."""
  if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
    return node[int(part)]
  if isinstance(node, (ConfigDict, dict)) and part in node:
    return node[part]
  keys = [name for name, _ in leaves(config)]
  close = difflib.get_close_matches(key, keys, n=1, cutoff=.4)
  raise UserError(f'unknown config key {key!r}; {nearest(key, close or keys)}')


def _typed(key: str, text: str, old):
  """Parses `text` as the type of the value it replaces (None: as it looks)."""
  if isinstance(old, (ConfigDict, dict)):
    raise UserError(f'config key {key!r} is a group; set one of: '
                    + ', '.join(f'{key}.{name}' for name in old))
  if isinstance(old, str):
    return text
  try:
    value = ast.literal_eval({'true': 'True', 'false': 'False'}.get(text, text))
  except (ValueError, SyntaxError):
    value = text
  if isinstance(old, (tuple, list)):
    return type(old)(_items(key, text, value, old))
  if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
    value = float(value)
  if isinstance(old, int) and isinstance(value, float) and value.is_integer():
    value = int(value)  # 1e4 steps
  if old is not None and type(value) is not type(old):
    raise UserError(f'config key {key!r} takes a {type(old).__name__} (now {old!r}), not {text!r}')
  return value


def _items(key: str, text: str, value, old) -> list:
  """Returns the items of a sequence that replaces another, whose items give the type.

  Two whole numbers may be written as a size: 384 or 224x384. A sequence of texts, or an empty one,
  takes one text for itself.
  """
  if len(old) == 2 and all(isinstance(item, int) for item in old) and re.fullmatch(r'\d+(x\d+)?', text):
    return list(_parse(key, text, (0, 0)))
  items = list(value) if isinstance(value, (tuple, list)) else [value]
  kind = type(old[0]) if old else (dict if isinstance(old, list) else str)
  kind = dict if issubclass(kind, ConfigDict) else kind
  items = [float(i) if kind is float and type(i) is int else i for i in items]
  if any(not isinstance(item, kind) for item in items):
    raise UserError(f'config key {key!r} takes a sequence of {kind.__name__} (now {old!r}), not '
                    f'{text!r}')
  return items


def leaves(node, prefix: str = ''):
  """Yields (dotted name, value) of every leaf, through dicts and lists of dicts."""
  if isinstance(node, (ConfigDict, dict)):
    for name, child in node.items():
      yield from leaves(child, f'{prefix}.{name}' if prefix else name)
  elif isinstance(node, (list, tuple)) and any(isinstance(c, (dict, ConfigDict)) for c in node):
    for i, child in enumerate(node):
      yield from leaves(child, f'{prefix}[{i}]')
  else:
    yield prefix, node


def to_dict(config) -> dict:
  """Returns the config as JSON would hold it: plain dicts, lists, numbers and strings."""
  return json.loads(config.to_json())


def stages(config: ConfigDict) -> list[ConfigDict]:
  """Returns the configs of a run's stages in order; a config without stages is its only one."""
  if 'stages' not in config:
    return [config]
  return [ConfigDict(stage).lock() for stage in config.stages]


def interval(config: ConfigDict, section: str, num_train: int) -> int:
  """Returns the steps between two evaluations or checkpoints; 0: at the end alone.

  Args:
    config: of the run.
    section: 'evaluate' or 'checkpoint': `every` steps, or `every_epochs` passes over the data.
    num_train: examples of a pass.

  Raises:
    UserError: when both are set, or one is negative.
  """
  every, epochs = config[section].every, config[section].every_epochs
  if every and epochs or every < 0 or not epochs >= 0.:
    raise UserError(f'set {section}.every (steps) or {section}.every_epochs, not negative, and the '
                    f'other to 0; now {every} and {epochs}')
  return max(round(epochs * num_train / config.data.batch_size), 1) if epochs else every


def total_steps(config: ConfigDict, num_train: int) -> int:
  """Returns the number of updates: `total_steps`, or `total_epochs` passes over the data.

  Raises:
    UserError: unless exactly one of the two is set.
  """
  if bool(config.total_steps) == bool(config.total_epochs):
    raise UserError('set either total_steps or total_epochs (and the other to 0); now '
                    f'total_steps={config.total_steps}, total_epochs={config.total_epochs}')
  if config.total_steps:
    return config.total_steps
  steps = max(round(config.total_epochs * num_train / config.data.batch_size), 1)
  ranges.check('', {'the number of steps': steps}, {'the number of steps': int}, {})
  return steps
