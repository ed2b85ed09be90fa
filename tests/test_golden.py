"""Our numbers equal those of the authors' own code."""

import pytest

from tests import golden
from tests.conftest import golden_files


@pytest.mark.parametrize('path', golden_files(
    'A1_*', 'A2_*', 'A3_*', 'B_deit3_*', 'B_deit_distilled*', 'B_deit_load_*', 'B_deit_losses*',
    'I1_*', 'H1_posemb_resize_*', 'H2_*', 'H3_*', 'H4_lr_schedules_*', 'H5_layer_decay_vit*',
    'F1_*', 'F2_*', 'F3_*', 'F4_*', 'F5_*', 'F6_*'))
def test_golden(path):
  failed = [e for e in golden.errors(path) if not e.passed]
  assert not failed, failed
