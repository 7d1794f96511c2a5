"""Parquet, Arrow and Feather files, also those that HuggingFace `datasets` writes, whose classes have names."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from research.data.formats.table import OnProgress, Record, Table
from research.data.formats.text_lines import open_bytes
from research.errors import UserError, not_installed

if TYPE_CHECKING:
    import pyarrow

_MAGIC = (b"PAR1", b"ARROW1", b"FEA1")
_STREAM = b"\xff\xff\xff\xff"  # how an Arrow stream begins, as `datasets` saves it


def is_arrow(sample: bytes) -> bool:
    """Return whether a file is Parquet or Arrow, given its first bytes."""
    return sample.startswith((*_MAGIC, _STREAM))


def arrow_table(path: Path, sample: bytes) -> Table:
    """Return the table of a Parquet or Arrow file.

    Raises:
      UserError: pyarrow is not installed, or the file is damaged.
    """
    table = _read(path, sample)
    class_names = _class_names(table.schema)
    columns = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        columns |= _flat(name, column)

    def rows(on_progress: OnProgress) -> Iterator[Record]:
        cells = [column.to_pylist() for column in columns.values()]
        for index, name in enumerate(columns):
            if name in class_names:
                cells[index] = [_named(value, class_names[name]) for value in cells[index]]
        for number, row in enumerate(zip(*cells, strict=True), start=1):
            yield f"{path}:{number}", row
        on_progress(path.stat().st_size if isinstance(path, Path) else 0)

    return Table(tuple(columns), rows, "Parquet" if sample.startswith(b"PAR1") else "Arrow", {})


def _read(path: Path, sample: bytes) -> "pyarrow.Table":
    try:
        import pyarrow
        from pyarrow import feather, parquet
    except ImportError:
        raise not_installed("a Parquet or Arrow file", "pyarrow", "files") from None
    try:
        with open_bytes(path) as file:
            if sample.startswith(b"PAR1"):
                return parquet.read_table(file)
            if sample.startswith(_STREAM):
                return pyarrow.ipc.open_stream(file).read_all()
            return feather.read_table(file)
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}). Is it complete?") from error


def _flat(name: str, column: "pyarrow.ChunkedArray") -> dict[str, Any]:
    """Return a column, or the fields of a column of structures as `outer.inner`."""
    import pyarrow

    if not pyarrow.types.is_struct(column.type):
        return {name: column}
    combined = column.combine_chunks()
    fields = {}
    for index, field in enumerate(column.type):
        fields |= _flat(f"{name}.{field.name}", pyarrow.chunked_array([combined.field(index)]))
    return fields


def _class_names(schema: "pyarrow.Schema") -> dict[str, list[str]]:
    """Return the class names of columns with integers, as HuggingFace `datasets` keeps them."""
    metadata = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        return {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names")
    }


def _named(value: int | None, names: list[str]) -> str | int | None:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
