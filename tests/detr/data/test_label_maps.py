"""Folders of images and label PNGs: what is read, and what is refused with file and value."""

import io

import numpy as np
import pytest
from PIL import Image

from detr_jax.data import label_checking, maps
from detr_jax.data.config import segmentation_data
from detr_jax.data.sources import digit_maps, label_maps
from detr_jax.data.sources.digit_maps import DigitMaps
from detr_jax.data.sources.label_maps import LabelMaps
from tests.data.test_tfds import feature, prepare
from vit_jax.data import __main__ as data_command
from vit_jax.errors import UserError

SIZE = 12, 16
LABELS = np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8)


def folder(tmp_path, legend='sky\nroad\ncar\n', labels='labels', mode='L', values=LABELS, size=SIZE):
  """Writes a folder with one pair."""
  for name in ('images', labels):
    (tmp_path / name / 'train').mkdir(parents=True)
  Image.fromarray(np.zeros((*size, 3), np.uint8)).save(tmp_path / 'images' / 'train' / 'a.jpg')
  image = Image.fromarray(values)
  if mode == 'P':
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
  image.save(tmp_path / labels / 'train' / 'a.png')
  (tmp_path / 'classes.txt').write_text(legend)
  return str(tmp_path)


def read(root, **options):
  return LabelMaps(root, **options).split('train').read(0).labels(SIZE)


def test_ids_gray_and_palette_are_read(tmp_path):
  root = folder(tmp_path)
  np.testing.assert_array_equal(read(root), LABELS)
  split = LabelMaps(root).split('train')
  assert split.sizes.tolist() == [[*SIZE]] and split.read(0).image().size == SIZE[::-1]


def test_a_palette_without_a_legend_of_colours_is_ids(tmp_path):
  np.testing.assert_array_equal(read(folder(tmp_path, labels='annotations', mode='P')), LABELS)


@pytest.mark.parametrize('mode', ['RGB', 'P'])
def test_colours_are_read_by_the_legend(tmp_path, mode):
  legend = '40 50 60 road\n10 20 30 sky\n70,80,90 car\n'
  colours = np.asarray([[10, 20, 30], [40, 50, 60], [70, 80, 90]], np.uint8)
  values = LABELS if mode == 'P' else colours[LABELS]
  np.testing.assert_array_equal(read(folder(tmp_path, legend, mode=mode, values=values)),
                                np.asarray([1, 0, 2])[LABELS])
  assert LabelMaps(str(tmp_path)).classes == ('road', 'sky', 'car')


def test_zero_and_other_ids_may_count_nowhere(tmp_path):
  root = folder(tmp_path, legend='road\ncar\n')
  np.testing.assert_array_equal(read(root, zero_ignored=True), np.where(LABELS, LABELS - 1, 255))
  np.testing.assert_array_equal(read(root, ignore=(2,)), np.where(LABELS == 2, 255, LABELS))


@pytest.mark.parametrize('change, said', [
    (dict(legend='sky\nroad\n'), 'a.png has the id 2, which is none of the 2 classes'),
    (dict(values=np.zeros((*SIZE, 3), np.uint8) + 9), 'a.png holds colours, but .* gives none'),
    (dict(values=np.zeros((*SIZE, 3), np.uint8) + 9, legend='1 2 3 sky'),
     r'a.png has the colour \[9, 9, 9\], which no class'),
    (dict(size=(12, 17)), 'a.png are 12x16, their image is 12x17')])
def test_what_does_not_fit_is_told_with_file_and_value(tmp_path, change, said):
  root = folder(tmp_path, **change)
  example = LabelMaps(root).split('train').read(0)
  with pytest.raises(UserError, match=said):
    example.labels(example.image().size[::-1])
  with pytest.raises(UserError, match='1 error'):
    data_command.main(['--check', root])


@pytest.mark.parametrize('legend, said', [
    ('', 'must name a class a line'), ('1 2 3 sky\nroad', 'all with a colour'),
    ('1 2 3 sky\n1 2 3 road', 'colours must differ')])
def test_a_legend_that_is_unclear_is_told(tmp_path, legend, said):
  with pytest.raises(UserError, match=said):
    LabelMaps(folder(tmp_path, legend))


def test_an_image_without_labels_is_told(tmp_path, capsys):
  root = folder(tmp_path)
  Image.new('RGB', (4, 4)).save(tmp_path / 'images' / 'train' / 'b.jpg')
  with pytest.raises(UserError, match='1 image.* have no labels, such as .*b.jpg'):
    LabelMaps(root).split('train')
  with pytest.raises(UserError, match='1 error'):
    data_command.main(['--check', root])
  assert 'b.jpg has no labels' in capsys.readouterr().out


def test_what_is_a_folder_of_label_maps(tmp_path):
  root = folder(tmp_path / 'maps')
  assert label_maps.holds(root)
  (tmp_path / 'maps' / 'classes.txt').unlink()  # what it lacks is told
  with pytest.raises(UserError, match='the classes cannot be read from .*write a line for each'):
    data_command.main(['--check', root])
  for name in ('images', 'labels', 'annotations'):
    (tmp_path / 'boxes' / name / 'train').mkdir(parents=True)
  (tmp_path / 'boxes' / 'labels' / 'train' / 'a.txt').write_text('0 .5 .5 .1 .1')
  (tmp_path / 'boxes' / 'annotations' / 'panoptic_train.json').write_text('{}')
  Image.fromarray(LABELS).save(tmp_path / 'boxes' / 'annotations' / 'train' / 'a.png')
  assert not label_maps.holds(str(tmp_path / 'boxes'))


def test_the_check_tells_the_share_of_each_class(tmp_path, capsys):
  data_command.main(['--check', folder(tmp_path)])
  share = (LABELS == 1).mean()
  assert f'road {share:.2%}' in capsys.readouterr().out


def test_digits_lie_where_their_ink_is():
  example = DigitMaps().split('test').read(0)
  labels = example.labels((64, 64))
  there = set(np.unique(labels).tolist()) - {digit_maps.BACKGROUND}
  assert there and there <= set(range(10))
  pixels = example.content[..., 0]
  behind = labels == digit_maps.BACKGROUND
  assert pixels[~behind].mean() > 5 * pixels[behind].mean()


def looked(tmp_path, ignore=(), on_error='raise', **how):
  source = LabelMaps(folder(tmp_path, **how), ignore=ignore)
  return label_checking.look(source.split('train'), 'train', source.classes, on_error)


def test_label_maps_are_looked_at_before_a_run_starts(tmp_path):
  ids = np.resize(np.arange(3), SIZE).astype(np.uint8)
  assert looked(tmp_path / 'a', values=ids) == []
  assert looked(tmp_path / 'b', values=ids * 0) == ['no pixel is of road, car']
  with pytest.raises(UserError, match="no pixel of the first 1 label maps of 'train' counts"):
    looked(tmp_path / 'c', values=ids * 0, ignore=(0,), legend='sky\n')
  with pytest.raises(UserError, match='a.png has the id 2'):
    looked(tmp_path / 'd', values=ids, legend='sky\nroad\n')
  with pytest.raises(UserError, match='no pixel of the first 1'):
    looked(tmp_path / 'e', values=ids, legend='sky\nroad\n', on_error='skip')


def test_masks_of_black_and_white_are_told_and_read_by_a_legend(tmp_path):
  values = np.resize(np.uint8([0, 255]), SIZE)
  notes = looked(tmp_path / 'a', values=values, legend='ground\nthing\n')
  assert notes[0] == 'no pixel is of thing' and '255 255 255 thing' in notes[1]
  root = folder(tmp_path / 'b', values=values, legend='0 0 0 ground\n255 255 255 thing\n')
  np.testing.assert_array_equal(LabelMaps(root).split('train').read(0).labels(SIZE), values // 255)


def test_tfds_data_with_label_maps(tmp_path):
  def record(i):
    return dict(image=[png(np.full((8, 10 + i, 3), i, np.uint8))],
                annotation=[png(np.full((8, 10 + i), i % 3, np.uint8))])

  features = dict(image=feature('Image', dtype='uint8', encodingFormat='png', shape=dict(
      dimensions=['-1', '-1', '3'])), annotation=feature('Image', dtype='uint8', encodingFormat='png',
                                                         shape=dict(dimensions=['-1', '-1', '1'])))
  prepare(str(tmp_path), 'scenes', dict(train=[2, 2], test=[1]), features, record, supervised=())
  config = segmentation_data('scenes', 1, (8, 8), data_dir=str(tmp_path), num_classes=2,
                             zero_ignored=True)
  split = maps.open_source(config).split('train[1:]')
  assert split.sizes.tolist() == [[8, 11], [8, 12], [8, 13]]
  assert [int(split.read(i).labels((8, 11 + i))[0, 0]) for i in range(3)] == [0, 1, 255]
  config.num_classes = 0
  with pytest.raises(UserError, match='TFDS does not tell how many classes .* set data.num_classes'):
    maps.open_source(config)
  config.update(source='nothing', num_classes=2)
  with pytest.raises(UserError, match="'nothing' is neither a built-in name.*tfds build nothing"):
    maps.open_source(config)


def test_the_layouts_of_cityscapes_and_of_pascal_context(tmp_path):
  size, values = (4, 6), np.full((4, 6), 18, np.uint8)
  city, context = tmp_path / 'city', tmp_path / 'VOC2010'
  stored = [(city, 'leftImg8bit/val/ulm/ulm_0_1_leftImg8bit.png',
             'gtFine/val/ulm/ulm_0_1_gtFine_labelTrainIds.png'),
            (context, 'JPEGImages/2008_1.jpg', 'SegmentationClassContext/2008_1.png'),
            (context, 'JPEGImages/2008_2.jpg', 'SegmentationClassContext/2008_2.png')]
  for root, image, label in stored:
    for path, pixels in (root / image, np.zeros((*size, 3), np.uint8)), (root / label, values):
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.fromarray(pixels).save(path)
  lists = context / 'ImageSets' / 'SegmentationContext'
  lists.mkdir(parents=True)
  (lists / 'val.txt').write_text('2008_2\n')
  (lists / 'train.txt').write_text('2008_1\n2008_9\n')
  for root, count, name in (city, 19, 'bicycle'), (context, 60, 'cloth'):
    source = LabelMaps(str(root))
    split = source.split('val')
    assert label_maps.holds(str(root)) and len(source.classes) == count and source.classes[18] == name
    assert len(split) == 1 and (split.read(0).labels(size) == 18).all()
  assert label_maps.splits(str(context)) == ['train', 'val']
  with pytest.raises(UserError, match='1 image.* no labels, such as .*2008_9.jpg'):
    source.split('train')
  with pytest.raises(UserError, match="no split 'test'; it has train, val"):
    source.split('test')


def png(pixels):
  file = io.BytesIO()
  Image.fromarray(pixels).save(file, 'PNG')
  return file.getvalue()
