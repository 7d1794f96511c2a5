"""Save a checkpoint every few steps, so that many kills happen while one is written."""

from experiments import devices
from research.runs import resume


def often():
    """Save often in this process."""
    resume.SAVE_SECONDS = 0.1


def set_up(set_up=devices.set_up_process):
    """Set up a worker process that saves often."""
    often()
    set_up()
