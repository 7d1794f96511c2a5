"""List the known corpora with language, classes, size and origin, and the folder of the cache.

./launch.sh corpora
"""

from experiments import program
from experiments.printing import print_table
from research.data.cache import cache_root, folder_bytes
from research.data.known_corpora import KNOWN


def main() -> None:
    header = ("name", "language", "classes", "texts", "from")
    rows = [(name, known.language, str(known.classes), known.size, known.origin) for name, known in KNOWN.items()]
    print_table("Known corpora; --corpus also takes a path to your own", header, rows)
    root = cache_root()
    print(f"cache: {root}, {folder_bytes(root) / 1e6:,.0f} MB; it can be deleted at any time")


if __name__ == "__main__":
    program.launch(main, trains=None)
