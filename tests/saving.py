"""Processes that save a checkpoint after every few steps, so that a kill often happens during a save."""

from experiments import devices
from research.runs import resume


def save_often():
    resume.SAVE_SECONDS = 0.1


def set_up(set_up=devices.set_up_process):
    """Set up a process that a comparison trains in."""
    save_often()
    set_up()
