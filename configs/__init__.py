"""The variants, one file each.

A file has `get_config()` or `get_config(argument)`, which returns a `Config`. It may list:
  ARGUMENTS: the arguments that `--variants=all` takes.
  NAMED_ALONE: arguments that `--variants=all` leaves out, because they take long or name a folder of the user.
  SPACE: the settings that `tune` searches, and their ranges.
"""
