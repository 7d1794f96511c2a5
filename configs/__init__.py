"""The variants: `get_config()` or `get_config(argument)` returns a `Config`; `ARGUMENTS` lists the arguments."""
