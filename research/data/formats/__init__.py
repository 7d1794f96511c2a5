"""File formats: from the bytes of a user's file to rows of cells. `research.data.reader` is the only caller."""
