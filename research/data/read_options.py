"""How a user's file is to be read: what its flags say, and nothing where the file itself tells."""

from typing import NamedTuple

SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|", "space": " "}
HEADERS = ("auto", "yes", "no")


class ReadOptions(NamedTuple):
    """The flags that say how to read a file. An empty string means that the file itself tells.

    Columns are given by name or by number, from 1. `row.text` is a field within a field of JSON. A split never
    separates texts of one (optional) `group`.
    """

    text: str = ""  # several columns are joined by commas: "title,description"
    label: str = ""
    group: str = ""
    encoding: str = ""  # UTF-8 or, with a byte-order mark, UTF-16
    header: str = "auto"  # one of `HEADERS`
    drop_missing: bool = False  # whether rows without a text or a label are left out
    separator: str = ""  # one of `SEPARATORS`

    def flags(self) -> list[str]:
        """Return the flags that say the same, as arguments of a program."""
        values = {"text_column": self.text, "label_column": self.label, "group_column": self.group}
        values |= {"encoding": self.encoding, "separator": self.separator}
        flags = [f"--{name}={value}" for name, value in values.items() if value]
        flags += [f"--header={self.header}"] if self.header != "auto" else []
        return [*flags, "--drop_missing"] if self.drop_missing else flags


FIELDS = ReadOptions._fields  # what `load` takes as arguments
