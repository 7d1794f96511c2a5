"""Processes that save a checkpoint after every few steps, so that a kill often happens during a save."""

from research.parallel import device_setup
from research.runs import resume


def save_often():
    resume.SAVE_SECONDS = 0.1


def set_up(set_up=device_setup.set_up_process):
    """Set up a process that a comparison trains in."""
    save_often()
    set_up()
