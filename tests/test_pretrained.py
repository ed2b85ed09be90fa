"""Published checkpoints: the list, the download over a bad line, and AugReg's index. No network."""

import contextlib
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading

import numpy as np
import pytest

import vit_jax
from vit_jax import models, pretrained, weights
from vit_jax.data.info import Info
from vit_jax.errors import UserError
from vit_jax.pretrained import PRETRAINED, augreg, download

BODY = np.random.default_rng(0).bytes(3_000_000)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
  """Serves one body at any path.

  Attributes:
    body, tag: of the file; `tag` is its ETag, '' for none.
    ranges: whether requests for a range are answered with a part.
    cut, cuts: bytes after which an answer breaks off, and how many answers do.
    says_length: whether the answer has a Content-Length.
    status: of an answer that refuses; None: none does.
    asked: the Range headers, in order.
  """
  body, tag, ranges, cut, cuts, says_length, status = BODY, '"one"', True, 1_300_000, 0, True, None
  daemon_threads = True

  def __init__(self):
    super().__init__(('127.0.0.1', 0), Handler)
    self.asked = []
    self.url = f'http://127.0.0.1:{self.server_address[1]}/models/file.npz'


class Handler(http.server.BaseHTTPRequestHandler):

  def log_message(self, *_):
    pass

  def do_GET(self):
    server, asked = self.server, self.headers.get('Range')
    server.asked.append(asked)
    if server.status:
      return self.send_error(server.status)
    start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1]) if asked else 0
    same = self.headers.get('If-Range') in (None, server.tag)
    start = start if server.ranges and same else 0
    if start and start >= len(server.body):
      self.send_response(416)
      self.send_header('Content-Range', f'bytes */{len(server.body)}')
      return self.end_headers()
    body = server.body[start:]
    self.send_response(206 if start else 200)
    if start:
      self.send_header('Content-Range', f'bytes {start}-{len(server.body) - 1}/{len(server.body)}')
    if server.says_length:
      self.send_header('Content-Length', str(len(body)))
    if server.tag:
      self.send_header('ETag', server.tag)
    self.end_headers()
    server.cuts -= 1
    with contextlib.suppress(ConnectionError):
      self.wfile.write(body[:server.cut] if server.cuts >= 0 else body)


@pytest.fixture
def server(monkeypatch):
  monkeypatch.setattr(download, 'WAIT', .001)
  server = Server()
  threading.Thread(target=server.serve_forever, args=(.01,), daemon=True).start()
  yield server
  server.shutdown()
  server.server_close()


@pytest.fixture
def path(tmp_path):
  return str(tmp_path / 'cache' / 'file.npz')


def content(path):
  with open(path, 'rb') as file:
    return file.read()


def leave_part(path, body):
  """Leaves what an earlier call received, of the server's first version."""
  os.makedirs(os.path.dirname(path))
  with open(path + '.part', 'wb') as file:
    file.write(body)
  with open(path + '.part.version', 'w') as file:
    file.write(f'{len(BODY)}\n"one"')


def test_a_file_is_downloaded_once_and_whole(server, path, capsys):
  assert download.fetch(server.url, path, SHA256) == path
  assert content(path) == BODY
  assert 'file.npz: 3.0 of 3.0 MB' in capsys.readouterr().err
  download.fetch(server.url, path, SHA256)
  assert len(server.asked) == 1
  assert os.listdir(os.path.dirname(path)) == ['file.npz']  # nothing else stays


def test_a_cut_connection_is_resumed_where_it_broke(server, path):
  server.cuts = 2
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY
  assert server.asked == [None, 'bytes=1300000-', 'bytes=2600000-']


def test_a_download_goes_on_in_another_call(server, path, monkeypatch):
  def interrupt(*_):
    raise KeyboardInterrupt

  with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
    patched.setattr(download._Progress, 'show', interrupt)
    download.fetch(server.url, path)
  assert not os.path.exists(path)
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY and server.asked == [None, f'bytes={download.CHUNK}-']


def test_a_server_without_ranges_sends_all_again(server, path):
  server.ranges, server.cuts = False, 2
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY


def test_without_a_version_nothing_is_resumed(server, path):
  server.tag, server.cuts = '', 2
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY and not any(server.asked)


@pytest.mark.parametrize('tag', ['"one"', '"two"'])
def test_a_file_that_grew_in_between_is_not_mixed(server, path, tag):
  """With another ETag the server sends all; with the same, the new length gives it away."""
  leave_part(path, BODY[:1_000_000])
  server.body, server.tag = BODY[::-1] + b'more', tag
  download.fetch(server.url, path)
  assert content(path) == server.body


def test_a_part_that_lacks_nothing_is_taken(server, path):
  leave_part(path, BODY)
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY and server.asked == [f'bytes={len(BODY)}-']


def test_a_part_longer_than_the_file_is_dropped(server, path):
  leave_part(path, BODY + b'more')
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY


def test_a_server_that_does_not_say_the_length(server, path):
  server.says_length = False
  download.fetch(server.url, path, SHA256)
  assert content(path) == BODY


@pytest.mark.parametrize('digits', [8, 64])
def test_a_wrong_checksum_leaves_nothing_behind(server, path, digits):
  wrong = ('0' * 64)[:digits]
  said = f'begins with {SHA256[:digits]}, not {wrong}.*put the right file at'
  with pytest.raises(UserError, match=said):
    download.fetch(server.url, path, wrong)
  assert not os.path.exists(path) and os.path.getsize(path + '.part') == 0
  download.fetch(server.url, path, SHA256[:digits])
  assert content(path) == BODY


@pytest.mark.parametrize('status', [403, 404, 503])
def test_a_refusal_names_the_address_and_the_place(server, path, status):
  server.status = status
  with pytest.raises(UserError) as error:
    download.fetch(server.url, path)
  assert server.url in str(error.value) and f'put it at {path}' in str(error.value)
  assert f'the server answers {status}' in str(error.value)
  assert len(server.asked) == (1 if status < 500 else download.ATTEMPTS)
  assert not os.listdir(os.path.dirname(path))


def test_no_server_at_all(path):
  with pytest.raises(UserError, match='could not be downloaded.*put it at'):
    download.fetch('http://127.0.0.1:9/file.npz', path)


def test_a_connection_that_brings_nothing_is_given_up(server, path):
  server.cut, server.cuts = 0, 99
  with pytest.raises(UserError, match='the connection was cut'):
    download.fetch(server.url, path)
  assert len(server.asked) == download.ATTEMPTS


def test_a_place_that_cannot_be_written_to(server, tmp_path):
  (tmp_path / 'file').write_text('')
  with pytest.raises(UserError, match='cannot write .*VIT_JAX_CACHE'):
    download.fetch(server.url, str(tmp_path / 'file' / 'below.npz'))


def test_threads_that_want_the_same_file_get_one_download(server, path):
  threads = [threading.Thread(target=download.fetch, args=(server.url, path, SHA256)) for _ in range(6)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert content(path) == BODY and len(server.asked) == 1
  assert os.listdir(os.path.dirname(path)) == ['file.npz']


def test_addresses_of_buckets():
  assert download.https('gs://vit_models/imagenet21k+imagenet2012/ViT-B_16.npz') == (
      PRETRAINED['vit_b16.imagenet21k_imagenet1k_384'].url)


def test_the_cache_lies_where_it_is_told(monkeypatch):
  monkeypatch.setenv('VIT_JAX_CACHE', '/c')
  assert pretrained.cache_path('https://a.b/x/R50%2BViT.npz?q=1') == '/c/a.b/x/R50+ViT.npz'
  assert pretrained.cache_path('https://a.b/../../x.npz') == '/c/a.b/x.npz'
  monkeypatch.delenv('VIT_JAX_CACHE')
  monkeypatch.setenv('XDG_CACHE_HOME', '/d')
  assert pretrained.cache_path('gs://b/x.npz') == '/d/vit_jax/weights/storage.googleapis.com/b/x.npz'


def test_the_list_is_sound():
  assert len({known.url for known in PRETRAINED.values()}) == len(PRETRAINED)
  places = {pretrained.cache_path(known.url) for known in PRETRAINED.values()}
  assert len(places) == len(PRETRAINED)
  for name, known in PRETRAINED.items():
    assert name.startswith(known.model + '.') and known.model in models.variants()
    assert known.url.startswith('https://') and known.licence and known.num_classes
    assert known.url.endswith(weights.folders.SUFFIXES)
    assert known.sha256 is None or re.fullmatch('[0-9a-f]{8}|[0-9a-f]{64}', known.sha256), name
    assert (known.accuracy is None) == (known.accuracy_source == '')
    assert known.accuracy is None or 60. < known.accuracy < 95.
    in_name = re.search(r'-([0-9a-f]{8})\.(pth|th)$', known.url)
    assert not in_name or known.sha256.startswith(in_name[1])


def test_every_checkpoint_fits_its_model_at_its_size():
  """The grid of patches exists; a fine-tuned size is not that of the model's table."""
  for known in PRETRAINED.values():
    model = models.create_model(known.model, num_classes=known.num_classes)
    assert not hasattr(model, 'grid') or model.grid(known.image_size)


def test_the_list_by_pattern():
  found = vit_jax.list_pretrained('*b16*')
  assert 'vit_b16.augreg_imagenet21k_imagenet1k_384' in found and 'vit_l16.imagenet21k' not in found
  assert list(found) == sorted(found)
  assert vit_jax.list_pretrained('nothing*') == {}


def test_an_unknown_checkpoint_names_the_nearest():
  with pytest.raises(UserError, match="checkpoint 'vit_b16.imagnet21k'.*'vit_b16.imagenet21k'"):
    vit_jax.load('vit_b16.imagnet21k')
  with pytest.raises(UserError, match='unknown published checkpoint'):
    weights.read('vit_s16.jft')


def put(monkeypatch, tmp_path, name, source):
  """Puts a file where the checkpoint of that name belongs, as its error would say."""
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  path = pretrained.cache_path(PRETRAINED[name].url)
  os.makedirs(os.path.dirname(path))
  os.symlink(source, path)


@pytest.fixture(scope='module')
def resnet20(tmp_path_factory):
  """A file with the shapes of a published one."""
  import jax
  model = models.create_model('resnet20_cifar', num_classes=10)
  variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
  path = str(tmp_path_factory.mktemp('weights') / 'resnet20.safetensors')
  weights.export(path, model, variables, 'torchvision')
  return path


def test_a_name_loads_with_its_own_protocol(monkeypatch, tmp_path, resnet20):
  name = 'resnet20_cifar.cifar10'
  put(monkeypatch, tmp_path, name, resnet20)
  for loaded in (vit_jax.load(name, verbose=False), vit_jax.load('resnet20_cifar', name, verbose=False)):
    rule = PRETRAINED[name].preprocessing
    assert loaded.info.num_classes == 10 and loaded.info.image_size == (32, 32)
    assert (loaded.info.mean, loaded.info.std) == (rule.mean, rule.std)
    assert loaded.info.eval_crop == dict(name='squash')
  same = vit_jax.load('resnet20_cifar', resnet20, verbose=False)
  np.testing.assert_array_equal(loaded.params['head']['kernel'], same.params['head']['kernel'])


def test_the_protocol_is_the_checkpoint_s_and_not_the_variant_s():
  second, known = PRETRAINED['resnet50.imagenet1k_v2'], models.variant('resnet50').preprocessing
  assert second.preprocessing.crop_ratio == 224 / 232 != known.crop_ratio
  info = weights.published._info({}, second.image_size, second.preprocessing)
  assert isinstance(info, Info) and info.eval_crop == dict(name='center', ratio=224 / 232)


def test_a_deit_of_the_list_is_resampled_as_its_authors_do(monkeypatch, tmp_path, capsys):
  """Its file has timm's names, whose rule is another."""
  import jax
  model = models.create_model('deit_ti16', num_classes=1000)
  shapes = weights.init_shapes(model, (224, 224), 3)
  path = str(tmp_path / 'deit.safetensors')
  random = np.random.default_rng(0)
  params = jax.tree.map(lambda x: random.normal(size=x.shape).astype(np.float32), shapes)
  weights.export(path, model, {'params': params}, 'timm')
  put(monkeypatch, tmp_path, 'deit_ti16.imagenet1k', path)
  vit_jax.load('deit_ti16.imagenet1k', image_size=64)
  assert '14x14 -> 4x4 by bicubic\n' in capsys.readouterr().out
  vit_jax.load('deit_ti16', path, image_size=64)
  assert '14x14 -> 4x4 by antialiased_bicubic\n' in capsys.readouterr().out


def test_an_address_loads(server, monkeypatch, tmp_path, resnet20):
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  server.body = content(resnet20)
  url = server.url.replace('.npz', '.safetensors')
  vit_jax.load('resnet20_cifar', url, verbose=False)
  vit_jax.load('resnet20_cifar', url, verbose=False)
  assert len(server.asked) == 1


def test_a_run_starts_from_a_name(monkeypatch, tmp_path, resnet20):
  put(monkeypatch, tmp_path, 'resnet20_cifar.cifar10', resnet20)
  import jax
  model = models.create_model('resnet20_cifar', num_classes=3)
  variables = dict(model.init(jax.random.key(1), np.zeros((1, 32, 32, 3), np.float32)))
  info = Info('', ('a', 'b', 'c'), 3, (32, 32))
  started, report = weights.initialize(model, variables, info, 'resnet20_cifar.cifar10')
  want = weights.read(resnet20).flat['conv_root/kernel']
  np.testing.assert_array_equal(started['params']['conv_root']['kernel'], want)
  assert any('head' in line for line in report.lines())


def test_the_real_files_have_the_digests_of_their_names(shared, monkeypatch, tmp_path):
  path = shared('data/resnet_cifar10/resnet20-12fca82f.th')
  put(monkeypatch, tmp_path, 'resnet20_cifar.cifar10', path)
  assert hashlib.sha256(content(path)).hexdigest() == PRETRAINED['resnet20_cifar.cifar10'].sha256
  assert vit_jax.load('resnet20_cifar.cifar10', verbose=False).info.num_classes == 10


def test_the_command_line(root, tmp_path):
  def run(*arguments):
    return subprocess.run([sys.executable, '-m', 'vit_jax.pretrained', *arguments], cwd=tmp_path,
                          capture_output=True, text=True, env={
                              **os.environ, 'PYTHONPATH': root, 'VIT_JAX_CACHE': str(tmp_path)})
  listed = run('deit_*').stdout
  assert 'deit_b16_distilled_384.imagenet1k' in listed and '85.22' in listed
  shown = run('deit_s16.imagenet1k').stdout
  assert 'SHA-256       cd65a155' in shown and str(tmp_path) in shown and 'bicubic' in shown
  failed = run('deit_s61.imagenet1k')
  assert failed.returncode == 2 and "did you mean 'deit_s16.imagenet1k'" in failed.stderr


COLUMNS = (
    'name', 'ds', 'lr', 'aug', 'wd', 'do', 'sd', 'best_val', 'final_val', 'final_test', 'adapt_ds',
    'adapt_lr', 'adapt_steps', 'adapt_resolution', 'adapt_final_val', 'adapt_final_test', 'params',
    'infer_samples_per_sec', 'filename', 'adapt_filename')


def index(tmp_path, columns=COLUMNS):
  """Writes an index of 48 rows, in the published columns: 12 pre-trained files, each tuned 4 times."""
  path, lines, number = str(tmp_path / 'index.csv'), [','.join(columns)], 0
  for name in ('B/16', 'R26+S/32', 'Ti/16'):
    for ds in ('i21k', 'i1k'):
      for aug, wd in (('none', 0.03), ('light1', 0.1)):
        file = f'{name.replace("/", "_").replace("+", "_")}-{ds}-aug_{aug}-wd_{wd}'
        number += 1
        for adapt_ds in ('imagenet2012', 'cifar100'):
          for size in (224, 384):
            row = dict(name=name, ds=ds, lr=.001, aug=aug, wd=wd, do='0.0', sd='0.0', best_val=.5,
                       final_val='' if name == 'Ti/16' else number / 100, adapt_ds=adapt_ds,
                       adapt_resolution=size, adapt_final_val=number / 100 + size / 1e4, filename=file,
                       adapt_filename=f'{file}--{adapt_ds}-res_{size}')
            lines.append(','.join(str(row.get(column, '')) for column in columns))
  with open(path, 'w') as file:
    file.write('\n'.join(lines) + '\n')
  return path


def test_augreg_gives_each_pre_trained_file_once_best_first(tmp_path):
  found = augreg.query(index(tmp_path), ds='i21k', name=['B/16', 'R26+S/32'])
  assert [row.values['final_val'] for row in found] == ['0.06', '0.05', '0.02', '0.01']
  assert [row.model for row in found] == ['r26_s32', 'r26_s32', 'vit_b16', 'vit_b16']
  assert found[0].url == augreg.FOLDER + 'R26_S_32-i21k-aug_light1-wd_0.1.npz'
  assert len(augreg.query(index(tmp_path))) == 12


def test_augreg_compares_numbers_as_numbers(tmp_path):
  path = index(tmp_path)
  for wd in (.1, '0.1', '.10', [.1, .2]):
    assert {row.values['aug'] for row in augreg.query(path, wd=wd, do=0, sd=0.)} == {'light1'}
  assert augreg.query(path, wd=.2) == []


def test_augreg_finds_what_was_fine_tuned(tmp_path):
  found = augreg.query(index(tmp_path), best='adapt_final_val', name='B/16', adapt_ds='cifar100')
  assert len(found) == 8
  assert found[0].adapted_url == augreg.FOLDER + (
      'B_16-i1k-aug_light1-wd_0.1--cifar100-res_384.npz')
  values = [float(row.values['adapt_final_val']) for row in found]
  assert values == sorted(values, reverse=True)
  assert len(augreg.query(index(tmp_path), name='B/16', adapt_resolution=384, adapt_ds='cifar100')) == 4


def test_augreg_puts_rows_without_a_figure_last(tmp_path):
  assert [row.model for row in augreg.query(index(tmp_path))][-4:] == ['vit_ti16'] * 4


@pytest.mark.parametrize('missing', ['filename', 'name', 'final_val', 'wd'])
def test_augreg_names_a_missing_column(tmp_path, missing):
  path = index(tmp_path, [column for column in COLUMNS if column != missing])
  with pytest.raises(UserError, match=missing):
    augreg.query(path, wd=.1)


def test_augreg_names_an_unknown_condition_and_a_file_that_is_none(tmp_path):
  with pytest.raises(UserError, match="'adapt_resol'.*'adapt_resolution'"):
    augreg.query(index(tmp_path), adapt_resol=384)
  (tmp_path / 'empty.csv').write_text('name,filename\n')
  with pytest.raises(UserError, match='holds no rows'):
    augreg.query(str(tmp_path / 'empty.csv'))
  with pytest.raises(UserError, match='cannot be read'):
    augreg.query(str(tmp_path / 'missing.csv'))


def test_augreg_reads_its_index_from_an_address(server, monkeypatch, tmp_path):
  monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path / 'cache'))
  server.body = content(index(tmp_path))
  url = server.url.replace('.npz', '.csv')
  assert augreg.query(url, name='B/16') == augreg.query(url, name='B/16')
  assert len(server.asked) == 1


def test_every_model_of_augreg_is_one_of_ours():
  for name in ('Ti/16', 'S/32', 'S/16', 'B/32', 'B/16', 'L/16', 'R+Ti/16', 'R26+S/32', 'R50+L/32'):
    row = augreg._row(dict(name=name, filename='x', adapt_filename=''))
    assert row.model in models.variants() and row.adapted_url == ''
