"""The programs: flags in, library calls, words out. `./launch.sh NAME --help` lists the flags of each."""
