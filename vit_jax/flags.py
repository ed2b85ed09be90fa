"""What command lines share."""

from vit_jax import errors


def split_overrides(argv: list[str]) -> tuple[list[str], dict[str, str]]:
  """Separates `--config.KEY=VALUE` and `--config.KEY VALUE` from the other flags."""
  rest, overrides = [], {}
  words = iter(argv)
  for word in words:
    if word.startswith('--config.'):
      key, equals, value = word.removeprefix('--config.').partition('=')
      value = value if equals else next(words, None)
      if value is None:
        raise errors.UserError(f'--config.{key} needs a value')
      overrides[key] = value
    else:
      rest.append(word)
  return rest, overrides
