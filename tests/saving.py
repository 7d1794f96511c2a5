"""Processes that save a checkpoint after every few steps, so that many kills meet one."""

from experiments import devices
from research.runs import resume as history


def often():
    history.SAVE_SECONDS = 0.1


def set_up(set_up=devices.set_up_process):
    """Of the processes that a comparison trains in."""
    often()
    set_up()
