"""Pickled data without pickle: a stack machine that builds containers and calls nothing.

A pickle is a program that may call anything. This one knows plain values, containers and the few
names with which PyTorch describes tensors; every other name is refused before anything is done.
"""

import argparse
import dataclasses
import pickletools
from collections.abc import Mapping
from typing import Any

from vit_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Name:
  """A global that a pickle refers to, such as 'torch.FloatStorage'."""
  text: str


@dataclasses.dataclass(frozen=True)
class Storage:
  """A flat array that lies elsewhere in the file."""
  kind: str
  key: str
  count: int


@dataclasses.dataclass(frozen=True)
class Tensor:
  """A view of a storage, not yet read."""
  storage: Storage
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *_) -> Tensor:
  if not isinstance(storage, Storage):
    raise ValueError('a tensor without a storage')
  numbers = (offset, *shape, *strides)
  if any(type(n) is not int or n < 0 for n in numbers) or len(shape) != len(strides):
    raise ValueError('a tensor whose shape or strides are no numbers')
  return Tensor(storage, offset, tuple(shape), tuple(strides))


def _dict(items=()) -> dict:
  return _filled({}, [part for pair in items for part in (pair if len(pair) == 2 else (None,))])


def _filled(target: dict, items: list) -> dict:
  """Returns the dict with keys and values in turn; nested keys, whose hash may recurse, are refused."""
  if len(items) % 2 or not all(isinstance(k, (str, int, float, Name)) for k in items[::2]):
    raise ValueError('a dict whose keys are no names or numbers')
  target.update(zip(items[::2], items[1::2], strict=True))
  return target


# What may be called, and what is done instead.
_CALLS = {
    'torch._utils._rebuild_tensor': _tensor, 'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_parameter': lambda tensor, *_: tensor,
    'collections.OrderedDict': _dict,
    'argparse.Namespace': lambda: argparse.Namespace(),  # the options of a run, saved beside it
    'torch.Size': lambda items: tuple(items),
    'torch.device': lambda *_: None,
    'builtins.set': lambda *items: list(*items), '__builtin__.set': lambda *items: list(*items),
    'collections.defaultdict': lambda *_: {},
    '_codecs.encode': lambda text, *_: text,
    # A number that NumPy computed, such as a best accuracy; no weight is kept so.
    'numpy.core.multiarray.scalar': lambda *_: None, 'numpy._core.multiarray.scalar': lambda *_: None,
    'numpy.dtype': lambda *_: None,
}
_KINDS = ('Double', 'Float', 'Half', 'BFloat16', 'Long', 'Int', 'Short', 'Char', 'Byte', 'Bool')
_STORAGES = {f'torch.{kind}Storage': kind for kind in _KINDS}
_PLAIN = {'torch.' + t for t in ('float64', 'float32', 'float16', 'bfloat16', 'int64', 'int32')}

_VALUES = {'INT', 'BININT', 'BININT1', 'BININT2', 'LONG', 'LONG1', 'LONG4', 'FLOAT', 'BINFLOAT',
           'STRING', 'BINSTRING', 'SHORT_BINSTRING', 'UNICODE', 'BINUNICODE', 'SHORT_BINUNICODE',
           'BINUNICODE8', 'BINBYTES', 'SHORT_BINBYTES', 'BINBYTES8'}
_FIXED = {'NONE': None, 'NEWTRUE': True, 'NEWFALSE': False}
_FRESH = {'EMPTY_LIST': list, 'EMPTY_DICT': dict, 'EMPTY_TUPLE': tuple, 'EMPTY_SET': list}


class _Machine:
  """The stack, its marks, and the memo of one pickle."""

  def __init__(self):
    self.stack: list[Any] = []
    self.marks: list[int] = []
    self.memo: dict[int, Any] = {}

  def step(self, opcode: str, arg) -> None:
    """Does what one opcode says."""
    if opcode in _VALUES:
      self.stack.append(arg)
    elif opcode in _FIXED:
      self.stack.append(_FIXED[opcode])
    elif opcode in _FRESH:
      self.stack.append(_FRESH[opcode]())
    elif opcode in ('PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'):
      self.memo[len(self.memo) if opcode == 'MEMOIZE' else int(arg)] = self.stack[-1]
    elif opcode in ('GET', 'BINGET', 'LONG_BINGET'):
      self.stack.append(self.memo[int(arg)])
    elif hasattr(self, f'_{opcode.lower()}'):
      getattr(self, f'_{opcode.lower()}')(arg)
    elif opcode not in ('PROTO', 'FRAME'):
      raise UserError(f'the pickle uses {opcode}, which no saved weights need; it is not read')

  def _marked(self) -> list:
    at = self.marks.pop()
    items, self.stack[at:] = self.stack[at:], []
    return items

  def _mark(self, _):
    self.marks.append(len(self.stack))

  def _pop(self, _):
    self.stack.pop()

  def _tuple(self, _):
    self.stack.append(tuple(self._marked()))

  def _tuple1(self, _, count=1):
    self.stack[-count:] = [tuple(self.stack[-count:])]

  def _tuple2(self, _):
    self._tuple1(_, 2)

  def _tuple3(self, _):
    self._tuple1(_, 3)

  def _list(self, _):
    self.stack.append(self._marked())

  def _append(self, _):
    item = self.stack.pop()
    self.stack[-1].append(item)

  def _appends(self, _):
    items = self._marked()
    self.stack[-1].extend(items)

  _additems = _appends

  def _dict(self, _):
    self.stack.append(_filled({}, self._marked()))

  def _setitem(self, _):
    key, value = self.stack[-2:]
    del self.stack[-2:]
    self._fill([key, value])

  def _setitems(self, _):
    self._fill(self._marked())

  def _fill(self, items):
    if not isinstance(self.stack[-1], dict):
      raise ValueError('items of what is no dict')
    _filled(self.stack[-1], items)

  def _global(self, arg):
    self._name('.'.join(arg.split(' ', 1)))

  def _stack_global(self, _):
    module, name = self.stack[-2:]
    del self.stack[-2:]
    if not isinstance(module, str) or not isinstance(name, str):  # what is nested may be without end
      raise ValueError('a name that is no text')
    self._name(f'{module}.{name}')

  def _name(self, text):
    if text not in _CALLS and text not in _STORAGES and text not in _PLAIN:
      raise UserError(f'the pickle asks for {text[:80]!r}; only tensors and plain containers are read, '
                      'and nothing was executed')
    self.stack.append(Name(text))

  def _reduce(self, _):
    name, args = self.stack[-2:]
    del self.stack[-2:]
    if not isinstance(name, Name) or name.text not in _CALLS or not isinstance(args, tuple):
      raise ValueError('a call of what cannot be called')
    self.stack.append(_CALLS[name.text](*args))

  _newobj = _reduce

  def _build(self, _):
    self.stack.pop()  # attributes: of an OrderedDict, or options of a run; no weights

  def _binpersid(self, _):
    tag, name, key, _, count, *_ = self.stack.pop()
    if tag != 'storage' or not isinstance(name, Name) or name.text not in _STORAGES:
      raise ValueError('a reference to no storage')
    if not isinstance(key, (str, int)) or type(count) is not int:
      raise ValueError('a storage without a key or a number of elements')
    self.stack.append(Storage(_STORAGES[name.text], str(key), count))


def load(file) -> Any:
  """Returns the next pickled value of a binary file; tensors are `Tensor`s, not yet read.

  Args:
    file: with `read`, `readline` and `tell`; left behind the value.

  Raises:
    UserError: for a name or an opcode that no saved weights need.
    ValueError: when it is damaged.
  """
  machine = _Machine()
  try:
    for opcode, arg, _ in pickletools.genops(file):
      if opcode.name == 'STOP':
        return machine.stack.pop()
      machine.step(opcode.name, arg)
  except (IndexError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
    raise ValueError(f'damaged pickle: {type(error).__name__} {error}') from None
  raise ValueError('the pickle has no end')


def is_mapping(value: Any) -> bool:
  """Tells whether a loaded value is a dict with names for keys."""
  return isinstance(value, Mapping) and all(isinstance(k, str) for k in value)
