"""One file from the network: resumed where it was cut, checked, and in its place whole or not at all."""

import contextlib
import hashlib
import http.client
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import BinaryIO, NamedTuple

from vit_jax.errors import UserError

CHUNK = 1 << 20    # bytes
TIMEOUT = 30.      # seconds that a server may stay silent
ATTEMPTS = 5       # in a row that bring no byte
WAIT = .5          # seconds before another attempt; doubles with each that brings no byte


class Refused(Exception):
  """Asking again would not help; the text says why."""


class Answer(NamedTuple):
  """What a server says of a file.

  Attributes:
    start: byte at which the body begins.
    total: bytes of the whole file; '' where it does not say.
    version: its ETag or date; '' where it gives none, so that nothing can be resumed.
  """
  start: int
  total: str
  version: str


def https(url: str) -> str:
  """Returns the address over HTTP of gs://BUCKET/PATH; any other as it is."""
  if not url.startswith('gs://'):
    return url
  return 'https://storage.googleapis.com/' + urllib.parse.quote(url.removeprefix('gs://'))


def fetch(url: str, path: str, sha256: str | None = None) -> str:
  """Returns `path` after downloading it, unless it is there already.

  What arrives is kept beside it as PATH.part, so that a later call goes on where this one was cut, if
  the server still has the same version (its ETag or date) and answers requests for a range. Several
  processes may ask for the same file: one downloads, the others wait.

  Args:
    url: https://, http:// or gs://.
    path: of the file; folders are made.
    sha256: of the file in hexadecimal, or its first digits; None: not known, only the length is checked.

  Raises:
    UserError: no network, no such file, a wrong checksum, or a disk that cannot be written to.
  """
  if os.path.exists(path):
    return path
  import fcntl  # not on Windows
  try:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + '.part', 'ab') as part:
      fcntl.flock(part, fcntl.LOCK_EX)
      if not os.path.exists(path):
        _download(https(url), part)
        _check(url, part, path, sha256)
        os.replace(part.name, path)
      elif not _size(part):  # another process was faster; this part is of nothing
        _remove(part.name)
    _remove(path + '.part.version')
  except Refused as error:
    if not os.path.getsize(path + '.part'):
      _remove(path + '.part')
    raise UserError(f'{url} could not be downloaded ({error}); fetch it by other means and put it at '
                    f'{path}') from None
  except OSError as error:
    raise UserError(f'cannot write {path} ({error}); set VIT_JAX_CACHE to another folder') from None
  return path


def _download(url: str, part: BinaryIO) -> None:
  """Fills `part`; where the connection is cut, asks again for what is missing."""
  failures, received = 0, False
  while True:
    before = _size(part)
    try:
      if _continue(url, part):
        return
      reason = 'the connection was cut'
    except urllib.error.HTTPError as error:
      reason = f'the server answers {error.code} {error.reason}'
      if error.code == 416:  # nothing is missing, or the part is of another file
        if error.headers.get('Content-Range', '').endswith(f'/{before}'):
          return
        part.truncate(0)
      elif error.code < 500 and error.code not in (408, 429):
        raise Refused(reason) from None
    except (urllib.error.URLError, ValueError) as error:  # no network, no such server, no address
      reason = str(getattr(error, 'reason', error))
      if not received:
        raise Refused(reason) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
      reason = str(error) or type(error).__name__
    more = _size(part) > before
    failures, received = 0 if more else failures + 1, received or more
    if failures == ATTEMPTS:
      raise Refused(reason)
    time.sleep(WAIT * 2 ** failures)


def _continue(url: str, part: BinaryIO) -> bool:
  """Asks for what `part` lacks and appends it; returns whether the file is whole."""
  total, version = _version(part)
  start = _size(part) if version else 0
  request = urllib.request.Request(url, headers={'User-Agent': 'vit_jax', 'Accept-Encoding': 'identity'})
  if start:
    request.add_header('Range', f'bytes={start}-')
    request.add_header('If-Range', version)  # another version is sent from its beginning
  with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
    answer = _answer(response)
    if answer.start and (answer.start, answer.total) != (start, total):
      part.truncate(0)
      raise http.client.HTTPException('the file has changed on the server')
    if not answer.start:
      part.truncate(0)
    with open(part.name + '.version', 'w') as file:
      file.write(f'{answer.total}\n{answer.version}')
    with _Progress(url, answer) as progress:
      while chunk := response.read(CHUNK):
        part.write(chunk)
        progress.show(len(chunk))
    part.flush()
    os.fsync(part.fileno())
  return not answer.total or _size(part) == int(answer.total)


def _answer(response: http.client.HTTPResponse) -> Answer:
  headers = response.headers
  version = headers.get('ETag') or headers.get('Last-Modified') or ''
  if version.startswith('W/'):  # weak: of the same meaning, not of the same bytes
    version = ''
  if response.status == 206:  # Content-Range: bytes 100-199/200
    found = re.fullmatch(r'bytes (\d+)-\d+/(\d+)', headers.get('Content-Range', ''))
    if not found:
      raise http.client.HTTPException('the server sends a part without saying which')
    return Answer(int(found[1]), found[2], version)
  return Answer(0, headers.get('Content-Length', ''), version)


def _check(url: str, part: BinaryIO, path: str, sha256: str | None) -> None:
  """Raises UserError, and drops what was downloaded, where it is not the file that was published."""
  if sha256 is None:
    return
  with open(part.name, 'rb') as file:
    found = hashlib.file_digest(file, 'sha256').hexdigest()[:len(sha256)]
  if found != sha256:
    part.truncate(0)
    raise UserError(f'what {url} sent is not the published file: its SHA-256 begins with {found}, not '
                    f'{sha256}; try again, or put the right file at {path}')


def _size(file: BinaryIO) -> int:
  file.flush()
  return os.fstat(file.fileno()).st_size


def _version(part: BinaryIO) -> tuple[str, str]:
  """Returns the total size and the version of the file that `part` is the beginning of."""
  try:
    with open(part.name + '.version') as file:
      total, version = file.read().split('\n')
      return total, version
  except (FileNotFoundError, ValueError):
    return '', ''


def _remove(path: str) -> None:
  with contextlib.suppress(FileNotFoundError):
    os.remove(path)


class _Progress:
  """A line on stderr: rewritten each second on a terminal, else a new one every ten seconds."""

  def __init__(self, url: str, answer: Answer):
    self._name, self._answer = urllib.parse.unquote(url.rpartition('/')[2]), answer
    self._terminal = sys.stderr.isatty()
    self._begin = self._last = time.monotonic()
    self._received = 0

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._write(end='\n')

  def show(self, received: int) -> None:
    """Counts more bytes, and says how many there are if it is time for it."""
    self._received += received
    if time.monotonic() - self._last >= (1. if self._terminal else 10.):
      self._last = time.monotonic()
      self._write(end='' if self._terminal else '\n')

  def _write(self, end: str) -> None:
    speed = self._received / max(time.monotonic() - self._begin, 1e-3)
    done, total = self._answer.start + self._received, self._answer.total
    of = f' of {int(total) / 1e6:,.1f}' if total else ''
    print(f'{chr(13) * self._terminal}{self._name}: {done / 1e6:,.1f}{of} MB, {speed / 1e6:,.1f} MB/s',
          end=end, file=sys.stderr, flush=True)
